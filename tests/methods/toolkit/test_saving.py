"""Every quantized model is a file: saved, loaded in a fresh process, the same bits; sizes; plain state_dicts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from counting import account
from quantized import CASES, Case, header, images, loaded, quantize
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import vitq
from vitq.benchmarks.measure.sizes import stored_tensors
from vitq.errors import MethodInputError
from vitq.methods import registry
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QConv2d, QLinear
from vitq.methods.toolkit.modules import named_quantizers
from vitq.saved import load_quantized

FRESH = """
import sys
import torch
from safetensors.torch import load_file, save_file
import vitq

folder = sys.argv[1]
for case in sys.argv[2:]:
    inputs, found = load_file(f"{folder}/{case}.inputs"), {}
    torch.manual_seed(0)
    model = vitq.load(f"{folder}/{case}.safetensors")
    with torch.inference_mode():
        for name, x in inputs.items():
            threads = int(name.split()[1])
            torch.set_num_threads(threads)
            found[name] = torch.cat([model(part) for part in x.split(1 if "1s" in name else len(x))])
    save_file(found, f"{folder}/{case}.logits")
"""
INPUTS = {"batch5 1": slice(0, 5), "batch1s 1": slice(0, 5), "batch5 2": slice(0, 5)}
"""Name and threads of what a fresh process computes: which of five images."""
MEDIAN, MOST = 1e-5, 0.05
"""Relative difference of an image's logits with other threads or batches: sums in another order; and where one of them
moves an activation over a rounding boundary, what a step of that activation makes."""


class Made(NamedTuple):
    """A quantized model, its file, its logits here and those of a fresh process."""

    case: Case
    done: Quantized
    file: saving.SavedFile
    here: dict[str, Tensor]
    fresh: dict[str, Tensor]


def _logits(model: nn.Module, case: Case) -> dict[str, Tensor]:
    found, before, x = {}, torch.get_num_threads(), images(case.model, 5)
    with torch.inference_mode():
        for name, part in INPUTS.items():
            torch.set_num_threads(int(name.split()[1]))
            found[name] = torch.cat([model(x) for x in x[part].split(1 if "1s" in name else 5)])
    torch.set_num_threads(before)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def all_made(folder: Path) -> dict[str, Made]:
    """Every case, quantized and saved here, then loaded in one fresh process."""
    kept: list[tuple[Case, Quantized, saving.SavedFile]] = []
    for case in CASES:
        done = quantize(case, folder)
        kept.append((case, done, saving.save(done, folder / f"{case}.safetensors", header(case, done))))
        x = images(case.model, 5)
        save_file({name: x[part].clone() for name, part in INPUTS.items()}, folder / f"{case}.inputs")
    command = [sys.executable, "-c", FRESH, str(folder), *map(str, CASES)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert ran.returncode == 0, ran.stderr
    return {
        str(case): Made(case, done, file, _logits(done.model, case), load_file(folder / f"{case}.logits"))
        for case, done, file in kept
    }


@pytest.fixture(params=CASES, ids=str)
def made(request: pytest.FixtureRequest, all_made: dict[str, Made]) -> Made:
    return all_made[str(request.param)]


def _bits(x: Tensor) -> Tensor:
    return x.view(torch.int32)


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_logits_bit_for_bit(made: Made) -> None:
    for name, expected in made.here.items():
        assert torch.equal(_bits(made.fresh[name]), _bits(expected)), name
    assert made.here["batch5 1"].std() > 0


@pytest.mark.slow
def test_with_other_threads_or_batches_the_logits_stay_within_the_bound(made: Made) -> None:
    one = made.here["batch5 1"]
    for other in (made.fresh["batch1s 1"], made.fresh["batch5 2"]):
        moved = (other - one).norm(dim=1) / one.norm(dim=1)
        assert moved.median() <= MEDIAN
        assert moved.max() <= MOST


@pytest.mark.slow
def test_it_is_the_same_model_that_is_loaded(made: Made) -> None:
    back = load_quantized(made.file.path)
    assert back.exec == made.done.exec
    assert not back.model.training
    assert not any(parameter.requires_grad for parameter in back.model.parameters())
    assert stored_tensors(back.model) == stored_tensors(made.done.model)
    before, after = (
        account(
            loaded(made.case.model).model, model, loaded(made.case.model).preprocessing.size, Bits.parse(made.case.bits)
        )
        for model in (made.done.model, back.model)
    )
    assert before == after
    modules = dict(back.model.named_modules())
    for name, module in made.done.model.named_modules():
        if isinstance(module, (QLinear, QConv2d)):
            assert torch.equal(module.weight_codes(), modules[name].weight_codes())  # type: ignore[operator]
            assert torch.equal(_bits(module.quantized_weight()), _bits(modules[name].weight))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_loaded_model_is_saved_as_the_same_bytes(made: Made, tmp_path: Path) -> None:
    back = load_quantized(made.file.path)
    done = dataclasses.replace(made.done, model=back.model, exec=back.exec, facts=back.header["facts"])
    again = saving.save(done, tmp_path / "again.safetensors", back.header)
    assert (again.sha256, again.bytes) == (made.file.sha256, made.file.bytes)
    assert again.path.read_bytes() == made.file.path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.safetensors"]


@pytest.mark.slow
def test_a_file_weighs_what_accounting_says_and_the_rest_is_header(made: Made) -> None:
    packed = sum(tensor.bytes for tensor in stored_tensors(made.done.model))
    assert made.file.payload_bytes == pytest.approx(packed, rel=1e-3)
    assert made.file.bytes == made.file.payload_bytes + made.file.header_bytes == made.file.path.stat().st_size
    assert made.file.header_bytes < 20_000


@pytest.mark.slow
def test_headers_say_what_was_made(made: Made) -> None:
    found = saving.read_header(made.file.path)
    assert found == header(made.case, made.done) | {"facts": found["facts"], "options": found["options"]}
    assert (found["method"], found["bits"], found["exec"]) == (made.case.method, made.case.bits, made.done.exec)


@pytest.mark.slow
def test_copies_of_a_loaded_model_are_the_same(all_made: dict[str, Made]) -> None:
    import copy

    made = all_made[str(CASES[4])]
    twin = copy.deepcopy(vitq.load(made.file.path))
    assert torch.equal(_logits(twin, made.case)["batch5 1"], made.here["batch5 1"])


def _prepared(case: Case) -> nn.Module:
    method = registry.load(case.method)
    model: Any = method.prepare(
        quantize(Case(case.model, "fp32", "FP32", {}), Path()).model, Bits.parse(case.bits),
        method.Options(**case.options),
    )  # fmt: skip
    return model


PLAIN = [c for c in CASES if c.method in ("minmax", "repq_vit", "psaq_vit", "psaq_vit_v2")]


@pytest.mark.slow
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_plain_state_dict_brings_the_quantizers_with_it(case: Case, all_made: dict[str, Made]) -> None:
    """`all keys matched` and floating point: what a state_dict without the quantizers' mode gave."""
    made, model = all_made[str(case)], _prepared(case)
    model.load_state_dict(made.done.model.state_dict(), strict=True)
    assert all(quantizer.mode == "on" for quantizer in named_quantizers(model).values())
    assert torch.equal(_logits(model, case)["batch5 1"], made.here["batch5 1"])
    loaded_again = vitq.load(made.file.path)
    other = _prepared(case)
    other.load_state_dict(loaded_again.state_dict(), strict=True)
    assert torch.equal(_logits(other, case)["batch5 1"], made.here["batch5 1"])


