"""`vitq.evaluate` and `vitq.sensitivity`: accuracy with its error, and what each component costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from own_things import CLASSES, Residual, images, labelled, photographs, small_vit
from torch.utils.data import DataLoader, TensorDataset

import vitq
from vitq.datasets.digits import DIGITS
from vitq.datasets.preprocessing import Preprocessing

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def quantized() -> vitq.QuantizedModel:
    return vitq.quantize("digits_vit", "minmax", bits="W4A4", data="digits")


def test_a_packaged_model_has_the_accuracy_of_its_card() -> None:
    from vitq.tasks.names import card

    found = vitq.evaluate("digits_vit", "digits")
    assert (found.top1, found.n) == (pytest.approx(card("digits_vit").validation.metrics["top1"]), 600)
    assert found.stderr == pytest.approx(100 * np.sqrt(found.top1 / 100 * (1 - found.top1 / 100) / 600))
    assert [row["metric"] for row in found.table()] == ["top1", "top5"]
    assert f"{found.top1:.2f}" in str(found)


def test_two_evaluations_of_the_same_samples_are_paired(quantized, tmp_path: Path) -> None:
    before, after = (vitq.evaluate(model, "digits", limit=60) for model in ("digits_vit", quantized))
    change = after.against(before)
    assert change.difference == pytest.approx(after.top1 - before.top1)
    assert change.n == 60
    assert before.against(before).changed == 0
    file = quantized.save(tmp_path / "made.safetensors")
    assert vitq.evaluate(file, "digits", limit=60).output_sha256 == after.output_sha256
    with pytest.raises(vitq.BadInputError, match="not of the same samples"):
        after.against(vitq.evaluate(quantized, "digits", limit=50))
    with pytest.raises(vitq.BadInputError, match="no metric is called 'top2'"):
        after.against(before, "top2")


def test_images_that_the_caller_has(quantized) -> None:
    """The same samples as pair, loader and by name: the same outcomes."""
    how = Preprocessing((3, 24, 24), (0.5,) * 3, (0.5,) * 3, 1.0, "bilinear")
    from vitq.datasets.calibration import Calibration

    data = DIGITS.open(how, Calibration(), {}, limit=None, seed=0, workers=0)
    x, y = (torch.cat(part) for part in zip(*data.validation(), strict=True))
    named = vitq.evaluate(quantized, "digits")
    pair = vitq.evaluate(quantized, (x, y), batch=64)
    loader = vitq.evaluate(quantized, DataLoader(TensorDataset(x, y), batch_size=64))
    assert pair.top1 == loader.top1 == named.top1
    assert pair.output_sha256 == loader.output_sha256
    assert vitq.evaluate(quantized, (x, y), limit=70).n == 70


def test_any_module_that_gives_logits() -> None:
    model = Residual().train()
    found = vitq.evaluate(model, labelled(20))
    assert found.n == 20
    assert model.training


def test_a_folder_of_photographs(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photographs")
    made = vitq.quantize(small_vit(), "minmax", bits="W8A8", data=folder)
    found = vitq.evaluate(made, folder)
    assert found.n == len(CLASSES) * 10 - 32, "those that calibrate are held out"
    assert vitq.evaluate(small_vit(), folder).samples == found.samples


def test_a_file_that_others_wrote(quantized, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = quantized.export(tmp_path / "theirs.onnx").path
    theirs, ours = vitq.evaluate(file, "digits", limit=40), vitq.evaluate(quantized, "digits", limit=40)
    assert theirs.against(ours).changed <= 2
    traced = torch.jit.trace(small_vit().eval(), images(2))
    traced.save(tmp_path / "traced.pt")
    assert vitq.evaluate(tmp_path / "traced.pt", labelled(8)).top1 == vitq.evaluate(small_vit(), labelled(8)).top1
    torch.save(small_vit().state_dict(), tmp_path / "plain.pt")
    with pytest.raises(vitq.BadInputError, match="give architecture="):
        vitq.evaluate(tmp_path / "plain.pt", labelled(8))


BAD = {
    "no labels": ({"data": images(4)}, "no labels"),
    "a label": ({"data": (images(2), torch.tensor([1, 9]))}, "a label is 9"),
    "limit": ({"data": labelled(4), "limit": 0}, "at least 1 image"),
    "nothing": ({"data": None}, "data is a NoneType"),
    "no folder": ({"data": "gone"}, "no folder is there either"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, tmp_path: Path, monkeypatch) -> None:
    given, says = BAD[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vitq.BadInputError, match=says) as caught:
        vitq.evaluate(small_vit(), **given)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def alone() -> vitq.Sensitivity:
    return vitq.sensitivity("digits_vit", "digits", bits="W3A3", limit=60)


def test_what_each_block_costs(alone: vitq.Sensitivity) -> None:
    assert [row["component"] for row in alone.table()] == [
        "patch_embed.proj", *(f"blocks.{number}" for number in range(4)), "head",
    ]  # fmt: skip
    assert alone.fp32.value == vitq.evaluate("digits_vit", "digits", limit=60).top1
    assert alone.quantized.value < alone.fp32.value
    worst = max(alone.rows, key=lambda row: row.lost)
    assert worst.component == "blocks.0" == max(alone.rows, key=lambda row: row.estimated).component
    assert worst.change.stderr > 0
    assert sum(row.macs for row in alone.rows) == vitq.quantize("digits_vit", "fp32", bits="FP32").operations.macs
    assert "rank correlation" in str(alone)


def test_a_component_alone_is_what_quantizing_it_as_scope_gives(alone: vitq.Sensitivity) -> None:
    """PMQ's uniform allocation at the widths, over the part that is the component."""
    options = {"allocation": "uniform", "widths": [3]}
    made = vitq.quantize("digits_vit", "pmq", bits="W3A3", data="digits", scope="blocks.0", options=options)
    change = vitq.evaluate(made, "digits", limit=60).against(vitq.evaluate("digits_vit", "digits", limit=60))
    row = next(row for row in alone.rows if row.component == "blocks.0")
    assert row.change == change


