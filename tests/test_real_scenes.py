"""The papers' detectors and segmenters at full size on real photographs, by the command line.

Their weights cannot be had here: random ones lie in local files, named as the site file asks. So everything runs that a
user of COCO and ADE20K runs, and no number means anything: verdicts must say so.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from packages import install
from places import vitq
from safetensors.torch import save_file

from vitq import mm
from vitq.benchmarks.run.store import read_rows
from vitq.rows import Row
from vitq.tasks.names import model_entry
from vitq.tasks.registry import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(mm.why_absent() is not None, reason=str(mm.why_absent())),
    pytest.mark.timeout(3600),
]
DETECTOR, SEGMENTER = "mask_rcnn_swin_tiny.ms_3x", "upernet_swin_tiny.ms_160k"
FAMILIES = [DETECTOR, "cascade_mask_rcnn_swin_tiny.ms_3x", SEGMENTER, "upernet_deit_small.mmseg_160k"]
METHODS = [
    {"method": "fp32", "bits": ["FP32"]},
    "minmax",
    "repq_vit",
    {"method": "repq_vit", "variant": "whole", "scope": "model"},
    {"method": "psaq_vit", "options": {"iterations": 1}},
    {"method": "psaq_vit_v2", "options": {"cycles": 1, "image_steps": 1, "training_steps": 1}},
    "pmq",
    {"method": "i_vit", "options": {"epochs": 0}},
    {"method": "binary_vit", "options": {"epochs": 0}, "bits": ["W1A1"]},
]
"""With as few steps as there can be: what is asked is whether it runs."""
MODELS = """\
from vitq.rows import Row
from vitq.tasks.names import ModelEntry, model_entries

OWN = {"sha256_prefix": None, "url": None, "expected": {}}
ENTRIES = [
    ModelEntry(**{**model_entries()[name].model_dump(by_alias=True), **OWN, "name": f"random.{name}"})
    for name in FAMILIES
]
"""
"""A package of models like the papers' that are held to no published file."""
DATA = {"detection": ("coco-2017", "val2017"), "segmentation": ("ade20k", "validation")}


def run(model: str, methods: list[object], limit: int, root: Path, data: Path) -> dict[str, Row]:
    """Run methods on a model with random weights, scope backbone, calibrated on one image; the rows by cell."""
    torch.manual_seed(0)
    task, name = model_entry(model).task, f"random.{model}"
    built = load(task).build_model(model)
    save_file({key: tensor.contiguous() for key, tensor in built.state_dict().items()}, root / f"{name}.safetensors")
    del built
    names = {f"random.{each}": "random_weights:ENTRIES" for each in FAMILIES}
    files = {"random_weights.py": f"FAMILIES = {FAMILIES!r}\n{MODELS}"}
    install(root / "packages", "random-weights", {"vitq.models": names}, files)
    dataset, split = DATA[task]
    suite = {
        "name": "real", "threads": 1, "bits": ["W8A8"], "methods": methods,
        "calibration": {"images": 1, "batch": 1, "list": "first", "split": split, "train_batch": 1},
        "tasks": [{"task": task, "dataset": dataset, "models": [name], "scope": "backbone", "limit": limit}],
    }  # fmt: skip
    (root / "real.yaml").write_text(yaml.safe_dump(suite))
    (root / "vitq.toml").write_text(
        f'[datasets]\ncoco-2017 = "{data / "coco"}"\nade20k = "{data / "ADEChallengeData2016"}"\n'
        f'[weights]\nhere = "{root}"\n'
    )
    done = command(root, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return {row.cell.id: row for row in read_rows(root / "r")}


def command(root: Path, word: str) -> subprocess.CompletedProcess[str]:
    """A command of vitq on that suite, with the package installed."""
    env = {"PYTHONPATH": str(root / "packages")}
    return vitq(word, "real.yaml", "--results", "r", cwd=root, env=env, timeout=3500)


def test_repq_vit_on_a_paper_s_detector(shared: Path, tmp_path: Path) -> None:
    rows = run(DETECTOR, [METHODS[0], "repq_vit"], 1, tmp_path, shared / "data")
    assert [row.status for row in rows.values()] == ["done", "done"]
    quantized = next(row for cell, row in rows.items() if cell.startswith("repq_vit"))
    assert quantized.size is not None
    assert quantized.size.packed_mb < 0.6 * quantized.size.fp32_mb
    told = command(tmp_path, "compare").stdout
    assert "not-comparable" in told
    assert "reproduced" not in told
    report = command(tmp_path, "report")
    assert report.returncode == 0, report.stderr
    assert list((tmp_path / "r").rglob("predictions_*.png"))


def test_published_files_are_held_to_their_digests_as_a_run_is_planned(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "vitq.toml").write_text(
        f'[datasets]\nade20k = "{shared / "data" / "ADEChallengeData2016"}"\n[weights]\nhere = "{tmp_path}"\n'
    )
    known = "upernet_swin_tiny.mmseg_160k"
    for model in (SEGMENTER, known):
        torch.save({"state_dict": {}}, tmp_path / str(model_entry(model).url).rpartition("/")[2])
    env = {"VITQ_CACHE": str(tmp_path / "cache")}

    def planned(model: str, *words: str) -> tuple[int, list[str]]:
        asked = ("run", "full", "-k", f"fp32 and {model}", "--dry-run")
        done = vitq(*asked, *words, cwd=tmp_path, env=env)
        return done.returncode, done.stderr.splitlines()

    code, (told,) = planned(SEGMENTER)
    assert code == 2
    assert "run with --trust to take it" in told
    assert planned(SEGMENTER, "--trust") == (0, [])
    site = (tmp_path / "vitq.toml").read_text()
    (tmp_path / "vitq.toml").write_text(f"trust = true\n{site}")
    assert planned(SEGMENTER) == (0, [])
    code, (told,) = planned(known)  # no word of the user's makes it another file
    assert code == 2
    assert "is e380ad3e... by its published name: fetch https://" in told


@pytest.mark.long
@pytest.mark.parametrize("model", FAMILIES)
def test_every_method_on_a_model_of_each_family(shared: Path, tmp_path: Path, model: str) -> None:
    rows = run(model, METHODS, 4 if "coco" in DATA[model_entry(model).task][0] else 2, tmp_path, shared / "data")
    assert len(rows) == len(METHODS)
    assert {row.status for row in rows.values()} == {"done"}
