from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from quant_action.errors import EngineError
from quant_action.scorer.reconstruction import LayerError, check_layers, rounded
from tests.unit.scoring import llama, silent

IDS = torch.arange(16)[None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    llama(seed=0).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def errors_of(model: Any, base: Path, *, bits: int = 4) -> list[LayerError]:
    with torch.inference_mode():
        return check_layers(model.model, base, IDS, bits=bits, group_size=-1, dtype=torch.float32, device="cpu", progress=silent)


def round_linears(model: Any, *, bits: int) -> Any:
    for layer in model.model.layers:
        for module in layer.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = rounded(module.weight.data, bits=bits, group_size=-1)
    return model


def test_a_group_is_rounded_to_evenly_spaced_values_from_its_least_to_its_largest() -> None:
    weight = torch.tensor([[-1.0, 2.0, 0.1, 0.9]])
    torch.testing.assert_close(rounded(weight, bits=2, group_size=2), torch.tensor([[-1.0, 2.0, 0.0, 0.9]]))
    assert len(rounded(torch.randn(1, 64), bits=3, group_size=-1).unique()) <= 8


def test_the_original_itself_has_no_error(base: Path) -> None:
    assert [error.candidate for error in errors_of(llama(seed=0), base)] == [0.0, 0.0]


def test_plainly_rounded_layers_are_off_by_just_what_rounding_costs(base: Path) -> None:
    errors = errors_of(round_linears(llama(seed=0), bits=4), base)
    assert [error.layer for error in errors] == ["model.layers.0", "model.layers.1"]
    assert all(error.candidate == pytest.approx(error.rounding, rel=1e-5) for error in errors)
    assert all(0.01 < error.candidate < 0.5 for error in errors)


def test_more_bits_are_held_to_the_error_of_four(base: Path) -> None:
    assert errors_of(round_linears(llama(seed=0), bits=4), base, bits=8)[0].rounding == errors_of(llama(seed=0), base, bits=4)[0].rounding


def test_scales_that_were_moved_to_one_side_only_name_the_layer(base: Path) -> None:
    model = llama(seed=0)
    model.model.layers[1].input_layernorm.weight.data *= 3
    model.model.layers[1].post_attention_layernorm.weight.data *= 3
    with pytest.raises(EngineError, match=r"model\.layers\.1: its output is off by .* where plain rounding to 4 bits is off by"):
        errors_of(model, base)


def test_a_layer_that_gives_no_numbers_is_refused(base: Path) -> None:
    model = llama(seed=0)
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(EngineError, match=r"model\.layers\.0: its output is off by nan"):
        errors_of(model, base)


def test_another_model_is_refused(base: Path) -> None:
    with pytest.raises(EngineError, match="does not compute the layer that it was made from"):
        errors_of(llama(seed=1), base)
