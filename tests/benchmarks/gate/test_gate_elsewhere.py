"""Accuracy in the same place and elsewhere: what a change of machine may do, and what it may not hide."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rows import CELL, HERE, evaluated, fp32_of, record, row

from vitq.benchmarks.gate import GateResult, Policy, gate
from vitq.benchmarks.gate.spread import Spread, read_spread
from vitq.errors import BadInputError
from vitq.record import Provenance
from vitq.rows import Row

LATER = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
THERE = LATER.model_copy(update={"machine": "machine-b"})
N = 600
Right = NDArray[np.bool_]


def outcomes(right: int, lost: int = 0, gained: int = 0) -> Right:
    """600 outcomes of which `right` are, but `lost` of them and `gained` of the others."""
    made = np.arange(N) < right
    made[:lost] = False
    made[right : right + gained] = True
    return made


def run(folder: Path, right: Right, where: Provenance = HERE, samples: str = "5a" * 32, **replaced: Any) -> Row:
    accuracy = evaluated(record("accuracy", provenance=where), right, folder / where.machine, samples=samples)
    return row(folder=folder / where.machine, accuracy=accuracy, **replaced)


def judged(old: Row, new: Row, spread: Spread | None = None, **policy: Any) -> GateResult:
    return gate([old], [new], Policy(**policy), spread)


def spread_of(*values: float) -> Spread:
    runs = {"baseline": "the baseline", **{f"run{i}": "another" for i in range(1, len(values))}}
    return Spread(runs=runs, cells={CELL: {"top1": dict(zip(runs, values, strict=True))}})


# What was seen of PSAQ-ViT W4A4 on digits: 44.50 on one machine, 49.00 on the next, of the same code.
CHAOTIC = outcomes(267), outcomes(267, lost=70, gained=97)
CHAOS = spread_of(44.5, 47.833, 46.0, 43.5, 48.333)
# What a fault does to RepQ-ViT W8A8: 5 points, all but a few of the changed samples lost.
REGRESSED = outcomes(582), outcomes(582, lost=33, gained=3)
STEADY = spread_of(97.0, 97.167, 97.0, 96.833, 97.0)


def test_the_cases_are_those_that_were_seen() -> None:
    assert [round(100 * right.mean(), 2) for right in (*CHAOTIC, *REGRESSED)] == [44.5, 49.0, 97.0, 92.0]


def test_a_chaotic_cell_passes_elsewhere_and_what_was_allowed_is_shown(tmp_path: Path) -> None:
    old, new = run(tmp_path, CHAOTIC[0]), run(tmp_path, CHAOTIC[1], THERE)
    passed = judged(old, new, CHAOS)
    assert passed.exit_code == 0
    (shown,) = passed.shown
    assert (shown.verdict, shown.baseline, shown.current) == ("within", "44.500", "49.000")
    assert shown.note == "elsewhere; paired +4.500 ± 2.148, p = 0.044 (97 gained, 70 lost); spread of 5 runs 2.941"
    allowed = math.hypot(3 * 2.1482, 6.6205 * 2.9413)  # Student's t of 5 runs is as rare at 6.62 as the normal at 3
    assert float(shown.allowed.removeprefix("±")) == pytest.approx(allowed, abs=5e-3)


def test_the_spread_allows_what_the_paired_error_does_not(tmp_path: Path) -> None:
    old, new = run(tmp_path, CHAOTIC[0]), run(tmp_path, outcomes(267, lost=70, gained=120), THERE)
    assert judged(old, new).exit_code == 1
    assert judged(old, new, CHAOS).exit_code == 0


def test_a_chaotic_cell_in_the_same_place_is_held_to_the_tolerance(tmp_path: Path) -> None:
    old, new = run(tmp_path, CHAOTIC[0]), run(tmp_path, CHAOTIC[1], LATER.model_copy(update={"machine": "machine-a"}))
    old = old.model_copy(update={"outcomes": None})  # the later run wrote over its file
    assert judged(old, new, CHAOS).exit_code == 1


@pytest.mark.parametrize("spread", [None, STEADY])
def test_a_real_regression_fails_elsewhere_too(spread: Spread | None, tmp_path: Path) -> None:
    old, new = run(tmp_path, REGRESSED[0]), run(tmp_path, REGRESSED[1], THERE)
    failed = judged(old, new, spread)
    assert failed.exit_code == 1
    (shown,) = failed.regressions
    assert shown.verdict == "worse"
    assert float(shown.allowed.removeprefix("±")) < 3.5
    assert "(3 gained, 33 lost)" in shown.note


def test_a_gain_that_nobody_explained_fails_elsewhere_too(tmp_path: Path) -> None:
    old, new = run(tmp_path, REGRESSED[1]), run(tmp_path, REGRESSED[0], THERE)
    assert [each.verdict for each in judged(old, new).regressions] == ["better"]


def test_a_total_loss_of_a_chaotic_cell_fails(tmp_path: Path) -> None:
    old, new = run(tmp_path, CHAOTIC[0]), run(tmp_path, outcomes(60), THERE)
    assert judged(old, new, CHAOS).exit_code == 1


def test_float_noise_on_another_machine_passes_without_a_spread(tmp_path: Path) -> None:
    """9 of 248 predictions of RepQ-ViT's own code flip with 1e-7 of noise."""
    old, new = run(tmp_path, outcomes(582)), run(tmp_path, outcomes(582, lost=13, gained=8), THERE)
    result = judged(old, new)
    assert result.exit_code == 0
    assert "spread not measured" in result.render()
    assert "1 of 1 baseline cells compared on 600 samples, 600 of them one by one" in result.summary


