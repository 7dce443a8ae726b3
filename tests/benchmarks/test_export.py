"""`vitq export`: what it writes is what it says, and what it cannot write is one line and no file."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from commands import vitq_here
from quantized import Case, header, quantize

from vitq.methods.toolkit import saving

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def stored(folder: Path, method: str, bits: str, **options) -> Path:
    case = Case("digits_vit", method, bits, options)
    done = quantize(case, folder)
    saving.save(done, folder / "model.safetensors", header(case, done))
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def minmax(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("minmax"), "minmax", "W8A8")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_is_written_loaded_and_compared(minmax: Path, tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    out = tmp_path / "out.onnx"
    said = vitq_here("export", minmax, "--to", "onnx", "-o", out, "--batch", 2, "--runtime", runtime)
    assert said.code == 0, said
    for word in ("minmax W8A8", "MB", f"int8-kernel:{runtime}", "int8", "fake-quant"):
        assert word in said.out, said.out
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    found = torch.from_numpy(session.run(None, {given.name: torch.zeros(given.shape).numpy()})[0])
    assert found.shape == (2, 10)
    assert list(tmp_path.iterdir()) == [out]
    assert out.stat().st_size < 2 * minmax.stat().st_size  # codes, not floating-point weights


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--to", "tflite"], "--to is 'tflite'"),
        (["--runtime", "tvm"], "--runtime is 'tvm'"),
        (["-o", "missing/out.onnx"], "is no folder"),
        (["-o", "there.onnx"], "is there already"),
        (["--threads", "100000"], "--threads is 100000"),
    ],
)
def test_bad_input_is_one_line(minmax: Path, tmp_path: Path, monkeypatch, more: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.onnx").write_text("kept")
    said = vitq_here("export", minmax, *([] if "-o" in more else ["-o", "out.onnx"]), *more)
    said.refused(says)
    assert Path("there.onnx").read_text() == "kept"
    assert not Path("out.onnx").exists()


@pytest.mark.parametrize(
    ("method", "bits", "options", "says"),
    [
        ("repq_vit", "W8A8", {}, "fractional zero point"),
        ("i_vit", "W8A8", {"epochs": 0}, "no QDQ form"),
        ("binary_vit", "W1A1", {"epochs": 0}, "no QDQ form"),
        ("pmq", "W4A6", {"frontier_points": 64, "cost": "bitops", "patch_wise": True}, "no QDQ form"),
    ],
)
def test_a_method_without_a_qdq_form_says_why(tmp_path: Path, method, bits, options, says) -> None:
    out = tmp_path / "out.onnx"
    vitq_here("export", stored(tmp_path, method, bits, **options), "-o", out).refused("cannot be exported", says)
    assert not out.exists()


def test_a_missing_extra_says_what_to_install(minmax: Path, tmp_path: Path) -> None:
    with mock.patch("importlib.util.find_spec", return_value=None):
        said = vitq_here("export", minmax, "-o", tmp_path / "out.onnx")
    said.refused("pip install 'vitq[runtimes]'")
