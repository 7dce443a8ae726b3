"""Models that others quantized: opened, counted, refused, and evaluated to a row as any cell has."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from vitq import outcomes
from vitq.benchmarks.foreign.evaluating import evaluate_foreign, short_maker
from vitq.benchmarks.foreign.inputs import Wanted
from vitq.benchmarks.foreign.model import Facts, ForeignModel
from vitq.benchmarks.foreign.opening import Opened, open_foreign
from vitq.benchmarks.plan.suite import Latency
from vitq.benchmarks.run.store import read_rows
from vitq.errors import BadInputError
from vitq.reports.layout import render
from vitq.reports.row_view import row_view
from vitq.reports.tables import results_table
from vitq.tasks.places import Places

onnx = pytest.importorskip("onnx", reason="the extra runtimes is not installed")
pytest.importorskip("onnxruntime", reason="the extra runtimes is not installed")
PLAIN = Wanted(mean=(0.5,) * 3, std=(0.5,) * 3, size=24, crop_pct=1.0, interpolation="bilinear")
SIZE = (3, 24, 24)
MACS = 37 * 16 * (3 * 16 + 16 + 4 * 16 + 4 * 16) + 2 * 37 * 37 * 16 + 36 * 48 * 16 + 16 * 10
"""Of the model below, with 36 patches and a class token; both products of attention among them."""


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    words = {"img_size": 24, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 10}
    made: nn.Module = timm.create_model("vit_tiny_patch16_224", **words).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def files(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    to_onnx(model, folder / "any.onnx", 1, any_batch=True)
    to_onnx(model, folder / "fixed.onnx", 4)
    torch.jit.trace(model, torch.randn(1, *SIZE)).save(str(folder / "traced.pt"))
    torch.save(model.state_dict(), folder / "state.pt")
    torch.save(model, folder / "whole.pt")
    return folder


def to_onnx(model: nn.Module, path: Path, batch: int, any_batch: bool = False, **words: Any) -> None:
    axes = {"images": {0: "batch"}} if any_batch else None
    torch.onnx.export(
        model, (torch.randn(batch, *SIZE),), str(path), dynamo=False, opset_version=17, input_names=["images"],
        dynamic_axes=axes, **words,
    )  # fmt: skip


def opened(path: Path, **words: Any) -> Opened:
    return open_foreign(path, PLAIN, threads=1, **words)


def refused(path: Path, wanted: Wanted = PLAIN, **words: Any) -> str:
    with pytest.raises(BadInputError) as error:
        open_foreign(path, wanted, threads=1, **words)
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(("name", "batch"), [("any.onnx", None), ("fixed.onnx", 4), ("traced.pt", None)])
def test_a_file_gives_the_models_logits_for_any_batch(
    name: str, batch: int | None, files: Path, model: nn.Module
) -> None:
    found = opened(files / name).model
    for count in (1, 3, 9):
        images = torch.randn(count, *SIZE)
        with torch.no_grad():
            assert torch.allclose(found(images), model(images), atol=1e-4)
    assert (found.num_classes, found.facts.batch) == (10, batch)


@pytest.mark.parametrize("name", ["any.onnx", "fixed.onnx", "traced.pt"])
def test_size_and_operations_are_the_models(name: str, files: Path, model: nn.Module) -> None:
    facts = opened(files / name).model.facts
    params = sum(parameter.numel() for parameter in model.parameters())
    assert facts.operations is not None
    assert facts.size is not None
    assert (facts.operations.macs, facts.operations.bitops, facts.bits) == (MACS, MACS * 1024, "FP32")
    assert facts.size.params == params
    assert facts.size.packed_mb == pytest.approx(params * 4e-6, rel=0.05)
    assert facts.bytes == (files / name).stat().st_size
    assert facts.unknown == ()


def quantized(files: Path, to: Path, form: str) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"images": np.random.default_rng(0).normal(size=(1, *SIZE)).astype(np.float32)}] * 2)

        def get_next(self) -> Any:
            return next(self.left, None)

    if form == "dynamic":
        quantize_dynamic(str(files / "any.onnx"), str(to))
    else:
        format = QuantFormat.QDQ if form == "QDQ" else QuantFormat.QOperator
        quantize_static(str(files / "any.onnx"), str(to), Reader(), quant_format=format)
    return to


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.filterwarnings("ignore")
def test_what_onnxruntime_quantized_is_read_as_such(form: str, files: Path, tmp_path: Path) -> None:
    facts = opened(quantized(files, tmp_path / "q.onnx", form)).model.facts
    assert facts.made_by.startswith("onnxruntime (onnx.quantize")
    assert facts.bits == "W8A8"
    assert facts.size is not None
    assert facts.operations is not None
    assert facts.operations.macs == MACS
    assert facts.operations.bitops < MACS * 1024 / 2
    assert 2 < facts.size.fp32_mb / facts.size.packed_mb < 4
    assert any("int8" in widths for widths in facts.operators.values())


@pytest.mark.slow
def test_an_openvino_file_is_counted_alike(files: Path, model: nn.Module, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="the extra runtimes is not installed")
    made = openvino.convert_model(str(files / "any.onnx"))
    openvino.save_model(made, str(tmp_path / "model.xml"), compress_to_fp16=False)
    found = opened(tmp_path / "model.xml").model
    images = torch.randn(5, *SIZE)
    with torch.no_grad():
        assert torch.allclose(found(images), model(images), atol=1e-3)
    assert found.facts.operations is not None
    assert found.facts.operations.macs == MACS
    assert found.facts.made_by.startswith("openvino")
    (tmp_path / "model.bin").rename(tmp_path / "other.bin")
    assert "keeps its weights in model.bin, which does not lie beside it" in refused(tmp_path / "model.xml")
    (tmp_path / "model.xml").write_text("<?xml version='1.0'?><net/>")
    (tmp_path / "other.bin").rename(tmp_path / "model.bin")
    assert "cannot be read by OpenVINO" in refused(tmp_path / "model.xml")


@pytest.mark.slow
def test_weights_of_torchao_are_read_into_their_architecture(tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    made = timm.create_model("vit_tiny_patch16_224", num_classes=5).eval()
    quantization.quantize_(made, quantization.Int8WeightOnlyConfig())
    torch.save(made.state_dict(), tmp_path / "ao.pt")
    assert "name the architecture they are of (--like TIMM_MODEL)" in refused(tmp_path / "ao.pt")
    assert "is not of" in refused(tmp_path / "ao.pt", Wanted(like="vit_small_patch16_224"))
    found = open_foreign(tmp_path / "ao.pt", Wanted(like="vit_tiny_patch16_224"), threads=1).model
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(found(images), made(images), atol=1e-5)
    assert found.facts.made_by.startswith("torchao (Int8Tensor")
    assert found.facts.bits == "W8A32"
    assert found.facts.size is not None
    assert 3 < found.facts.size.fp32_mb / found.facts.size.packed_mb < 4


def test_no_code_of_a_file_is_run(files: Path, tmp_path: Path) -> None:
    word = refused(files / "whole.pt", Wanted(like="vit_tiny_patch16_224"))
    assert "holds more than tensors" in word
    assert "code of a file is not run" in word
    _harm(tmp_path / "harm.pt", tmp_path / "harmed")
    assert "holds more than tensors" in refused(tmp_path / "harm.pt", Wanted(like="vit_tiny_patch16_224"))
    program = torch.export.export(nn.Sequential(nn.Flatten(), nn.Linear(1728, 4)), (torch.randn(2, *SIZE),))
    torch.export.save(program, tmp_path / "program.pt2")
    assert "may run code of the file" in refused(tmp_path / "program.pt2")
    found = opened(tmp_path / "program.pt2", trust=True).model
    assert (found.num_classes, found.facts.batch) == (4, 2)
    assert found(torch.randn(3, *SIZE)).shape == (3, 4)
    assert not (tmp_path / "harmed").exists()


class _Harm:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.target,))


def _harm(path: Path, target: Path) -> None:
    torch.save({"weight": _Harm(target)}, path)


class _Opens(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        more = torch.from_file(__file__, shared=False, size=4, dtype=torch.uint8)
        return images.flatten(1)[:, :4] + more.float()


def test_torchscript_that_opens_files_is_refused(tmp_path: Path) -> None:
    torch.jit.trace(_Opens(), torch.randn(1, *SIZE)).save(str(tmp_path / "opens.pt"))
    assert "names from_file, which may open files" in refused(tmp_path / "opens.pt")
    with zipfile.ZipFile(tmp_path / "opens.pt") as old, zipfile.ZipFile(tmp_path / "library.pt", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(
                name, content.replace(b"torch.from_file", b"ops.evil.from_file") if name.endswith(".py") else content
            )
    assert "which torch has only with a library" in refused(tmp_path / "library.pt")


def edited(files: Path, to: Path, change: Any) -> Path:
    made = onnx.load(str(files / "any.onnx"))
    change(made)
    onnx.save(made, str(to))
    return to


def custom(made: Any) -> None:
    made.graph.node[3].domain, made.graph.node[3].op_type = "acme.ops", "Fuse"
    made.opset_import.add(domain="acme.ops", version=1)


def other_input(made: Any) -> None:
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8


def flat_input(made: Any) -> None:
    del made.graph.input[0].type.tensor_type.shape.dim[2:]


def two_inputs(made: Any) -> None:
    made.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, [1]))


def outside(made: Any) -> None:
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def features(made: Any) -> None:
    made.graph.output[0].name = next(n.output[0] for n in made.graph.node if n.op_type == "Conv")
    made.graph.output[0].type.tensor_type.ClearField("shape")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (custom, "has an operator Fuse of domain acme.ops"),
        (other_input, "takes uint8 images, where float ones are wanted"),
        (flat_input, "where images [B, 3, H, W] are wanted"),
        (two_inputs, "takes 2 inputs (images, mask)"),
        (outside, "keeps data at '../../etc/passwd', outside its folder"),
        (features, "are wanted"),
        (lambda made: made.graph.ClearField("node"), "its graph is empty"),
    ],
)
def test_an_onnx_file_that_cannot_be_evaluated_is_one_line(change: Any, word: str, files: Path, tmp_path: Path) -> None:
    assert word in refused(edited(files, tmp_path / "edited.onnx", change))


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.onnx", b"", "is empty"), ("text.onnx", b"hello, world", "cannot be read as ONNX"),
        ("text.bin", b"hello", "is no model that is known here"), ("cut.pt", b"PK\x03\x04cut", "cannot be read"),
        ("pickle.pt", b"\x80\x04K\x01.", "--like"), ("a.safetensors", b"\x10\0\0\0\0\0\0\0{}", "holds tensors alone"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_one_line(name: str, content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert word in refused(tmp_path / name)
    assert "is not there" in refused(tmp_path / "absent.onnx")
    assert "is a folder" in refused(tmp_path)


def test_a_cut_file_is_one_line(files: Path, tmp_path: Path) -> None:
    for name in ("any.onnx", "traced.pt", "state.pt"):
        (tmp_path / name).write_bytes((files / name).read_bytes()[:3000])
        refused(tmp_path / name, Wanted(like="vit_tiny_patch16_224", size=24))


def test_nothing_is_guessed_of_preprocessing(files: Path) -> None:
    word = refused(files / "any.onnx", Wanted())
    assert "does not say how images become its input: give --like TIMM_MODEL" in word
    assert "--std" in refused(files / "any.onnx", Wanted(mean=(0.5,) * 3))
    assert "takes images of 24 x 24, not of 32 x 32" in refused(files / "any.onnx", Wanted(like="digits_vit", size=32))
    assert "takes images of any size" in refused(
        files / "traced.pt", Wanted(mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, interpolation="bicubic")
    )
    like = open_foreign(files / "any.onnx", Wanted(like="vit_tiny_patch16_224", crop_pct=0.5), threads=1)
    assert (like.preprocessing.size, like.preprocessing.crop_pct) == (SIZE, 0.5)
    assert "interpolation" in refused(files / "any.onnx", Wanted(like="digits_vit", interpolation="nearest"))


def test_padding_reaches_no_outcome() -> None:
    facts = Facts(Path("x.onnx"), "onnx", "", 1, "", "onnxruntime", "1", batch=4)
    seen: list[int] = []

    def run(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :2] + images.sum()  # as a bad file would, across the batch

    found = ForeignModel(run, facts)(torch.ones(6, *SIZE))
    assert found.shape == (6, 2)
    assert seen == [4, 4]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    import vitq

    path = tmp_path_factory.mktemp("exported") / "digits.onnx"
    made = vitq.quantize("digits_vit", "minmax", bits="W8A8", data="digits")
    made.export(path, batch=8)
    return path, vitq.evaluate(made, "digits")


def test_what_vitq_exported_has_the_accuracy_of_its_cell(exported: tuple[Path, Any], tmp_path: Path) -> None:
    path, ours = exported
    row = evaluate_foreign(path, "digits", places=Places(), results=tmp_path / "results", threads=1)
    assert row.metrics["top1"] == ours.metrics["top1"]
    assert row.outcomes is not None
    found = outcomes.read(tmp_path / "results" / row.outcomes, row.metrics).right
    for name in ("top1", "top5"):
        assert np.array_equal(found[name], ours.outcomes[name].values)
    assert row.cell.id == "elsewhere[vitq 0.1.0]/classification/digits/digits.onnx/W8A8/seed0"
    assert (row.fidelity, row.status) == ("elsewhere", "done")


def test_a_row_is_kept_shown_and_not_made_again(exported: tuple[Path, Any], tmp_path: Path) -> None:
    results = tmp_path / "results"
    words = {"places": Places(), "results": results, "threads": 1, "limit": 40}
    timed = evaluate_foreign(exported[0], "digits", **words, latency=Latency(batch=8, runs=3, warmup=0))
    before = (results / "records.jsonl").read_text()
    again = evaluate_foreign(exported[0], "digits", **words, latency=Latency(batch=8, runs=3, warmup=0))
    assert (results / "records.jsonl").read_text() == before
    assert again == timed
    (row,) = read_rows(results)
    assert row.metrics["top1"].n == 40
    assert [(line.exec, line.batch) for line in row.latency] == [("int8-kernel:onnxruntime", 8)]
    assert row.size is not None
    for told in (results_table([row], "plain"), results_table([row], "markdown"), row_view(row)):
        assert "made elsewhere" in told
    assert "vitq 0.1.0" in row_view(row)
    with pytest.raises(BadInputError, match="fixed to batches of 8"):
        evaluate_foreign(exported[0], "digits", **words, latency=Latency(batch=1, runs=3, warmup=0))


def test_a_model_of_other_classes_is_refused_before_it_is_evaluated(files: Path, tmp_path: Path) -> None:
    from vitq.datasets import registry
    from vitq.datasets.own import own_dataset

    root = Path(tmp_path / "seven")
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        from PIL import Image

        Image.new("RGB", (30, 30)).save(root / name / "x.png")
    dataset = own_dataset(root, name="seven-of-mine")
    registry.register([dataset])
    places = Places(datasets={"seven-of-mine": root})
    with pytest.raises(BadInputError, match=r"has 2 classes .* the model tells 10 apart"):
        evaluate_foreign(files / "any.onnx", "seven-of-mine", places=places, results=tmp_path / "r", wanted=PLAIN)


def test_makers_are_named_in_plain_words() -> None:
    assert short_maker("openvino 2026.4.1-22982-e213a/2026/4 with nncf 3.4.0") == "openvino 2026.4.1 with nncf 3.4.0"
    assert short_maker("a/b\n|[x](y)") == "a b x y"
    assert short_maker("\x1b") == "unnamed"
    assert render([{"cell": short_maker("<b>")}], "markdown")
