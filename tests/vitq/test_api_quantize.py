"""`vitq.quantize`: any method on a model of one's own, on data of every kind; and the very result of a suite's cell."""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path

import pytest
import torch
from commands import vitq_here
from own_things import CLASSES, SIDE, Residual, images, labelled, photographs, small_vit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vitq
from vitq.benchmarks.run.store import read_rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SHORT = {"calibration": "generated", "images": 2, "iterations": 1}
EVERY = [
    ("fp32", "FP32", {}, None),
    ("minmax", "W8A8", {}, None),
    ("repq_vit", "W4A4", {}, None),
    ("psaq_vit", "W8A8", SHORT, None),
    ("psaq_vit_v2", "W8A8", {"images": 2, "image_steps": 1, "training_steps": 1, "cycles": 1}, None),
    ("pmq", "W4A4", {"frontier_points": 64}, None),
    ("i_vit", "W8A8", {"epochs": 0}, None),
    ("i_vit", "W8A8", {"epochs": 1}, "train"),
    ("binary_vit", "W1A1", {"epochs": 1}, "train"),
]


@pytest.mark.parametrize(("method", "bits", "options", "train"), EVERY, ids=[f"{m}-{o}" for m, _, o, _ in EVERY])
def test_every_method_quantizes_a_model_of_ones_own(method, bits, options, train, tmp_path) -> None:
    model = small_vit()
    before = copy.deepcopy(model.state_dict())
    reads = vitq.method_card(method).reads_data("calibration", options)
    made = vitq.quantize(
        model, method, bits=bits, data=images() if reads else None, train=labelled() if train else None,
        options=options,
    )  # fmt: skip
    logits = made(images(2, seed=1))
    assert logits.shape == (2, len(CLASSES))
    assert logits.isfinite().all()
    assert (made.method, made.bits, made.scope) == (method, bits, "model")
    assert made.size.packed_mb <= made.size.fp32_mb * 1.01
    assert made.operations.macs > 0
    rows = made.layers()
    assert sum(row["packed_bytes"] for row in rows) == pytest.approx(made.size.packed_mb * 1e6)
    assert sum(row["macs"] for row in rows) == made.operations.macs
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert vitq.load(made.save(tmp_path / "made.safetensors")).size == made.size


def test_the_given_model_keeps_its_mode_and_place() -> None:
    model = small_vit().train()
    made = vitq.quantize(model, "minmax", bits="W8A8", data=images())
    assert model.training
    assert not made.training
    assert type(model.blocks[0].attn).__name__ == "Attention"
    assert made.num_classes == len(CLASSES)
    assert isinstance(made, nn.Module)
    assert torch.equal(copy.deepcopy(made)(images(2)), made(images(2)))


def test_nothing_global_is_changed() -> None:
    from vitq.methods.toolkit import devices

    before, dice = devices.settings(), torch.get_rng_state()
    vitq.quantize(small_vit(), "minmax", bits="W8A8", data=images())
    torch.set_rng_state(dice)
    vitq.quantize(small_vit(), "minmax", bits="W8A8", data=images())
    small_vit()
    again = torch.get_rng_state()
    torch.set_rng_state(dice)
    small_vit()
    assert torch.equal(again, torch.get_rng_state())
    assert devices.settings() == before


def test_data_of_every_kind_that_holds_the_same_images_gives_the_same_model() -> None:
    whole = images(32)
    loader = DataLoader(TensorDataset(whole, torch.zeros(32, dtype=torch.long)), batch_size=8)
    given = [whole, (whole, torch.zeros(32, dtype=torch.long)), loader, [whole[:20], whole[20:]], iter([whole])]
    made = [vitq.quantize(small_vit(), "minmax", bits="W4A4", data=data)(images(2, seed=1)) for data in given]
    assert all(torch.equal(each, made[0]) for each in made)


