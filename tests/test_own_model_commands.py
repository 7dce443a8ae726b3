"""A model and photographs of one's own by the command line: run, quantize, evaluate, sensitivity."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import timm
import torch
from commands import Said, vitq_here
from own_things import CLASSES, photographs
from PIL import Image
from places import vitq

MINE = ("--architecture", "vit_tiny_patch16_224", "--img-size", "32")


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT-Tiny of timm's for 32 x 32 pixels and seven classes, as a training script saved it, and photographs."""
    root = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=len(CLASSES), img_size=32)
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, root / "mine.pth")
    photographs(root / "photos")
    (root / "bad.pth").write_bytes(b"no checkpoint")
    return root


@pytest.fixture(autouse=True)
def _here(things: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(things)
    monkeypatch.delenv("VITQ_SITE", raising=False)


def good(*words: object) -> Said:
    said = vitq_here(*words)
    assert said.code == 0, said
    return said


@pytest.fixture(scope="module")
def ran(things: Path) -> subprocess.CompletedProcess[str]:
    words = ("run", "--model", "mine.pth", *MINE, "--method", "min*", "--bits", "W8A8", "--data", "photos")
    return vitq(*words, "--limit", 14, "--images", 16, "--format", "json", cwd=things)


@pytest.mark.slow
def test_a_run_without_a_suite_has_fp32_beside_it_and_resumes(
    ran: subprocess.CompletedProcess[str], things: Path
) -> None:
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert [(r["method"], r["model"], r["dataset"], r["bits"]) for r in rows] == [
        ("fp32", "mine", "photos", "FP32"), ("minmax", "mine", "photos", "W8A8"),
    ]  # fmt: skip
    assert all(r["top1_n"] == 14 for r in rows)
    words = ("run", "--model", "mine.pth", *MINE, "--method", "minmax", "--bits", "W8A8", "--data", "photos")
    assert "2 of them finished before" in good(*words, "--limit", 14, "--images", 16).out
    assert "minmax/classification/photos/mine/W8A8" in good("show", "minmax", "own").out
    assert vitq_here("compare", "own").code == 4
    good("report", "own")
    assert "nothing" in good("clean", "own").out or "deleted" in good("clean", "own").out


@pytest.mark.slow
def test_quantize_writes_what_evaluate_reads() -> None:
    words = ("quantize", "mine.pth", *MINE, "--method", "minmax", "--bits", "W8A8", "--data", "photos", "-q")
    (row,) = json.loads(good(*words, "-o", "small.safetensors", "--format", "json").out)
    assert (row["method"], row["bits"], row["runs as"]) == ("minmax", "W8A8", "fake-quant")
    assert float(row["FP32 MB"]) > 3 * float(row["packed MB"])
    vitq_here(*words, "-o", "small.safetensors").refused("is there already", "--overwrite")
    good(*words, "-o", "small.safetensors", "--overwrite")
    rows = json.loads(good("evaluate", "small.safetensors", "--data", "photos", "--format", "json", "-q").out)
    assert {r["metric"]: r["n"] for r in rows} == {"top1": 38, "top5": 38}, "32 of 70 are held out"
    vitq_here("run", "--model", "small.safetensors", "--method", "minmax", "--bits", "W8A8").refused("vitq evaluate")


@pytest.mark.slow
def test_what_others_quantized_becomes_a_row() -> None:
    pytest.importorskip("onnxruntime")
    words = ("quantize", "digits_vit", "--method", "minmax", "--bits", "W8A8", "-q", "-o", "d.safetensors")
    good(*words)
    good("export", "d.safetensors", "-o", "d.onnx")
    (row,) = json.loads(good("evaluate", "d.onnx", "--dataset", "digits", "--limit", 50, "--format", "json").out)
    assert (row["method"], row["model"], row["top1_n"]) == ("elsewhere", "d.onnx", 50)
    rows = json.loads(good("evaluate", "d.safetensors", "--dataset", "digits", "--limit", 50, "--format", "json").out)
    assert abs(row["top1"] - rows[0]["value"]) <= 2, "the same model on other kernels"


@pytest.mark.slow
def test_sensitivity_is_a_table_and_a_picture() -> None:
    said = good("sensitivity", "digits_vit", "--limit", 40, "--format", "json", "-o", "cost.png", "-q")
    rows = json.loads(said.out)
    assert [r["component"] for r in rows] == ["patch_embed.proj", *(f"blocks.{i}" for i in range(4)), "head"]
    assert Path("cost.png").read_bytes()[:4] == b"\x89PNG"
    assert "top1" in said.err


OWN = ("run", "--model", "digits_vit", "--method", "minmax", "--bits", "W4A4")
CHECKPOINT = ("run", "--method", "minmax", "--bits", "W4A4", "--data", "photos", "--model")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--model", "digits_vit"), "name a method by --method"),
        (("run", "--method", "minmax"), "name a model by --model"),
        (("run", "--model", "digits_vit", "--method", "minmax"), "--bits"),
        (("run", "--model", "digits_vit", "--method", "minmx", "--bits", "W4A4"), "did you mean 'minmax'?"),
        (("run", "--model", "digits_vit", "--method", "zz*", "--bits", "W4A4"), "zz*"),
        (("run", "--model", "digits_vitt", "--method", "minmax", "--bits", "W4A4"), "did you mean 'digits_vit'"),
        (("run", "--model", "zzzz*", "--method", "minmax", "--bits", "W4A4"), "no model's name fits"),
        (("run", "--model", "digits_vit", "--method", "minmax", "--bits", "4"), "not a bit width"),
        (("run", "--model", "digits_vit", "--method", "binary_vit", "--bits", "W4A4"), "W1A1 alone"),
        (("run", "--model", "vit_tiny_patch16_224", "--method", "minmax", "--bits", "W4A4"), "--data FOLDER"),
        (("run", "smoke", "--bits", "W4A4"), "--bits is of a run without a suite"),
        (("run", "smoke", "--model", "digits_vit"), "--model is of a run without a suite"),
        ((*OWN, "--dataset", "digis"), "did you mean 'digits'"),
        ((*OWN, "--dataset", "digits", "--data", "photos"), "give one of them"),
        ((*OWN, "--dataset", "coco-2017"), "is for detection"),
        ((*OWN, "--labels", "x.csv"), "--labels"),
        ((*OWN, "--data", "nowhere"), "not there"),
        ((*OWN, "--data", "photos"), "7 classes"),
        ((*OWN, "--num-classes", "7"), "--num-classes is for a checkpoint"),
        ((*OWN, "--architecture", "deit_tiny_patch16_224"), "--architecture is for a checkpoint"),
        ((*OWN, "--set", "x=1"), "minmax has no options"),
        ((*OWN, "--seed", "-1"), "--seed"),
        ((*OWN, "--models", "nowhere.yaml"), "nowhere.yaml"),
        ((*CHECKPOINT, "nowhere.pth"), "no file is there"),
        ((*CHECKPOINT, "mine.pth"), "--architecture"),
        ((*CHECKPOINT, "mine.pth", "--architecture", "vit_tinny_patch16_224"), "did you mean"),
        ((*CHECKPOINT, "bad.pth", "--architecture", "vit_tiny_patch16_224"), "bad.pth"),
        (("quantize", "digits_vit", "--method", "minmax", "-o", "x.onnx"), "must end in .safetensors"),
        (("quantize", "digits_vit", "--method", "minmax", "-o", "gone/x.safetensors"), "no folder"),
        (("quantize", "digits_vit", "--method", "minmx", "-o", "x.safetensors"), "did you mean 'minmax'"),
        (("quantize", "digits_vit", "--method", "minmax", "--bits", "W99", "-o", "x.safetensors"), "bit width"),
        (("quantize", "digits_vit", "--method", "binary_vit", "--bits", "W4A4", "-o", "x.safetensors"), "W1A1 alone"),
        (
            ("quantize", "digits_vit", "--method", "minmax", "--data", "gone", "-o", "x.safetensors"),
            "no folder is there",
        ),
        (("quantize", "mine.pth", *MINE, "--method", "minmax", "-o", "x.safetensors"), "give --data FOLDER"),
        (("quantize", "digits_vit", "--method", "minmax"), "--out"),
        (("evaluate", "nosuch_model", "--dataset", "digits"), "nosuch_model"),
        (("evaluate", "gone.safetensors", "--dataset", "digits"), "gone.safetensors"),
        (("evaluate", "gone.onnx", "--dataset", "digits"), "gone.onnx"),
        (("evaluate", "bad.pth", "--dataset", "digits"), "bad.pth"),
        (("evaluate", "mine.pth", "--dataset", "digits"), "architecture"),
        (("evaluate", "digits_vit", "--like", "digits_vit"), "--like"),
        (("evaluate", "digits_vit", "--device", "cuda:99"), "cuda:99"),
        (("sensitivity", "digits_vit", "--bits", "W99A1"), "bit width"),
        (("sensitivity", "digits_vit", "-o", "x.txt"), "must end in .png"),
        (("sensitivity", "digits_vit", "--by", "head"), "by is 'head'"),
        (("sensitivity", "mine.pth", *MINE), "labelled images"),
    ],
)
def test_a_wrong_word_is_one_line_and_nothing_is_made(words: tuple[str, ...], says: str) -> None:
    before = sorted(Path().rglob("*"))
    vitq_here(*words).refused(says)
    assert sorted(Path().rglob("*")) == before