@pytest.mark.slow
def test_a_state_dict_of_other_widths_or_grids_is_refused(all_made: dict[str, Made]) -> None:
    four = all_made["digits_vit-repq_vit-W4A4"]
    eight = _prepared(next(c for c in CASES if c.method == "repq_vit" and c.bits == "W8A8"))
    with pytest.raises(MethodInputError, match="other widths or grids"):
        eight.load_state_dict(four.done.model.state_dict())
    log2 = _prepared(Case("digits_vit", "repq_vit", "W4A4", {"softmax": "log2"}))
    with pytest.raises(MethodInputError, match="other widths or grids"):
        log2.load_state_dict(four.done.model.state_dict())
    old = {k: v for k, v in four.done.model.state_dict().items() if "_extra_state" not in k}
    with pytest.raises(RuntimeError, match="_extra_state"):
        _prepared(four.case).load_state_dict(old)


@pytest.mark.parametrize("method", ["minmax", "repq_vit", "psaq_vit"])
def test_what_was_never_fitted_does_not_compute(method: str) -> None:
    made = registry.load(method)
    model = made.restore(quantize(Case("digits_vit", "fp32", "FP32", {}), Path()).model, Bits(4, 8), made.Options(), {})
    with pytest.raises(MethodInputError, match="has no grid: calibrate"):
        model(images("digits_vit", 1))
    with pytest.raises(MethodInputError, match="has no grid"):
        model.get_submodule("blocks.0.attn.qkv").weight_codes()


@pytest.mark.slow
def test_a_layer_to_be_trained_again_leaves_its_codes(all_made: dict[str, Made]) -> None:
    model = vitq.load(all_made[str(CASES[1])].file.path)
    layer = model.get_submodule("blocks.0.attn.qkv")
    assert isinstance(layer, QLinear)
    before = layer.weight_codes()
    layer.weight.requires_grad_()
    with torch.no_grad():
        layer.weight.mul_(0.5)
    assert not torch.equal(layer.weight_codes(), before)
    with torch.no_grad():
        assert torch.equal(layer.weight_quantizer.decode(layer.weight_codes()), layer.quantized_weight())