def test_a_folder_is_prepared_as_the_model_wants_it(tmp_path: Path) -> None:
    sorted_by_class = photographs(tmp_path / "photographs")
    made = vitq.quantize(small_vit(), "repq_vit", data=sorted_by_class)
    assert made.preprocessing.size == (3, SIDE, SIDE)
    assert made.preprocessing.mean == (0.5, 0.5, 0.5)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(sorted_by_class.rglob("*.jpg"))):
        path.rename(flat / f"{number:03}.jpg")
    unlabelled = vitq.quantize(small_vit(), "repq_vit", data=str(flat), images=8)
    assert unlabelled(images(1)).isfinite().all()


def test_a_folder_of_other_classes_calibrates(tmp_path: Path) -> None:
    made = vitq.quantize(small_vit(), "minmax", bits="W8A8", data=photographs(tmp_path / "two", 4, ("a", "b")))
    assert made(images(1)).isfinite().all()


def test_images_batch_and_preprocessing_can_be_said(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photographs", each=2)
    how = {"size": (3, SIDE, SIDE), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    known = {"data": folder, "images": 4, "bits": "W8A8"}
    plain = vitq.quantize(small_vit(), "minmax", **known)
    other = vitq.quantize(small_vit(), "minmax", preprocessing=how, batch=2, **known)
    assert other.preprocessing.std == (1.0, 1.0, 1.0)
    assert not torch.equal(plain(images(1)), other(images(1)))
    assert other.details.calibration_batches == 2


def test_a_part_alone_is_quantized() -> None:
    made = vitq.quantize(small_vit(), "minmax", bits="W4A4", data=images(), scope="blocks")
    assert made.scope == "blocks"
    widths = {row["path"]: row["right_bits"] for row in made.layers() if row["macs"]}
    assert widths["head"] == 32
    assert widths["blocks.0.attn.qkv"] == 4


def test_a_checkpoint_and_a_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = small_vit(depth=12, embed_dim=192)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    made = vitq.quantize(
        tmp_path / "mine.safetensors", "minmax", bits="W8A8", data=images(8), architecture="vit_tiny_patch16_224",
        img_size=SIDE,
    )  # fmt: skip
    mine = vitq.quantize(model, "minmax", bits="W8A8", data=images(8))
    assert torch.equal(made(images(2)), mine(images(2)))
    assert vitq.quantize("digits_vit", "minmax", bits="W8A8", data=images(8, 24)).num_classes == 10


def test_half_precision_is_taken_as_float32() -> None:
    with pytest.warns(UserWarning, match="bfloat16 weights are taken as float32"):
        made = vitq.quantize(small_vit().bfloat16(), "minmax", bits="W8A8", data=images(8))
    assert made(images(1)).dtype == torch.float32


def digest(logits: torch.Tensor) -> str:
    return hashlib.sha256(logits.float().contiguous().numpy().tobytes()).hexdigest()


@pytest.mark.slow
def test_it_is_the_model_of_a_suites_cell_bit_for_bit(tmp_path: Path, monkeypatch) -> None:
    """The outputs that a cell's record tells of, and its file's every tensor."""
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.yaml").write_text(
        "name: one\ntasks: [{dataset: digits, models: [digits_vit], limit: 100}]\nmethods: [{method: repq_vit}]\n"
        "bits: [W4A4]\nmeasure: [accuracy, counts]\n"
    )
    said = vitq_here("run", "one.yaml", "--results", "r")
    assert said.code == 0, said
    (row,) = read_rows(tmp_path / "r")
    threads = torch.get_num_threads()
    torch.set_num_threads(row.provenance.threads)
    try:
        made = vitq.quantize("digits_vit", "repq_vit", bits="W4A4", data="digits", calibration=row.cell.calibration)
        found = vitq.evaluate(made, "digits", limit=100)
    finally:
        torch.set_num_threads(threads)
    assert found.output_sha256 == row.output_sha256
    assert found.top1 == row.metrics["top1"].value
    assert (made.size, made.operations) == (row.size, row.operations)
    ours = load_file(made.save(tmp_path / "made.safetensors"))
    theirs = load_file(tmp_path / "r" / row.model_file.path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


BAD = {
    "no method": (("repq_vitt",), {"data": "x"}, "did you mean 'repq_vit'"),
    "no width": (("minmax", "4"), {}, "write W4A4"),
    "no data": (("minmax", "W8A8"), {}, "minmax calibrates on images: give data="),
    "an option": (("repq_vit", "W4A4"), {"options": {"sofmax": "log2"}}, "did you mean 'softmax'"),
    "a value": (("repq_vit", "W4A4"), {"options": {"softmax": "log3"}}, "did you mean 'log2'"),
    "options": (("repq_vit", "W4A4"), {"options": ["log2"]}, "options is \\['log2'\\]"),
    "no scope": (("minmax", "W8A8"), {"data": images(4), "scope": "backbone"}, "has no module 'backbone'"),
    "no training data": (("i_vit", "W8A8"), {"data": images(4)}, "give train="),
    "the size": (("minmax", "W8A8"), {"data": images(4, 24)}, "the model wants \\[N, 3, 32, 32\\]"),
    "no image": (("minmax", "W8A8"), {"data": images(0)}, "holds no images"),
    "no folder": (("minmax", "W8A8"), {"data": Path("gone")}, "gone"),
    "no data set": (("minmax", "W8A8"), {"data": "digit"}, "did you mean"),
    "what data": (("minmax", "W8A8"), {"data": 3}, "data is a int"),
    "a setting": (("minmax", "W8A8"), {"data": images(4), "calibration": {"image": 3}}, "did you mean 'images'"),
    "a device": (("minmax", "W8A8"), {"data": images(4), "device": "gpu"}, "device 'gpu'"),
    "preprocessing": (("minmax", "W8A8"), {"data": images(4), "preprocessing": {"mean": 3}}, "preprocessing is"),
    "architecture": (("minmax", "W8A8"), {"data": images(4), "architecture": "vit_small_patch16_224"}, "is not that"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, monkeypatch, tmp_path) -> None:
    words, more, says = BAD[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vitq.BadInputError, match=says) as caught:
        vitq.quantize(small_vit(), *words, **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        (3, {}, "model is a int"),
        ("vit_tiny_patch16_224.mine", {}, "vit_tiny_patch16_224"),
        ("resnet", {}, "no model is called"),
        ("gone.safetensors", {}, "there is no checkpoint gone.safetensors"),
        (Residual(), {"data": None}, "preprocessing="),
    ],
)
def test_what_is_no_model_is_one_line(model, more, says, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(vitq.BadInputError, match=says) as caught:
        vitq.quantize(model, "psaq_vit", bits="W8A8", **more)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_says_of_what_it_is(tmp_path: Path) -> None:
    torch.save(small_vit().state_dict(), tmp_path / "mine.pth")
    with pytest.raises(vitq.BadInputError, match="give architecture="):
        vitq.quantize(tmp_path / "mine.pth", "minmax", bits="W8A8", data=images(4))


@pytest.mark.parametrize(("method", "bits", "says"), [("i_vit", "W4A4", "INT8"), ("binary_vit", "W4A4", "binary")])
def test_widths_that_a_method_does_not_have_are_unsupported(method: str, bits: str, says: str) -> None:
    with pytest.raises(vitq.UnsupportedError, match=says):
        vitq.quantize(small_vit(), method, bits=bits, data=images(4))


def test_a_class_that_no_adapter_knows_is_unsupported() -> None:
    with pytest.raises(vitq.UnsupportedError, match="no block that an architecture adapter knows"):
        vitq.quantize(Residual(), "minmax", bits="W8A8", data=images(4))


def test_labels_that_are_needed_and_not_given_are_one_line() -> None:
    with pytest.raises(vitq.BadInputError, match="labels are needed"):
        vitq.quantize(small_vit(), "pmq", data=images(8), options={"labels": "task"})


def test_a_loader_trains(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(*labelled()), batch_size=8, shuffle=True)
    kept = tmp_path / "kept"
    made = vitq.quantize(
        small_vit(), "binary_vit", bits="W1A1", data=images(), train=loader, options={"epochs": 1}, artifacts=kept
    )
    assert len(made.details.training) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made(images(1)).isfinite().all()
    with pytest.raises(vitq.BadInputError, match="iterated every epoch"):
        vitq.quantize(small_vit(), "binary_vit", bits="W1A1", data=images(), train=iter(loader), options={"epochs": 1})
