"""Widths of models that others quantized: of codes, not of types that hold them; of a file of ours, as was asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import vitq_here

import vitq
from vitq.benchmarks.foreign.evaluating import evaluate_foreign
from vitq.benchmarks.foreign.inputs import Wanted
from vitq.benchmarks.foreign.model import Facts
from vitq.benchmarks.foreign.opening import open_foreign
from vitq.benchmarks.foreign.widths import Counted, label_of, needed
from vitq.benchmarks.measure.conventions import Product
from vitq.benchmarks.run.store import read_rows
from vitq.reports.row_view import row_view
from vitq.reports.tables import results_table
from vitq.tasks.places import Places

onnx = pytest.importorskip("onnx", reason="the extra runtimes is not installed")
pytest.importorskip("onnxruntime", reason="the extra runtimes is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

PLAIN = Wanted(mean=(0.5,) * 3, std=(0.5,) * 3, size=24, crop_pct=1.0, interpolation="bilinear")
INPUTS, CLASSES = 3 * 24 * 24, 10
OURS = [
    ("minmax", "W8A8", {}),
    ("minmax", "W4A4", {}),
    ("minmax", "W3A5", {}),
    ("repq_vit", "W4A4", {"rounded_zero_point": True}),
    ("pmq", "W4A6", {"frontier_points": 64}),
    ("fp32", "FP32", {}),
]


def facts_of(path: Path, wanted: Wanted = PLAIN) -> Facts:
    return open_foreign(path, wanted, threads=1).model.facts


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("method", "bits", "options"), OURS, ids=[f"{m}-{b}" for m, b, _ in OURS])
def test_a_file_of_ours_has_the_widths_that_were_asked_for(
    method: str, bits: str, options: dict[str, Any], runtime: str, tmp_path: Path
) -> None:
    """Its operations are the model's, but for the sums that take zero points off."""
    pytest.importorskip(runtime)
    data = None if method == "fp32" else "digits"
    made = vitq.quantize("digits_vit", method, bits=bits, data=data, options=options)
    made.export(tmp_path / "model.onnx", runtime, batch=4)
    found = facts_of(tmp_path / "model.onnx")
    assert found.bits == bits
    assert found.operations is not None
    assert found.operations.bitops == pytest.approx(made.operations.bitops, rel=0.03)
    assert found.size is not None
    stored = {"W8A8": 0.149, "W4A4": 0.092, "W3A5": 0.092, "W4A6": 0.098, "FP32": 0.473}[bits]
    assert found.size.packed_mb == pytest.approx(stored, rel=0.01), "codes narrower than their type count as the type"


def test_its_row_by_the_command_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)
    words = ("quantize", "digits_vit", "--method", "minmax", "--bits", "W4A4", "-o", "small.safetensors", "-q")
    assert vitq_here(*words).code == 0
    assert vitq_here("export", "small.safetensors", "-o", "small.onnx", "--batch", 4).code == 0
    said = vitq_here("evaluate", "small.onnx", "--dataset", "digits", "--limit", 20, "--format", "json", "-q")
    assert said.code == 0, said
    assert '"bits": "W4A4"' in said.out
    assert "storage" not in said.out


def test_a_file_of_ours_without_the_word_is_told_by_its_clamps(tmp_path: Path) -> None:
    """As those were written before it was there; a word that is no width is as none."""
    made = vitq.quantize("digits_vit", "minmax", bits="W4A4", data="digits")
    made.export(tmp_path / "model.onnx", batch=4)
    read = onnx.load(str(tmp_path / "model.onnx"))
    (entry,) = [each for each in read.metadata_props if each.key == "vitq.bits"]
    assert entry.value == "W4A4"
    for word in ("W0A99", "<b>", ""):
        entry.value = word
        onnx.save(read, str(tmp_path / "other.onnx"))
        assert facts_of(tmp_path / "other.onnx").bits == "W4A4"
    entry.value, read.producer_name = "W1A1", "somebody"
    onnx.save(read, str(tmp_path / "other.onnx"))
    assert facts_of(tmp_path / "other.onnx").bits == "W4A4"