def test_without_outcomes_the_tolerance_alone_counts_and_it_is_said(tmp_path: Path) -> None:
    old, new = run(tmp_path, outcomes(582)), run(tmp_path, outcomes(582, lost=13, gained=8), THERE)
    bare = new.model_copy(update={"outcomes": None})
    failed = judged(old, bare, tolerance=0.5)
    assert (failed.exit_code, failed.regressions[0].allowed) == (1, "±0.500")
    assert "not paired: outcomes of the samples not recorded; spread not measured" in failed.render()
    assert judged(old, bare, tolerance=1.0).exit_code == 0


def test_other_samples_are_not_comparable(tmp_path: Path) -> None:
    old, new = run(tmp_path, outcomes(582)), run(tmp_path, outcomes(582), THERE, samples="other")
    assert [each.verdict for each in judged(old, new, tolerance=50).regressions] == ["not-comparable"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"machine": "machine-b"}, "other machine"),
        ({"machine": ""}, "other machine"),
        ({"packages": {"torch": "2.9.0"}}, "torch (2.8.0 -> 2.9.0)"),
        ({"python": "3.13.1"}, "Python (3.12.3 -> 3.13.1)"),
        ({"threads": 2}, "threads (1 -> 2)"),
        ({"settings": {"tf32": "on"}}, "tf32 (none -> on)"),
        ({"device": "cuda:1"}, "device (cpu -> cuda)"),
    ],
)
def test_what_makes_another_place(where: dict[str, Any], told: str, tmp_path: Path) -> None:
    old = run(tmp_path / "old", outcomes(582))
    new = run(tmp_path / "new", outcomes(582, lost=3, gained=1), LATER.model_copy(update=where))
    result = judged(old, new)
    assert result.exit_code == 0
    assert told in result.render()


def test_the_same_place_needs_the_same_bits(tmp_path: Path) -> None:
    old, new = run(tmp_path / "old", outcomes(582)), run(tmp_path / "new", outcomes(582, lost=3, gained=1), LATER)
    failed = judged(old, new)
    assert failed.exit_code == 1
    assert failed.regressions[0].allowed == "±0.000"
    assert "paired -0.333 ± 0.333, p = 0.62 (1 gained, 3 lost)" in failed.render()
    elsewhere = old.model_copy(update={"provenance": HERE.model_copy(update={"device": "cuda:1"})})
    other_card = new.model_copy(update={"provenance": LATER.model_copy(update={"device": "cuda:0"})})
    assert judged(elsewhere, other_card).exit_code == 1


def test_fp32_is_allowed_its_paired_error_and_no_spread(tmp_path: Path) -> None:
    def of(folder: str, right: Right) -> Any:
        return evaluated(fp32_of(), right, tmp_path / folder)

    old = run(tmp_path, outcomes(500), fp32=of("machine-a", outcomes(582)))
    new = run(tmp_path, outcomes(500), THERE, fp32=of("machine-b", outcomes(582, lost=2, gained=1)))
    assert judged(old, new, CHAOS).exit_code == 0
    lost = run(tmp_path, outcomes(500), THERE, fp32=of("machine-b", outcomes(582, lost=33, gained=3)))
    assert [each.verdict for each in judged(old, lost, CHAOS).regressions] == ["worse"]


def test_spread_is_the_deviation_of_the_difference_of_two_runs() -> None:
    values = [44.5, 47.5, 46.0]
    assert spread_of(*values).of(CELL, "top1") == (pytest.approx(math.sqrt(2) * np.std(values, ddof=1)), 3)
    assert spread_of(44.5, 47.5).of(CELL, "top1") is None, "two runs have no deviation to speak of"
    assert spread_of(*values).of(CELL, "top5") is None


def written(folder: Path, content: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spread.json").write_text(content)
    return folder


def test_spread_is_read_beside_the_records(tmp_path: Path) -> None:
    old = row()
    assert read_spread(tmp_path, [old]) is None
    spread = spread_of(94.0, 93.0, 95.0)
    written(tmp_path, spread.model_dump_json())
    assert read_spread(tmp_path, [old]) == spread
    (tmp_path / "records.jsonl").touch()
    assert read_spread(tmp_path / "records.jsonl", [old]) == spread


GOOD = spread_of(94.0, 93.0, 95.0).model_dump()
BROKEN: dict[str, str] = {
    "empty": "",
    "no mapping": "[]",
    "deep": "[" * 100_000,
    "150 %": json.dumps({**GOOD, "cells": {CELL: {"top1": {"baseline": 94.0, "x": 150.0}}}}),
    "nan": json.dumps({**GOOD, "cells": {CELL: {"top1": {"baseline": 94.0, "x": math.nan}}}}),
    "version": json.dumps({**GOOD, "schema_version": 2}),
    "other records": spread_of(90.0, 93.0, 95.0).model_dump_json(),
    "without the baseline": json.dumps({**GOOD, "cells": {CELL: {"top1": {"x": 94.0}}}}),
    "unknown cell": json.dumps({**GOOD, "cells": {"x": {"top1": {"baseline": 94.0}}}}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_spread_that_is_broken_or_of_other_records_is_bad_input(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"spread\.json.*make the baseline again") as caught:
        read_spread(written(tmp_path, BROKEN[name]), [row()])
    assert "\n" not in str(caught.value)
