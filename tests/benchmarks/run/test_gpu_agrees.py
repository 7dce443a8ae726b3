"""What is measured on a GPU is what is measured on the CPU: outcomes within float noise, grids equal, memory told.

On a GPU sums are rounded in another order. At 4 bits a value on the border between two codes then takes the other one,
so that single samples flip; what a cell may move is what `vitq gate` allows between two machines. RepQ-ViT's grids are
made of minima, maxima and quantiles of activations, which move by the rounding of the activations and by no more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpus import needs_gpus
from places import vitq

import vitq as library
from vitq.benchmarks.gate import gate, read_baseline
from vitq.benchmarks.run.store import read_rows
from vitq.rows import Row, by_cell

NOISE = 1e-4
"""Of a grid's step, relative: float32 rounds to 6e-8, which a dozen blocks of a ViT make some hundred times as much."""
SMALL = """
name: small
description: One cell.
tasks: [{task: classification, dataset: digits, models: [digits_vit]}]
bits: [W8A8]
threads: 1
methods: [repq_vit]
"""
SMOKE = "not psaq_vit* and not binary_vit* and not pmq*random*"
PROXY = "fp32/ or minmax/ or repq_vit/ or i_vit*post-training*"
SITE = """
[datasets]
imagenet-proxy = "{data}/imagenet-proxy"
[weights]
folder = "{data}/weights"
"""
Compared = Callable[..., tuple[list[Row], list[Row]]]


@pytest.fixture
def both(tmp_path: Path) -> Compared:
    """Rows of one suite's cells on the CPU, and on another device."""

    def run(suite: str, device: str, pick: str, *words: str) -> tuple[list[Row], list[Row]]:
        found = []
        for name, where in (("cpu", "cpu"), ("other", device)):
            asked = ["run", suite, "-k", pick, "--device", where, "--results", name, *words]
            done = vitq(*asked, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            found.append(read_rows(tmp_path / name))
        return found[0], found[1]

    return run


def check(cpu: list[Row], other: list[Row], device: str) -> None:
    """Every cell is there, computed where it was asked for, and within what two machines may differ by."""
    assert {row.cell.id for row in cpu} == {row.cell.id for row in other}
    assert {row.provenance.device.partition(":")[0] for row in other} == {device}
    assert not [(row.cell.id, row.error) for row in other if row.status not in ("done", "unsupported")]
    assert all(row.peak_memory_mb for row in other if row.status == "done")
    told = gate(read_baseline(folder_of(cpu)), other)
    assert told.exit_code == 0, [row for row in told.rows if row.verdict not in ("same", "within")]
    assert told.compared == sum(row.status == "done" for row in cpu)


def folder_of(rows: list[Row]) -> Path:
    """The results folder that rows were read from."""
    folder = rows[0].folder
    assert folder is not None
    return folder


def grids(row: Row) -> dict[str, torch.Tensor]:
    """Scales and zero points of a stored model, by name."""
    assert row.model_file is not None
    model = library.load(folder_of([row]) / row.model_file.path)
    return {name: value for name, value in model.state_dict().items() if name.endswith(("scale", "zero_point"))}


def check_grids(cpu: list[Row], other: list[Row]) -> None:
    """RepQ-ViT's and min/max's grids: zero points equal, steps within float noise."""
    elsewhere, held = by_cell(other), 0
    for row in cpu:
        if row.cell.method not in ("repq_vit", "minmax") or row.status != "done":
            continue
        ours, theirs = grids(row), grids(elsewhere[row.cell.id])
        assert ours.keys() == theirs.keys()
        assert ours
        for name, value in ours.items():
            assert torch.allclose(value, theirs[name], rtol=NOISE, atol=NOISE), (row.cell.id, name)
            held += 1
    assert held


@pytest.mark.slow
def test_a_device_agrees_with_itself(both: Compared, tmp_path: Path) -> None:
    """The comparison below, where no GPU is: it has something to compare, and finds it equal."""
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    cpu, again = both("small.yaml", "cpu", "*", "--limit", "50")
    check(cpu, again, "cpu")
    check_grids(cpu, again)


@pytest.mark.cuda
@pytest.mark.slow
@needs_gpus()
def test_smoke_on_a_gpu_agrees_with_the_cpu(both: Compared) -> None:
    cpu, gpu = both("smoke", "cuda", SMOKE)
    check(cpu, gpu, "cuda")
    check_grids(cpu, gpu)


@pytest.mark.cuda
@pytest.mark.slow
@needs_gpus()
def test_proxy_on_a_gpu_agrees_with_the_cpu(both: Compared, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "vitq.toml").write_text(SITE.format(data=shared / "data"), encoding="utf-8")
    cpu, gpu = both("proxy", "cuda", PROXY)
    check(cpu, gpu, "cuda")
    check_grids(cpu, gpu)