def grid(low: int, high: int, storage: int, form: str = "before", scale: float = 0.1) -> list[Any]:
    """Nodes that put `x` on a grid of these codes in 8-bit storage, clamped `before` it is rounded, `behind`, `apart`
    from any integer, or by nothing but the type."""
    ends = {"low": low * scale, "high": high * scale} if form == "before" else {"low": low, "high": high}
    kind = {"apart": TensorProto.FLOAT, "before": TensorProto.FLOAT}.get(form, storage)
    made = [
        helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [], [end]))
        for name, end in ends.items()
    ]
    made += [
        helper.make_node("Constant", [], ["scale"], value=helper.make_tensor("s", TensorProto.FLOAT, [], [scale])),
        helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("z", storage, [], [0])),
    ]
    if form == "apart":
        steps = [
            ("Div", ["x", "scale"]), ("Round", []), ("Max", ["low"]), ("Min", ["high"]), ("Mul", ["scale"]),
        ]  # fmt: skip
        last = "x"
        for at, (kind_of_node, others) in enumerate(steps):
            inputs = others if at == 0 else [last, *others]
            last = "on_grid" if kind_of_node == "Mul" else f"step{at}"
            made.append(helper.make_node(kind_of_node, inputs, [last]))
        return made
    clipped = form == "before"
    made += [helper.make_node("Clip", ["x", "low", "high"], ["clipped"])] if clipped else []
    made.append(helper.make_node("QuantizeLinear", ["clipped" if clipped else "x", "scale", "zero"], ["codes"]))
    made += [helper.make_node("Clip", ["codes", "low", "high"], ["kept"])] if form == "behind" else []
    codes = "kept" if form == "behind" else "codes"
    return [*made, helper.make_node("DequantizeLinear", [codes, "scale", "zero"], ["on_grid"])]


def file(path: Path, nodes: list[Any], low: int = -128, high: int = 127, kind: Any = np.int8) -> Path:
    """Images, flattened, on a grid, times INT8 weights of all codes from `low` to `high`."""
    weights = np.resize(np.arange(low, high + 1), (INPUTS, CLASSES)).astype(kind)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["x"], axis=1),
            *nodes,
            helper.make_node("DequantizeLinear", ["weight", "weight_scale"], ["w"]),
            helper.make_node("MatMul", ["on_grid", "w"], ["logits"]),
        ],
        "made",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [2, 3, 24, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, CLASSES])],
        [
            numpy_helper.from_array(weights, "weight"),
            numpy_helper.from_array(np.float32(0.01), "weight_scale"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="other")
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, str(path))
    return path


INT8, UINT8 = TensorProto.INT8, TensorProto.UINT8


@pytest.mark.parametrize(
    ("low", "high", "storage", "form", "wide"),
    [
        (0, 15, UINT8, "before", 4), (-8, 7, INT8, "before", 4), (-7, 7, INT8, "before", 4), (0, 3, UINT8, "before", 2),
        (0, 63, UINT8, "behind", 6), (-4, 3, INT8, "behind", 3), (-8, 7, INT8, "apart", 4), (0, 15, UINT8, "none", 8),
        (0, 127, INT8, "before", 8), (0, 20, UINT8, "before", 8), (0, 255, UINT8, "before", 8),
    ],
)  # fmt: skip
def test_a_clamp_of_others_is_a_width_where_it_leaves_a_whole_grid(
    low: int, high: int, storage: int, form: str, wide: int, tmp_path: Path
) -> None:
    """A ReLU's clamp is none, nor one between two widths: what is rounded has the type's then, which clamps itself."""
    found = facts_of(file(tmp_path / "made.onnx", grid(low, high, storage, form)))
    assert found.bits == f"W8A{wide}"
    assert found.operations is not None
    assert found.operations.bitops == INPUTS * CLASSES * 8 * wide