@pytest.fixture(scope="module")
def partial_to_first(things: Path) -> Path:
    """A model that says 0 of every image, three photographs of `ant` and one of `bee`, and the other order of these."""
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, img_size=32, depth=1)
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([100.0, 0.0]))
    torch.save(model.state_dict(), things / "partial.pth")
    for name, count in (("ant", 3), ("bee", 1)):
        (things / "uneven" / name).mkdir(parents=True)
        for i in range(count):
            noise = torch.randint(256, (40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
            Image.fromarray(noise.numpy()).save(things / "uneven" / name / f"{i}.png")
    (things / "order.txt").write_text("bee\nant\n")
    (things / "models.yaml").write_text(
        "- {name: partial, architecture: vit_tiny_patch16_224, weights: partial.pth, img_size: 32, args: {depth: 1}}\n"
    )
    return things


@pytest.mark.parametrize(("words", "right"), [((), 75.0), (("--classes", "order.txt"), 25.0)])
def test_the_order_of_the_classes_is_the_models_own(
    partial_to_first: Path, words: tuple[str, ...], right: float, tmp_path: Path
) -> None:
    given = ("--models", "models.yaml", "--data", "uneven", *words, "--quiet")
    plain = good("evaluate", "partial", *given, "--format", "json")
    assert json.loads(plain.out)[0]["value"] == right
    good("quantize", "partial", "--method", "minmax", "--bits", "W8A8", *given, "-o", tmp_path / "m.safetensors")
    again = good("evaluate", tmp_path / "m.safetensors", "--data", "uneven", *words, "--quiet", "--format", "json")
    assert json.loads(again.out)[0]["value"] == right
    cost = good("sensitivity", "partial", *given)
    assert f"top1 {right:.2f} in FP32" in cost.out + cost.err


def test_an_order_of_classes_without_a_folder_is_one_line(partial_to_first: Path) -> None:
    said = vitq_here("evaluate", "digits_vit", "--classes", "order.txt")
    said.refused("--classes says in which order its classes are: give the folder by --data")
