"""The measurement of peaks, with small sizes: every kind, checked first; and the command."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from commands import vitq_here

from vitq.benchmarks.measure import peak_candidates, peaks
from vitq.benchmarks.measure.peak_candidates import Candidate, Sizes
from vitq.benchmarks.measure.peaks import Effort, measure
from vitq.errors import UnsupportedError
from vitq.peaks import MEMORY, PRODUCTS, Peaks

SMALL, QUICK = Sizes(96, 96, 128, 128, 2**20), Effort(0.0, 3, 3)


def test_every_kind_is_measured_or_named() -> None:
    before = torch.get_num_threads()
    found = measure(1, "cpu", SMALL, QUICK)
    assert torch.get_num_threads() == before
    assert (found.threads, found.device) == (1, "cpu")
    assert {rate.rounds for rate in found.rates} == {3}
    told = {name.partition(" by ")[0] for name in found.left_out}
    assert {rate.what for rate in found.rates} | told == {*PRODUCTS, *MEMORY}
    assert {rate.by for rate in found.rates if rate.what == "fp32"} >= {"torch.mm"}
    assert Peaks.model_validate_json(found.model_dump_json()) == found


def test_a_rate_is_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([4.0, 1.0, 2.0])
    monkeypatch.setattr(peaks, "warm_up", lambda *_: 0)
    monkeypatch.setattr(peaks, "once", lambda *_: next(times))
    one = Candidate("int8", "x", "1", 8e9, lambda: lambda: None)
    found = peaks._rate(one, one.prepared(), torch.device("cpu"), QUICK)
    assert (found.median, found.rounds) == (4e12, 3)
    assert found.lower < found.median < found.upper


def test_a_kernel_with_wrong_numbers_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b) + 1)
    found = measure(1, "cpu", SMALL, QUICK)
    assert "wrong" in found.left_out["int8 by torch._int_mm"]
    assert "torch._int_mm" not in {rate.by for rate in found.rates}


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    has = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("numba", "openvino") else has(name))
    found = measure(1, "cpu", SMALL, QUICK)
    assert found.left_out["binary by numba xor and popcount"] == "numba is not installed: pip install numba"
    assert "openvino is not installed" in found.left_out["fp32 by openvino MatMul"]
    assert found.best("binary") is None
    assert found.best("fp32") is not None


def test_arrays_that_do_not_fit_are_named() -> None:
    huge = Sizes(96, 96, 128, 128, 2**60)
    found = measure(1, "cpu", huge, QUICK)
    assert "do not fit" in found.left_out["copy by torch copy_"]
    assert found.best("read") is None


def test_nothing_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> peak_candidates.Call:
        raise UnsupportedError("not here")

    monkeypatch.setattr(peaks, "candidates", lambda *_: [Candidate("fp32", "x", "1", 1.0, refuse)])
    with pytest.raises(UnsupportedError, match="not here"):
        measure(1, "cpu")


def test_arrays_are_larger_than_the_last_cache() -> None:
    assert peak_candidates.sizes_for(torch.device("cpu")).array >= 4 * peak_candidates.last_cache()
    assert peak_candidates.last_cache() > 2**15


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peak_candidates, "sizes_for", lambda _: SMALL)
    monkeypatch.setattr(peaks, "Effort", lambda: QUICK)


@pytest.mark.usefixtures("quick")
def test_the_command_prints_and_keeps_what_it_measured() -> None:
    said = vitq_here("peaks", "--threads", "1", "--format", "json", "-o", "peaks.json")
    assert (said.code, said.err) == (0, "")
    rates = json.loads(Path("peaks.json").read_text())["rates"]
    rows = [row for row in json.loads(said.out) if row["rounds"]]
    assert sorted((row["what"], row["by"]) for row in rows) == sorted((rate["what"], rate["by"]) for rate in rates)
    said = vitq_here("peaks", "--threads", "1")
    assert said.code == 0
    assert "GMAC/s" in said.out
    assert "torch.mm" in said.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--threads", "0"], "--threads is 0"),
        (["--threads", "1000000"], "cores"),
        (["--threads", "two"], "--threads"),
        (["--device", "hpu"], "no device is called 'hpu'"),
        (["--device", "cuda:99"], "cuda:99 is not here"),
        (["--format", "html"], "no format is called 'html'"),
        (["-o", ""], "empty"),
        (["-o", "gone/peaks.json"], "no folder gone"),
        (["-o", "."], "no regular file"),
        (["-o", "a\0b"], "NUL"),
        (["-o", "x" * 5000], "too long"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_wrong_word_is_one_line_before_anything_is_measured(words: list[str], says: str) -> None:
    vitq_here("peaks", *words).refused(says)
    assert list(Path().iterdir()) == []


@pytest.mark.cuda
def test_a_gpu_has_products_and_memory_too() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    found = measure(1, "cuda", Sizes(256, 0, 0, 0, 2**24), QUICK)
    assert found.gpu
    assert {rate.what for rate in found.rates} == {"fp32", "bf16", "int8", "copy", "read"}
