"""Peaks as a file: what is written is read again, and what is no such thing is one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vitq.errors import BadInputError
from vitq.peaks import Peaks, Rate, read_peaks


def rate(what: str, median: float = 1e9, **changes: Any) -> Rate:
    fields = {"what": what, "by": "x", "size": "1", "median": median, "lower": median, "upper": median, "rounds": 3}
    return Rate(**{**fields, **changes})


def made(*rates: Rate) -> Peaks:
    return Peaks(machine="m", cpu="c", device="cpu", threads=2, rates=list(rates) or [rate("fp32", 1e9)])


def test_the_best_of_a_kind_is_its_highest_median() -> None:
    found = made(rate("fp32", 1e9), rate("fp32", 3e9, by="y"), rate("copy", 9e9))
    best = found.best("fp32")
    assert best is not None
    assert (best.by, best.unit) == ("y", "MAC/s")
    assert found.best("int8") is None
    assert rate("read", 1.0).unit == "B/s"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "peaks.json"
    path.write_text(made().model_dump_json())
    assert read_peaks(path) == made()


@pytest.mark.parametrize("bad", [{"median": float("nan")}, {"median": -1.0}, {"lower": 2e9}, {"rounds": 0}])
def test_a_rate_is_a_positive_number_between_its_quartiles(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        rate("fp32", **{"upper": 3e9, **bad})


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 100_000, "\xff", '{"rates": []}', "null"])
def test_a_file_without_peaks_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "peaks.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(BadInputError, match="does not hold the peaks") as raised:
        read_peaks(path)
    assert "\n" not in str(raised.value)


def test_a_place_without_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("gone", ".", "pipe", "x" * 5000):
        with pytest.raises(BadInputError):
            read_peaks(tmp_path / name)
