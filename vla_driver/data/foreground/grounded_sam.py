# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""Foreground masks of any picture: Grounding DINO finds what is named, SAM outlines it ("Grounded-SAM").

Grounding DINO (arXiv 2303.05499) and SAM (arXiv 2304.02643) run through transformers, from local folders only.
FastDriveVLA (arXiv 2507.23318) made nuScenes-FG this way; its words and thresholds are not published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from vla_driver.data.foreground.masks import Foreground, Mask
from vla_driver.model.checkpoint import weight_files
from vla_driver.model.files import read_headers, read_json
from vla_driver.model.quantised import refuse_quantised
from vla_driver.types import Image, InvalidInput

#: What Grounding DINO is asked for.
PHRASES = {
    Foreground.HUMAN: ('person',),
    Foreground.ROAD: ('road',),
    Foreground.VEHICLE: ('car', 'truck', 'bus', 'trailer', 'motorcycle', 'bicycle'),
    Foreground.SIGN: ('traffic sign', 'traffic light'),
    Foreground.BARRIER: ('barrier', 'traffic cone'),
}
#: Where masks overlap, the later one stays: what is small lies on what is large.
_PAINTED = (Foreground.ROAD, Foreground.BARRIER, Foreground.VEHICLE, Foreground.SIGN, Foreground.HUMAN)
_BOXES_AT_ONCE = 32


class GroundedSam:
    """Pictures to masks."""

    def __init__(self, detector: Path, segmenter: Path, *, threshold: float = 0.3, device: torch.device | str = 'cpu'):
        """Load both from their folders; threshold: least score of a detected box.

        Raises `InvalidInput` for a folder that holds another kind of model, or pickles.
        """
        if not 0.0 < threshold < 1.0:
            raise InvalidInput(f'box threshold {threshold}; allowed: above 0, below 1')
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor, SamModel, SamProcessor

        _check_folder(detector, 'grounding-dino', 'Grounding DINO')
        _check_folder(segmenter, 'sam', 'SAM')
        self._device, self._threshold = torch.device(device), threshold
        self._dino_processor = _load(GroundingDinoProcessor, detector)
        self._dino = _load(GroundingDinoForObjectDetection, detector, use_safetensors=True).eval().to(self._device)
        self._sam_processor = _load(SamProcessor, segmenter)
        self._sam = _load(SamModel, segmenter, use_safetensors=True).eval().to(self._device)
        self._kinds = [(kind, phrase) for kind, phrases in PHRASES.items() for phrase in phrases]
        self._text = ''.join(f'{phrase}. ' for _, phrase in self._kinds).strip()
        self._spans = self._find_spans()

    def _find_spans(self) -> list[list[int]]:
        """Return where the words of each phrase stand in the text's tokens."""
        tokenizer = self._dino_processor.tokenizer
        ids = tokenizer(self._text)['input_ids']
        dot, special = tokenizer.convert_tokens_to_ids('.'), set(tokenizer.all_special_ids)
        spans: list[list[int]] = [[]]
        for place, token in enumerate(ids):
            if token == dot:
                spans.append([])
            elif token not in special:
                spans[-1].append(place)
        found = [span for span in spans if span]
        if len(found) != len(self._kinds):
            raise InvalidInput(
                f"the detector's tokenizer does not know the words of {self._text!r}: {len(found)} phrases come out "
                f'of {len(self._kinds)}; use the tokenizer that the checkpoint was published with'
            )
        return found

    @torch.inference_mode()
    def detect(self, image: Image) -> list[tuple[Foreground, npt.NDArray[np.float32]]]:
        """Return what was found in `image` [H, W, 3] RGB: class and box [4] (x0, y0, x1, y1) in pixels.

        A box is of the phrase whose best word scores highest: the phrases as the processor would put them
        together could mix ("car truck").
        """
        inputs = self._dino_processor(images=image, text=self._text, return_tensors='pt').to(self._device)
        out = self._dino(**inputs)
        words = out.logits[0].float().sigmoid()
        scores = torch.stack([words[:, span].amax(dim=1) for span in self._spans], dim=1)
        best, phrase = scores.max(dim=1)
        height, width = image.shape[:2]
        boxes = _corners(out.pred_boxes[0].float()) * torch.tensor([width, height, width, height], device=best.device)
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        real = (best > self._threshold) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return [(self._kinds[int(p)][0], box.cpu().numpy()) for p, box in zip(phrase[real], boxes[real], strict=True)]

    @torch.inference_mode()
    def segment(self, image: Image, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return a mask [n, H, W] for each box [n, 4]."""
        inputs = self._sam_processor(images=image, return_tensors='pt').to(self._device)
        embeddings = self._sam.get_image_embeddings(inputs['pixel_values'])
        parts = []
        for first in range(0, len(boxes), _BOXES_AT_ONCE):
            some = boxes[first : first + _BOXES_AT_ONCE].tolist()
            prompt = self._sam_processor(images=image, input_boxes=[some], return_tensors='pt')
            out = self._sam(
                image_embeddings=embeddings,
                input_boxes=prompt['input_boxes'].float().to(self._device),
                multimask_output=False,
            )
            sizes = prompt['original_sizes'], prompt['reshaped_input_sizes']
            masks = self._sam_processor.post_process_masks(out.pred_masks.float().cpu(), *sizes)
            parts.append(masks[0][:, 0].numpy())
        return np.concatenate(parts)

    def __call__(self, image: Image) -> Mask:
        """Return the mask [H, W] of `image` [H, W, 3] RGB (values of Foreground)."""
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        found = self.detect(image)
        if not found:
            return mask
        outlines = self.segment(image, np.stack([box for _, box in found]))
        for kind in _PAINTED:
            for (what, _), outline in zip(found, outlines, strict=True):
                if what == kind:
                    mask[outline] = kind
        return mask


def _corners(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) to (x0, y0, x1, y1), [n, 4]."""
    centre, size = boxes[:, :2], boxes[:, 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _check_folder(folder: Path, kind: str, name: str) -> None:
    config = folder / 'config.json'
    if not config.is_file():
        raise InvalidInput(f'{folder} holds no config.json; give the local folder of a {name} checkpoint')
    entries = read_json(config)
    there = entries.get('model_type')
    if there != kind:
        raise InvalidInput(f'{folder} holds a {there!r} model, expected {kind!r} ({name})')
    if not any(folder.glob('*.safetensors')):
        raise InvalidInput(f'{folder} holds no *.safetensors; pickled weights are refused')
    refuse_quantised(config, entries, read_headers(weight_files(folder)))


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise InvalidInput(f'{folder}: {kind.__name__} does not load: {error}') from error
