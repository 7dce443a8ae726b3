"""What is no saved model, is damaged, or is another model's is refused in one line, and nothing is half written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized import Case, header, quantize
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import vitq
from vitq.errors import BadInputError, MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.toolkit import saving
from vitq.methods.toolkit.layers import QLinear
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.methods.toolkit.stored import Codes, State

CASE = Case("digits_vit", "minmax", "W4A8", {})
About = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    done = quantize(CASE, folder)
    return saving.save(done, folder / "model.safetensors", header(CASE, done)).path


def changed(saved: Path, to: Path, change: Callable[[About, dict[str, torch.Tensor]], None]) -> Path:
    """The saved model with its text or tensors changed, all else as it was."""
    with safe_open(saved, framework="pt") as file:
        about = json.loads(file.metadata()["vitq"])
    tensors = load_file(saved)
    change(about, tensors)
    save_file(tensors, to, {"vitq": json.dumps(about)})
    return to


def refused(path: Path, words: str) -> None:
    with pytest.raises(BadInputError, match=words) as told:
        vitq.load(path)
    assert "\n" not in str(told.value)


def test_other_files_are_refused(saved: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "is no file")
    refused(tmp_path, "is no file")
    for name, content in {
        "text": b"hello",
        "empty": b"",
        "cut": saved.read_bytes()[:-5],
        "head": saved.read_bytes()[:99],
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "cannot be read as safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    refused(tmp_path / "plain", "no header of vitq's")


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99", "hpu"])
def test_a_device_that_is_not_there_is_refused(saved: Path, device: str) -> None:
    with pytest.raises(BadInputError, match="no model can be loaded to device") as told:
        vitq.load(saved, device)
    assert "\n" not in str(told.value)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    path, made = tmp_path / "model.safetensors", tmp_path / "made"
    path.write_bytes(pickle.dumps(_Evil(made)))
    refused(path, "cannot be read as safetensors")
    torch.save({"x": _Evil(made)}, path)
    refused(path, "cannot be read as safetensors")
    assert not made.exists()


@pytest.mark.parametrize("text", ["{", "[]", "7", "{}", '{"header": 1, "tensors": [], "sha256": ""}', "[" * 5000])
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "m", {"vitq": text})
    refused(tmp_path / "m", "is not a saved model's")


def test_another_format_or_version_is_refused(saved: Path, tmp_path: Path) -> None:
    refused(
        changed(saved, tmp_path / "f", lambda a, _: a["header"].update(format="other")), "is no vitq quantized model"
    )
    refused(changed(saved, tmp_path / "v", lambda a, _: a["header"].update(version=2)), "has version 2 of the format")


@pytest.mark.parametrize("kind", ["codes", "float32"])
def test_one_changed_bit_is_found(saved: Path, tmp_path: Path, kind: str) -> None:
    def flip(_: About, tensors: dict[str, torch.Tensor]) -> None:
        tensors[kind].view(torch.uint8)[7] ^= 1

    refused(changed(saved, tmp_path / "m", flip), "is damaged")


@pytest.mark.parametrize("key", ["bits", "options", "identity"])
def test_a_changed_header_is_found(saved: Path, tmp_path: Path, key: str) -> None:
    value = {"bits": "W4A7", "options": {}, "identity": {"seed": 1}}[key]
    path = changed(saved, tmp_path / "m", lambda a, _: a["header"].update({key: value}))
    if key == "options":  # minmax has none: nothing changed
        vitq.load(path)
    else:
        refused(path, "is damaged")


def _drop(rows: list[Any], name: str) -> None:
    for row in rows:
        row[1:] = [entry for entry in row[1:] if entry[0] != name]


BROKEN: dict[str, Callable[[About, dict[str, torch.Tensor]], Any]] = {
    "fewer entries": lambda a, _: a["tensors"].pop(),
    "another shape": lambda a, _: a["tensors"][0][1].__setitem__(2, [10**9, 10**9]),
    "a tensor more": lambda _, t: t.update(extra=torch.zeros(3)),
    "a tensor less": lambda _, t: t.pop("codes"),
    "a shorter tensor": lambda _, t: t.update(codes=t["codes"][:-1]),
    "another type": lambda _, t: t.update(float32=t["float32"].double()),
    "another width": lambda a, _: next(e for r in a["tensors"] for e in r[1:] if e[0] == "weight").__setitem__(1, "u5"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_sizes_that_do_not_fit_the_file_are_refused_before_anything_is_read(
    saved: Path, tmp_path: Path, name: str
) -> None:
    refused(changed(saved, tmp_path / "m", BROKEN[name]), "is damaged: the tensors in its header")


@pytest.mark.parametrize(
    "rows", [7, [7], [["a", 7]], [["a", ["b", "c", [1]]]], [["a", ["b", "u99", [1]]]], [["a", ["b", "float32", [-1]]]],
             [[1, ["b", "float32", [1]]]], [["a", ["b", "uxx", [1]]]], [["a", ["b", "int8", [1]], ["b", "int8", [1]]]],
             [["a", ["b", "float32", [True]]]]],
)  # fmt: skip
def test_an_index_that_is_none_is_refused(saved: Path, tmp_path: Path, rows: Any) -> None:
    refused(changed(saved, tmp_path / "m", lambda a, _: a.update(tensors=rows)), "lists no tensors")


def _resigned(saved: Path, to: Path, **changes: Any) -> Path:
    """A well-made file whose header says something else: what a careless or hostile writer makes."""
    done = quantize(CASE, to.parent)
    return saving.save(done, to, header(CASE, done) | changes).path


def test_a_header_that_describes_no_model_is_refused(saved: Path, tmp_path: Path) -> None:
    known = saving.read_header(saved)["architecture"]["model"]
    build = known["build"]

    def other(**changes: Any) -> dict[str, Any]:
        args = {**build, "args": {**build["args"], **changes}}
        return {"task": "classification", "model": {**known, "build": args}}

    file = tmp_path / "m"
    refused(_resigned(saved, file, method="minmaxx"), "did you mean 'minmax'")
    refused(_resigned(saved, file, options={"nonsense": 1}), "no option is called 'nonsense'")
    refused(_resigned(saved, file, bits="W99A1"), "99")
    refused(_resigned(saved, file, scope="backbone"), "has no module 'backbone'")
    refused(
        _resigned(saved, file, architecture={"task": "classificatio", "model": known}), "did you mean 'classification'"
    )
    refused(_resigned(saved, file, architecture={"task": "classification", "model": {}}), "architecture.name")
    refused(_resigned(saved, file, architecture={}), "does not describe a model")
    refused(_resigned(saved, file, architecture=other(nonsense=1)), "does not describe a model")
    refused(_resigned(saved, file, architecture=other(embed_dim=32)), "does not describe a model")  # 3 heads
    refused(_resigned(saved, file, architecture=other(embed_dim=24)), "another architecture")
    refused(_resigned(saved, file, architecture=other(depth=build["args"]["depth"] + 1)), "another architecture")
    refused(_resigned(saved, file, architecture=other(depth=build["args"]["depth"] - 1)), "another architecture")
    refused(_resigned(saved, file, architecture=other(embed_dim=3 * 2**13)), "describes a model of")
    refused(_resigned(saved, file, bits="W5A8"), "another architecture.*weight")
    refused(_resigned(saved, file, method="psaq_vit", options={}), "another architecture")


def test_the_header_to_save_must_be_json_and_agree(tmp_path: Path) -> None:
    done = Quantized(nn.Linear(2, 2), exec="fp32")
    for wrong, words in (
        ({"x": object()}, "not JSON"),
        ({"x": float("nan")}, "not JSON"),
        ({"exec": "fake-quant"}, "exec"),
    ):
        with pytest.raises(MethodInputError, match=words):
            saving.save(done, tmp_path / "m", wrong)
    with pytest.raises(MethodInputError, match="not JSON"):
        saving.save(Quantized(nn.Linear(2, 2), facts={"x": {1, 2}}), tmp_path / "m", {})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told_and_keeps_what_was_there(tmp_path: Path) -> None:
    done = Quantized(nn.Linear(2, 2))
    with pytest.raises(MethodInputError, match="cannot be written"):
        saving.save(done, tmp_path / "no folder" / "m", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(MethodInputError, match="cannot be written"):
        saving.save(done, tmp_path / "folder", {})
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


class _TooWide(nn.Module):
    def stored_state(self) -> State:
        return {"codes": Codes(torch.tensor([0, 16]), 4)}

    def restore_state(self, state: dict[str, torch.Tensor]) -> None:
        raise NotImplementedError


def test_codes_outside_their_width_and_unkept_types_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(MethodInputError, match=r"0\.codes: codes run from 0 to 16, outside 0\.\.15 of 4 bits"):
        saving.save(Quantized(nn.Sequential(_TooWide())), tmp_path / "m", {})
    odd = nn.Module()
    odd.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(MethodInputError, match="complex64"):
        saving.save(Quantized(odd), tmp_path / "m", {})


def _layer(mode: str) -> QLinear:
    torch.manual_seed(0)
    quantizer = UniformQuantizer(4, MinMax(axis=0), axis=0, channels=3)
    layer = QLinear.of(nn.Linear(5, 3), quantizer, None)
    quantizer.observe(layer.weight.detach())
    quantizer.fit()
    quantizer.mode = mode  # type: ignore[assignment]
    return layer


@pytest.mark.parametrize("mode", ["off", "observe", "calibrate"])
def test_a_model_that_is_still_calibrated_is_not_saved(tmp_path: Path, mode: str) -> None:
    with pytest.raises(MethodInputError, match=f"0 cannot be saved: .*is {mode}"):
        saving.save(Quantized(nn.Sequential(_layer(mode))), tmp_path / "m", {})


def test_codes_that_the_grid_does_not_have_are_refused() -> None:
    layer = _layer("on")
    state = {k: v.codes if isinstance(v, Codes) else v for k, v in layer.stored_state().items()}
    with pytest.raises(ValueError, match=r"outside the grid's 0\.\.15"):
        layer.restore_state(state | {"weight": state["weight"] + 16})
    with pytest.raises(ValueError, match="shape"):
        layer.restore_state(state | {"weight": state["weight"][:2]})
    with pytest.raises(ValueError, match="shape"):
        layer.restore_state(
            state | {"weight_quantizer.scale": torch.ones(2), "weight_quantizer.zero_point": torch.ones(2)}
        )


def test_every_type_of_tensor_and_shared_ones_come_back(tmp_path: Path) -> None:
    def model(fill: bool) -> nn.Module:
        made = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        made[1].weight = made[0].weight
        for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool):
            made.register_buffer(
                f"as_{str(kind)[6:]}", torch.arange(4).remainder(2).to(kind) if fill else torch.zeros(4, dtype=kind)
            )
        made.register_buffer("empty", torch.zeros(0, 3))
        made.register_buffer("passing", torch.ones(2), persistent=False)
        return made

    given, other = model(True), model(False)
    file = saving.save(Quantized(given), tmp_path / "m", {})
    saving.fill(other, file.path)
    assert other[1].weight is other[0].weight
    for name, tensor in given.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
        assert other.state_dict()[name].dtype == tensor.dtype
    assert file.payload_bytes == sum(
        t.numel() * t.element_size() for n, t in given.state_dict().items() if n != "1.weight"
    )
