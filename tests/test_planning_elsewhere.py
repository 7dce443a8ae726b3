"""A dry run plans for any machine: more cells at once, threads and GPUs than this one has, to which a run is held."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from commands import Said, vitq_here

FULL = ("run", "full", "-k", "binary_vit and imagenet and deit_small", "--dry-run")
TINY = "name: tiny\ntasks: [{dataset: digits, models: [digits_vit]}]\nbits: [W8A8]\nmethods: [minmax]\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two cores and no GPU, without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    return tmp_path


def estimated(said: Said) -> tuple[str, float]:
    """The time and the GPU hours of the estimate."""
    found = re.search(r"^estimated: (.*?), ([\d,.]+) GPU hours", said.out, re.MULTILINE)
    assert found is not None, said
    return found[1], float(found[2].replace(",", ""))


def test_gpu_hours_are_told_for_as_many_gpus_as_are_asked_for() -> None:
    """Four cells of one model's training: side by side they take a fourth of the time, and as much of GPUs."""
    one, eight = (vitq_here(*FULL, "--device", "cuda", "--jobs", jobs) for jobs in (1, 8))
    assert one.code == eight.code == 2, "their data are missing"
    assert all("cells cannot run here: the folder of data set imagenet-1k" in line for line in eight.err.splitlines())
    assert estimated(one)[1] == estimated(eight)[1] > 100
    assert ", 8 at once" in eight.out
    assert "at once" not in one.out
    days = [float(re.sub(r"[^\d.]", "", estimated(said)[0])) for said in (one, eight)]
    assert days[0] == pytest.approx(4 * days[1], rel=0.1)


def test_a_share_of_a_gpu_is_a_share_of_its_hours() -> None:
    ray = (*FULL, "--executor", "ray", "--device", "cuda", "--jobs", 8)
    whole, half = vitq_here(*ray), vitq_here(*ray, "--gpus", 0.5)
    assert estimated(half)[0] == estimated(whole)[0]
    assert estimated(half)[1] == pytest.approx(estimated(whole)[1] / 2, rel=0.01)
    assert estimated(vitq_here(*ray, "--gpus", 2))[1] == pytest.approx(estimated(whole)[1] * 2, rel=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:7"])
def test_cells_that_could_run_are_planned_for_any_number_at_once(device: str) -> None:
    said = vitq_here("run", "smoke", "-k", "minmax/ and digits_vit", "--dry-run", "--device", device, "--jobs", 64)
    assert said.code == 0, said
    assert said.err == ""
    assert ("GPU hours" in said.out) == (device != "cpu")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tiny.yaml", f"{TINY}threads: 64\n"),
        ("tiny.yaml", f"{TINY}latency: {{threads: 64}}\n"),
        ("vitq.toml", "threads = 64\n"),
        ("vitq.toml", "workers = 64\n"),
    ],
)
def test_threads_of_another_machine_are_planned_and_not_run(name: str, text: str) -> None:
    Path("tiny.yaml").write_text(TINY)
    Path(name).write_text(text)
    assert vitq_here("run", "tiny.yaml", "--dry-run").code == 0
    vitq_here("run", "tiny.yaml").refused("is 64, but this machine has 2 cores: give a number from")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--jobs", "8"], "--jobs is 8, but this machine has 2 cores: give a number from 1 to 2"),
        (["--device", "cuda"], "device cuda is not here: this machine has cpu"),
        (["--dry-run", "--jobs", "0"], "--jobs is 0"),
        (["--dry-run", "--jobs", "-1"], "--jobs is -1"),
        (["--dry-run", "--jobs", "many"], "--jobs is 'many': give a number from 1 to 4096, or auto"),
        (["--dry-run", "--jobs", "5000"], "--jobs is 5000, but no machine has more than 4096 cores"),
        (["--dry-run", "--device", "hpu"], "no device is called 'hpu'"),
    ],
)
def test_what_no_machine_has_is_refused_and_a_run_asks_for_this_one(words: list[str], says: str) -> None:
    vitq_here("run", "smoke", "-k", "minmax/", *words).refused(says)


def test_a_model_without_a_suite_is_planned_too() -> None:
    words = ("run", "--model", "digits_vit", "--method", "minmax", "--bits", "W8A8", "--dry-run", "--jobs", 8)
    assert vitq_here(*words, "--device", "cuda").code == 0