def test_leaving_one_out_is_against_all_quantized(alone: vitq.Sensitivity) -> None:
    found = vitq.sensitivity("digits_vit", "digits", bits="W3A3", limit=60, mode="leave-one-out")
    assert found.quantized == alone.quantized
    first = next(row for row in found.rows if row.component == "blocks.0")
    assert first.lost > 0, "leaving out the block that costs most gains most"


def test_it_is_drawn(alone: vitq.Sensitivity, tmp_path: Path) -> None:
    for name in ("a.png", "b.svg", "c.pdf"):
        assert alone.plot(tmp_path / name).stat().st_size > 5000
    with pytest.raises(vitq.BadInputError, match="PNG, SVG or PDF"):
        alone.plot(tmp_path / "a.txt")


def test_layers_of_ones_own_model_on_ones_own_images() -> None:
    model = small_vit()
    found = vitq.sensitivity(model, labelled(20), by="layer", calibration_data=images(8), bits="W4A6")
    assert len(found.rows) == 1 + 2 * 6 + 1
    assert all(row.estimated >= 0 for row in found.rows)
    assert type(model.blocks[0].attn).__name__ == "Attention"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "blocks"}, "did you mean 'block'"),
        ({"mode": "one"}, "mode is 'one'"),
        ({"bits": "W8"}, "write W4A4"),
        ({"bits": "FP32"}, "2 to 8 bits"),
    ],
)
def test_bad_input_of_sensitivity_is_one_line(given, says) -> None:
    with pytest.raises(vitq.BadInputError, match=says):
        vitq.sensitivity(small_vit(), labelled(8), **given)
    with pytest.raises(vitq.UnsupportedError, match="no block"):
        vitq.sensitivity(Residual(), labelled(8))
