# Copyright 2026 The vla_driver authors
# SPDX-License-Identifier: Apache-2.0
"""What the language model leaves out changes nothing that is read."""

from collections.abc import Callable

import torch

from vla_driver.model.native.vla import VlaModel


def test_the_last_layer_works_for_the_queries_alone(small_model: Callable[..., VlaModel]) -> None:
    language = small_model().language.eval()
    torch.manual_seed(0)
    x = torch.randn(2, 23, language.norm.weight.shape[0])
    with torch.no_grad():
        prefix = language.prefill(x, 3)
        for layer, keys, values in zip(language.layers, prefix.keys, prefix.values, strict=True):
            x, k, v = layer(x)
            assert torch.equal(keys, k)
            assert torch.equal(values, v)
        torch.testing.assert_close(prefix.scene, language.norm(x[:, -3:]), atol=1e-5, rtol=1e-5)
