"""I-ViT's modules store all that decides their outputs, at the widths that accounting counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from i_vit_models import SIZE, W8A8, batches, job, short_swin, short_vit, swin, vit
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.i_vit import method as i_vit
from vitq.methods.i_vit.names import OPERATORS
from vitq.methods.i_vit.nodes import packed_rows
from vitq.methods.toolkit.stored import Codes, HasOperands, HasPacked, HasState, State

VARIANTS: list[dict[str, Any]] = [
    {},
    {"softmax": "polynomial", "gelu": "polynomial"},
    {"softmax": "log_int", "layernorm": "l1", "rounding": "floor"},
    {"softmax_bits": 16},
]


def stored(model: nn.Module) -> dict[str, State]:
    """What every module stores, by path; nothing outside them may hold a tensor that lasts."""
    states = {path: m.stored_state() for path, m in model.named_modules() if isinstance(m, HasState)}
    for path, module in model.named_modules():
        inside = any(path == p or path.startswith(f"{p}.") for p in states)
        held = [*module._parameters, *(n for n in module._buffers if n not in module._non_persistent_buffers_set)]
        assert inside or not held, f"{path} holds {held} and does not store it"
    return states


def written(states: dict[str, State]) -> dict[str, dict[str, Tensor]]:
    """As a file would hand them out: codes checked against their width, as int32."""
    out: dict[str, dict[str, Tensor]] = {}
    for path, state in states.items():
        out[path] = {}
        for name, value in state.items():
            if isinstance(value, Codes):
                low = -(2 ** (value.bits - 1)) if value.signed else 0
                assert int(value.codes.min()) >= low
                assert int(value.codes.max()) < low + 2**value.bits
                out[path][name] = value.codes.to(torch.int32).clone()
            else:
                out[path][name] = value.clone()
    return out


def restored(make: Any, options: i_vit.Options, done: Quantized) -> nn.Module:
    torch.manual_seed(99)
    fresh = make()
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.normal_()
        next(fresh.parameters()).fill_(float("nan"))  # weights of the architecture do not matter
    model = i_vit.restore(fresh, Bits(8, 8), options, json.loads(json.dumps(done.facts)))
    states = written(stored(done.model))
    for path, module in model.named_modules():
        if isinstance(module, HasState):
            module.restore_state(states.pop(path))
    assert not states
    return model.eval()


def same_again(make: Any, options: i_vit.Options, folder: Path) -> Quantized:
    done = i_vit.quantize(job(make(), folder), W8A8, options)
    again = restored(make, options, done)
    images = batches(1, 8, seed=3)[0][0]
    with torch.no_grad():
        assert torch.equal(again(images), done.model(images))
    first, second = written(stored(done.model)), written(stored(again))
    assert all(torch.equal(t, second[p][n]) for p, state in first.items() for n, t in state.items())
    return done


@pytest.mark.parametrize("make", [short_vit, short_swin])
@pytest.mark.parametrize("arithmetic", ["paper", "release"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_restored_model_gives_the_same_logits_bit_for_bit(
    make: Any, arithmetic: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    same_again(make, i_vit.Options(arithmetic=arithmetic, epochs=0, **variant), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [vit, swin])
@pytest.mark.parametrize("arithmetic", ["paper", "release"])
def test_a_trained_model_too(make: Any, arithmetic: str, tmp_path: Path) -> None:
    same_again(make, i_vit.Options(arithmetic=arithmetic, epochs=1, lr=1e-4), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [short_vit, short_swin])
@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_of_the_paper_within_release_too(make: Any, operator: str, tmp_path: Path) -> None:
    same_again(make, i_vit.Options(arithmetic="release", epochs=0, paper_operators=(operator,)), tmp_path)


@pytest.mark.parametrize("make", [short_vit, short_swin])
@pytest.mark.parametrize("arithmetic", ["paper", "release"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_prepared_counts_what_the_finished_model_stores(
    make: Any, arithmetic: str, variant: dict[str, Any], tmp_path: Path
) -> None:
    options = i_vit.Options(arithmetic=arithmetic, epochs=0, **variant)  # type: ignore[arg-type]
    done = i_vit.quantize(job(make(), tmp_path), W8A8, options).model
    with torch.device("meta"):
        prepared = i_vit.prepare(make(), Bits(8, 8), options)
    rows = [
        {p: sorted(m.packed_tensors()) for p, m in model.named_modules() if isinstance(m, HasPacked)}
        for model in (prepared, done)
    ]
    for path, found in rows[1].items():
        held = done.get_submodule(path)
        assert isinstance(held, HasState)
        assert sum(r.numel * r.bits for r in found) == sum(
            r.numel * r.bits for r in packed_rows(held.stored_state())
        ), path
    sizes = [{p: sum(r.numel * r.bits for r in found) for p, found in one.items() if found} for one in rows]
    assert sizes[0] == sizes[1]
    widths = [
        {p: m.operand_bits() for p, m in model.named_modules() if isinstance(m, HasOperands)}
        for model in (prepared, done)
    ]
    assert widths[0] == widths[1]


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    done = i_vit.quantize(job(short_vit(), tmp_path), W8A8, i_vit.Options(epochs=0))
    wider = i_vit.restore(vit(embed_dim=48, depth=1), Bits(8, 8), i_vit.Options(epochs=0), done.facts)
    state = written(stored(done.model))["head"]
    with pytest.raises(ValueError, match="shape"):
        wider.head.restore_state(state)  # type: ignore[operator, union-attr]
    with pytest.raises(KeyError, match="weight"):
        wider.head.restore_state({})  # type: ignore[operator, union-attr]


def test_a_range_that_was_never_observed_cannot_be_stored() -> None:
    prepared = i_vit.prepare(short_vit(), Bits(8, 8), i_vit.Options(arithmetic="release"))
    with pytest.raises(MethodInputError, match="never observed"):
        prepared.input.stored_state()  # type: ignore[operator]


@pytest.mark.parametrize("arithmetic", ["paper", "release"])
def test_what_was_never_filled_or_calibrated_does_not_compute(arithmetic: Any, tmp_path: Path) -> None:
    options = i_vit.Options(arithmetic=arithmetic, epochs=0)
    images = batches(1, 2)[0][0]
    for model in (
        i_vit.prepare(short_vit(), Bits(8, 8), options).eval(),
        i_vit.restore(short_vit(), Bits(8, 8), options, {"size": list(SIZE)}),
    ):
        with pytest.raises(MethodInputError, match="fill"):
            model(images)
    done = i_vit.quantize(job(short_vit(), tmp_path), W8A8, options)
    half = i_vit.restore(short_vit(), Bits(8, 8), options, done.facts)
    for path, state in list(written(stored(done.model)).items())[:-3]:
        half.get_submodule(path).restore_state(state)  # type: ignore[operator]
    with pytest.raises(MethodInputError, match="fill"):
        half(images)


def test_an_image_size_is_the_one_fact_beside_options(tmp_path: Path) -> None:
    done = i_vit.quantize(job(short_vit(), tmp_path), W8A8, i_vit.Options(epochs=0))
    assert done.facts == {"size": list(SIZE)}
    assert done.files == {}
