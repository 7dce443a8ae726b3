"""Runtimes beside each other: what has a row was checked, what has none says why; and `vitq latency` says both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from places import vitq
from torch import Tensor, nn

from vitq import mm
from vitq.benchmarks.measure.forms import forms_of
from vitq.benchmarks.measure.on_runtimes import measure, table_rows, told
from vitq.benchmarks.runtimes.base import Executed
from vitq.benchmarks.runtimes.torch_eager import runtime as eager
from vitq.errors import UnsupportedError


class Off:
    """A runtime whose numbers are those of torch plus something."""

    name = "off"

    def __init__(self, by: float, exact: bool, of: str = "fake-quant") -> None:
        self.by, self.exact, self.of = by, exact, of

    def version(self) -> str:
        return "1"

    def missing(self) -> None:
        return None

    def unsupported(self, model: nn.Module, exec: str) -> str | None:
        return None if exec == self.of else "it has no form of that"

    def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiledly:
        return Compiledly(model, self.by)


class Compiledly:
    """The model's output, moved."""

    exec = "int8-kernel:off"

    def __init__(self, model: nn.Module, by: float) -> None:
        self.model, self.by = model, by

    def __call__(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.model(images) + self.by

    def executed(self) -> Executed:
        return {"Linear": {"int8": 1}}


def found(runtime: Off) -> tuple[set[str], dict[str, str]]:
    torch.manual_seed(0)
    fp32, quantized, images = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(2, 4)
    forms, left = forms_of(fp32, quantized, "fake-quant", images, {"torch": eager, "off": runtime}, 1)
    return set(forms), {name: told(why) for name, why in left.items()}


@pytest.mark.parametrize("runtime", [Off(0, True), Off(1e-5, False)])
def test_a_form_that_gives_torch_s_numbers_has_a_row(runtime: Off) -> None:
    assert found(runtime) == ({"fp32", "fake-quant", "int8-kernel:off"}, {})


@pytest.mark.parametrize("runtime", [Off(1e-6, True), Off(0.1, False), Off(float("nan"), False)])
def test_a_form_that_does_not_is_never_timed(runtime: Off) -> None:
    forms, left = found(runtime)
    assert forms == {"fp32", "fake-quant"}
    assert "so that it is not timed" in left["off"]


def test_what_a_runtime_does_not_serve_is_said() -> None:
    assert found(Off(0, True, of="xnor:torch"))[1] == {"off": "it has no form of that"}


def test_a_runtime_that_fails_is_told_and_the_others_go_on() -> None:
    class Broken(Off):
        def compile(self, model: nn.Module, example: Tensor, *, threads: int, device: torch.device) -> Compiledly:
            raise RuntimeError("no\nkernel")

    assert found(Broken(0, True)) == ({"fp32", "fake-quant"}, {"off": "failed: RuntimeError: no kernel"})


def test_speeds_are_stated_against_the_strongest_fp32_and_eager_torch() -> None:
    torch.manual_seed(0)
    fp32, quantized, images = nn.Linear(4, 3), nn.Linear(4, 3), torch.randn(2, 4)
    forms, left = forms_of(fp32, quantized, "fake-quant", images, {"off": Off(0, True)}, 1)
    timed = measure(forms, left | {"other": UnsupportedError("it is not here")}, images, threads=1, runs=3, warmup=1)
    rows = {row["exec"]: row for row in table_rows(timed)}
    assert timed.strongest().exec == timed.eager().exec == "fp32"
    assert rows["fp32"]["x best fp32"] == rows["fp32"]["x eager fp32"] == "1.00"
    assert rows["int8-kernel:off"]["checked"] == "equals fake-quant bit for bit"
    assert rows["none on other"] == {"exec": "none on other", "checked": "it is not here"}


@pytest.mark.slow
def test_a_finished_cell_and_its_file_are_timed(tmp_path: Path) -> None:
    cell = "minmax/classification/digits/digits_vit/W8A8/seed0"
    assert vitq("run", "smoke", "-k", cell, "--results", "r", "--limit", "20", cwd=tmp_path).returncode == 0
    limited = f"{cell}/limit20"
    done = vitq("latency", limited, "--results", "r", "--batch", "2", "--runs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("fake-quant", "fp32", "none on numba", "involuntary switches", "quartiles"):
        assert word in done.stdout
    file = next((tmp_path / "r" / "models").glob("*.safetensors"))
    again = vitq("latency", file, "--runtime", "torch", "--batch", "1", "--runs", "2", cwd=tmp_path)
    assert again.returncode == 0
    assert "none on" not in again.stdout


@pytest.mark.slow
@pytest.mark.skipif(mm.why_absent() is not None, reason="needs vitq[mm]")
def test_a_detector_s_backbone_is_timed_alone_and_in_its_place(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    cell = "minmax and digits_mask_rcnn and W8A8 and scope"
    done = vitq("run", "smoke", "-k", cell, "--limit", "4", "--results", "r", "--runtime", "onnxruntime", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    file = next((tmp_path / "r" / "models").glob("*.safetensors"))
    timed = vitq("latency", file, "--runtime", "onnxruntime", "--batch", "1", "--runs", "2", cwd=tmp_path)
    assert timed.returncode == 0, timed.stderr
    alone, whole = timed.stdout.split("the whole model, its backbone on the runtime and the rest in torch")
    assert "backbone alone, 128x128 pixels" in alone
    for table in (alone, whole):
        assert "int8-kernel:onnxruntime" in table
    assert "backbone Linear" in whole
    assert "the rest 1 in torch" in whole
    rows = [json.loads(line) for line in (tmp_path / "r" / "records.jsonl").read_text().splitlines()]
    own = [row for record in rows for row in record.get("latency") or () if row["exec"] == "int8-kernel:onnxruntime"]
    assert own
    for row in own:
        assert row["operators"].pop("the rest") == {"in torch": 1}
        assert all(kind.startswith("backbone ") for kind in row["operators"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nothing"], "neither a file nor a cell"),
        (["nothing", "--runtime", "tensorrt"], "no runtime is called 'tensorrt'"),
        (["nothing", "--threads", "100000"], "--threads is 100000"),
        (["nothing", "--batch", "0"], "--batch"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "records.jsonl").touch()
    done = vitq("latency", *words, "--results", "r", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