@pytest.mark.parametrize(
    ("low", "high", "kind", "label"),
    [
        (-128, 127, np.int8, "W8A8"), (-127, 127, np.int8, "W8A8"), (0, 200, np.uint8, "W8A8"),
        (-8, 7, np.int8, "W8A8 storage"), (0, 15, np.uint8, "W8A8 storage"), (-32, 31, np.int8, "W8A8 storage"),
    ],
)  # fmt: skip
def test_weights_of_others_that_may_be_narrower_are_told_by_their_storage(
    low: int, high: int, kind: Any, label: str, tmp_path: Path
) -> None:
    found = facts_of(file(tmp_path / "made.onnx", grid(0, 255, UINT8, "none"), low, high, kind))
    assert found.bits == label
    assert found.size is not None
    assert found.size.packed_mb == pytest.approx(INPUTS * CLASSES / 1e6, rel=0.01)


def test_a_row_says_storage_wherever_it_is_shown(tmp_path: Path) -> None:
    made = file(tmp_path / "made.onnx", grid(0, 15, UINT8, "before"), -8, 7)
    words = {"places": Places(), "wanted": PLAIN, "limit": 20, "threads": 1}
    row = evaluate_foreign(made, "digits", results=tmp_path / "results", **words)
    assert row.cell.id == "elsewhere[other]/classification/digits/made.onnx/W8A4 storage/seed0/limit20"
    (kept,) = read_rows(tmp_path / "results")
    for told in (results_table([kept], "plain"), results_table([kept], "csv"), row_view(kept)):
        assert "W8A4 storage" in told
    said = vitq_here("show", row.cell.id, "--results", tmp_path / "results")
    assert "W8A4 storage" in said.out, said


def test_weights_of_an_openvino_file_are_told_alike(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="the extra runtimes is not installed")
    for low, high, label in ((-127, 127, "W8A32"), (-8, 7, "W8A32 storage")):
        made = file(tmp_path / "made.onnx", [helper.make_node("Identity", ["x"], ["on_grid"])], low, high)
        openvino.save_model(openvino.convert_model(str(made)), str(tmp_path / "made.xml"), compress_to_fp16=False)
        assert facts_of(tmp_path / "made.xml").bits == label


@pytest.mark.parametrize(("most", "label"), [(127, "W8A32"), (7, "W8A32 storage")])
def test_weights_of_torchao_are_told_alike(most: int, label: str, tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    import timm

    made = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=1).eval()
    quantization.quantize_(made, quantization.Int8WeightOnlyConfig())
    for parameter in made.parameters():
        if hasattr(parameter, "qdata"):
            parameter.qdata.clamp_(-most - 1, most)
    torch.save(made.state_dict(), tmp_path / "ao.pt")
    with pytest.MonkeyPatch.context() as patch:
        real = timm.create_model
        patch.setattr(timm, "create_model", lambda name, **words: real(name, **words, depth=1))
        assert facts_of(tmp_path / "ao.pt", Wanted(like="vit_tiny_patch16_224")).bits == label


def product(macs: int, left: int, right: int, proven: bool) -> Counted:
    return Counted(Product("p", macs, left, right, 1, 0), proven)


def test_storage_is_said_where_most_of_the_macs_are_told_by_it() -> None:
    assert label_of([product(5, 8, 8, True), product(4, 8, 8, False)]) == "W8A8"
    assert label_of([product(4, 8, 8, True), product(5, 8, 8, False)]) == "W8A8 storage"
    assert label_of([product(4, 8, 4, False), product(5, 8, 8, True)]) == "W8A8"
    assert label_of([product(4, 32, 32, True)]) == "FP32"
    assert label_of([]) == "?"
    assert [needed(0, 0), needed(0, 1), needed(-8, 7), needed(-7, 7), needed(0, 16)] == [1, 1, 4, 4, 5]
