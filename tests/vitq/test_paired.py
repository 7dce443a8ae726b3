"""Two runs sample by sample: against the definition, and every reason why there is no pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import CELL, evaluated, fp32_of, record, row

from vitq.errors import BadInputError
from vitq.paired import Paired, against_fp32, compare, why_not
from vitq.rows import Row

OTHER = CELL.replace("W4A4", "W8A8")


def made(folder: Path, right: list[bool], name: str = CELL, samples: str = "5a" * 32) -> Row:
    return row(name, folder, accuracy=evaluated(record("accuracy", name), right, folder, samples=samples))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_difference_error_and_p_are_those_of_the_samples(pairs: list[tuple[bool, bool]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = compare(made(folder, [a for a, _ in pairs]), made(folder, [b for _, b in pairs], OTHER), "top1")
    assert found is not None
    differences = [int(b) - int(a) for a, b in pairs]
    mean = sum(differences) / len(pairs)
    variance = sum((d - mean) ** 2 for d in differences) / (len(pairs) - 1)
    assert found.difference == pytest.approx(100 * mean)
    assert found.stderr == pytest.approx(100 * math.sqrt(variance / len(pairs)))
    assert (found.gained, found.lost, found.n) == (differences.count(1), differences.count(-1), len(pairs))
    assert found.p == pytest.approx(mcnemar(found.gained, found.lost))


def mcnemar(gained: int, lost: int) -> float:
    """Twice the smaller tail of a fair coin's throws, at most 1."""
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def test_mcnemar_of_a_textbook_case(tmp_path: Path) -> None:
    left = np.array([True] * 60 + [True] * 12 + [False] * 3 + [False] * 25)
    right = np.array([True] * 60 + [False] * 12 + [True] * 3 + [False] * 25)
    found = compare(made(tmp_path, left.tolist()), made(tmp_path, right.tolist(), OTHER), "top1")
    assert found == Paired(-9.0, pytest.approx(3.786, abs=1e-3), 100, 3, 12)
    assert found.p == pytest.approx(0.03515625)
    assert str(found) == "paired -9.000 ± 3.786, p = 0.035 (3 gained, 12 lost)"


def test_equal_runs_have_no_difference_and_p_1(tmp_path: Path) -> None:
    one = made(tmp_path, [True, False, True])
    assert compare(one, one, "top1") == Paired(0.0, 0.0, 3, 0, 0)
    assert why_not(one, one, "top1") == ""


def test_what_quantization_changed(tmp_path: Path) -> None:
    fp32 = evaluated(fp32_of(), [True, True, True, False], tmp_path)
    accuracy = evaluated(record("accuracy"), [True, False, False, False], tmp_path)
    found = against_fp32(row(folder=tmp_path, accuracy=accuracy, fp32=fp32), "top1")
    assert found is not None
    assert (found.difference, found.gained, found.lost) == (-50.0, 0, 2)
    assert against_fp32(row(folder=tmp_path, accuracy=accuracy), "top1") is None


NO_PAIR: dict[str, tuple[Callable[[Path], Row], str]] = {
    "other samples": (lambda f: made(f, [True, False], OTHER, samples="other"), "not the same samples"),
    "no outcomes": (lambda f: row(OTHER, f), "not recorded"),
    "no folder": (lambda f: row(OTHER), "not recorded"),
    "no file": (
        lambda f: row(OTHER, f, accuracy=record("accuracy", OTHER, outcomes="outcomes/gone.npz")),
        "missing",
    ),
}


@pytest.mark.parametrize("name", NO_PAIR)
def test_no_pair_and_why(name: str, tmp_path: Path) -> None:
    make, reason = NO_PAIR[name]
    one, other = made(tmp_path, [True, False]), make(tmp_path)
    for left, right in ((one, other), (other, one)):
        assert compare(left, right, "top1") is None
        assert reason in why_not(left, right, "top1")
    assert "not recorded" in why_not(one, one, "top5")


def test_one_sample_has_no_standard_error(tmp_path: Path) -> None:
    assert "one sample" in why_not(made(tmp_path, [True]), made(tmp_path, [False], OTHER), "top1")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_broken_outcomes_are_bad_input(content: bytes, tmp_path: Path) -> None:
    one = made(tmp_path, [True, False])
    assert one.outcomes is not None
    (tmp_path / one.outcomes).write_bytes(content)
    with pytest.raises(BadInputError, match="cannot be read"):
        compare(one, one, "top1")


def test_outcomes_of_another_record_are_bad_input(tmp_path: Path) -> None:
    one, other = made(tmp_path, [True, False]), made(tmp_path, [True, True], OTHER)
    swapped = one.model_copy(update={"outcomes": other.outcomes})
    with pytest.raises(BadInputError, match="not those of the record"):
        compare(swapped, other, "top1")


@pytest.mark.parametrize("name", ["../outside.npz", "/etc/hostname", "outcomes/../../outside.npz"])
def test_outcomes_may_not_lie_outside_the_folder(name: str, tmp_path: Path) -> None:
    one = made(tmp_path, [True, False]).model_copy(update={"outcomes": name})
    with pytest.raises(BadInputError, match="outside its folder"):
        compare(one, one, "top1")
