"""Models of one's own, named in a file of the site file's, run by the command line in the processes of cells."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from commands import vitq_here
from places import vitq
from safetensors.torch import save_file

from vitq.benchmarks.run.store import read_rows
from vitq.tasks import names

OWN = """
name: own
tasks: [{dataset: digits, models: [scans, registers], limit: 20}]
bits: [W8A8]
calibration: {images: 4, batch: 4}
measure: [accuracy, counts]
threads: 1
methods: [minmax, {method: i_vit, options: {epochs: 0}, models: [registers]}]
"""
ARGS = {"patch_size": 8, "depth": 1}
MODELS = """
- name: scans
  architecture: vit_tiny_patch16_224
  weights: scans.safetensors
  args: {patch_size: 8, depth: 1}
- name: registers
  architecture: vit_tiny_patch16_224
  weights: registers.safetensors
  args: {patch_size: 8, depth: 1, reg_tokens: 2}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    for name, args in {"scans": ARGS, "registers": {**ARGS, "reg_tokens": 2}}.items():
        model = timm.create_model("vit_tiny_patch16_224", img_size=24, num_classes=10, **args)
        save_file(model.state_dict(), tmp_path / f"{name}.safetensors")
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "vitq.toml").write_text('models = "models.yaml"\n')
    (tmp_path / "own.yaml").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_they_run_as_any_other_and_no_figure_speaks_of_them(place: Path) -> None:
    done = vitq("run", "own.yaml", "--results", "r", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {(row.cell.model, row.cell.method): row for row in read_rows(place / "r")}
    assert {key: row.status for key, row in rows.items()} == {
        ("scans", "minmax"): "done", ("registers", "minmax"): "done", ("registers", "i_vit"): "unsupported",
    }  # fmt: skip
    assert rows["scans", "minmax"].metrics["top1"].n == 20
    assert [row.paper_name for row in rows.values()] == [None] * 3
    assert "I-ViT does not serve register tokens" in str(rows["registers", "i_vit"].error)
    assert "no-figure" in vitq("compare", "own.yaml", "--results", "r", cwd=place).stdout


def test_a_broken_models_file_is_one_line_of_any_command(place: Path) -> None:
    (place / "models.yaml").write_text("- name: scans\n  architecture: vit_tny_patch16_224\n")
    line = "models.yaml line 2: no model is called 'vit_tny_patch16_224'; did you mean"
    vitq_here("run", "own.yaml", "--dry-run").refused(line)
    assert names.models().registered == {}
