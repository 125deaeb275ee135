#!/usr/bin/env bash
# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
#
# peft 0.21.2 with transformers 5.23.0 leaves a LoRA adapter of Qwen2.5-VL out when its weights carry the names of
# transformers before 4.52 (model.layers.N instead of model.language_model.layers.N), as published adapters do.
# PeftModel.from_pretrained warns of missing keys; the model that it returns answers exactly like the base model.
# transformers itself reads full checkpoints of both layouts.
#
# Seen (November 2026, Python 3.11, x86-64):
#   today's names: the adapter changes the answer by more than 0.01: True
#   older names: the adapter changes the answer by more than 0.01: False
# Fails if either line changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 peft==0.21.2 safetensors==0.8.0 numpy==2.4.6 2>"$work/pip.txt" ||
  { cat "$work/pip.txt" >&2; exit 1; }
cat >"$work/adapters.py" <<'PY'
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration


def base():
    torch.manual_seed(0)
    text = {
        'hidden_size': 32, 'intermediate_size': 64, 'num_hidden_layers': 2, 'num_attention_heads': 4,
        'num_key_value_heads': 2, 'vocab_size': 64,
        'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e4, 'mrope_section': [1, 1, 2]},
    }
    vision = {'depth': 1, 'hidden_size': 32, 'intermediate_size': 64, 'num_heads': 4, 'out_hidden_size': 32}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()


words = torch.arange(12)[None]
folder = Path(sys.argv[1])
model = get_peft_model(base(), LoraConfig(r=4, target_modules=['q_proj', 'v_proj']))
for name, weight in model.named_parameters():
    if 'lora_B' in name:
        torch.nn.init.normal_(weight)  # as if it had been trained
model.save_pretrained(folder)
with torch.no_grad():
    plain = base()(input_ids=words).logits
    for names in ("today's", 'older'):
        if names == 'older':
            file = folder / 'adapter_model.safetensors'
            renamed = {key.replace('.language_model.', '.'): value for key, value in load_file(file).items()}
            save_file(renamed, file, {'format': 'pt'})
        adapted = PeftModel.from_pretrained(base(), folder).eval()(input_ids=words).logits
        changes = bool((adapted - plain).abs().max() > 0.01)
        print(f'{names} names: the adapter changes the answer by more than 0.01: {changes}')
PY
env -i PATH="$PATH" HOME="$work" HF_HUB_OFFLINE=1 "$work/env/bin/python" "$work/adapters.py" "$work/adapter" \
  2>"$work/said.txt" | tee "$work/seen.txt" || { cat "$work/said.txt" >&2; exit 1; }
diff <(printf '%s\n' "today's names: the adapter changes the answer by more than 0.01: True" \
  'older names: the adapter changes the answer by more than 0.01: False') "$work/seen.txt"
