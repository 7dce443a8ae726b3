"""Which cells the gate compares, what it calls them, and what it ends with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import CELL, HERE, OPERATIONS, SIZE, fp32_of, lines, record, row, write_results

from vitq.benchmarks.gate import GateResult, Policy, gate, read_baseline
from vitq.errors import BadInputError
from vitq.record import Metric, Record
from vitq.rows import Row

NOW = HERE.model_copy(update={"finished": "2026-02-02T03:04:05+00:00"})
OTHERS = [CELL.replace("W4A4", f"W{w}A{w}") for w in range(2, 10) if w != 4]


def anew(row: Row, **fields: Any) -> Row:
    """The same cell run again later, with these fields."""
    return row.model_copy(update={"provenance": NOW, "latency_provenance": NOW, **fields})


OLD = row()
NEW = anew(OLD)


def judged(*current: Row, policy: Policy | None = None) -> GateResult:
    return gate([OLD], current, policy)


def verdicts(result: GateResult) -> set[str]:
    return {each.verdict for each in result.regressions}


def top1(value: float, n: int = 200) -> dict[str, Metric]:
    return {"top1": Metric(value=value, n=n)}


MUST_FAIL: dict[str, tuple[dict[str, Any], str]] = {
    "lower": ({"metrics": top1(93.99)}, "worse"),
    "higher": ({"metrics": top1(94.01)}, "better"),
    "fewer samples": ({"metrics": top1(94.0, n=199)}, "not-comparable"),
    "no metric": ({"metrics": {}}, "missing"),
    "another FP32 model": ({"fp32": top1(97.0)}, "worse"),
    "no FP32 metric": ({"fp32": {}}, "missing"),
    "no size": ({"size": None}, "missing"),
    "no operations": ({"operations": None}, "missing"),
    "larger": ({"size": SIZE.model_copy(update={"packed_mb": 0.00810001})}, "changed"),
    "smaller": ({"size": SIZE.model_copy(update={"packed_mb": 0.0080})}, "changed"),
    "another paper's size": ({"size": SIZE.model_copy(update={"conventions": {"block_weights": 0.006}})}, "changed"),
    "one BitOP more": ({"operations": OPERATIONS.model_copy(update={"bitops": 30_822_401})}, "changed"),
    "failed": ({"status": "failed", "error": "no"}, "failed"),
    "out of memory": ({"status": "oom", "error": "no"}, "failed"),
    "unsupported": ({"status": "unsupported", "error": "no"}, "failed"),
}


@pytest.mark.parametrize("name", MUST_FAIL)
def test_every_single_change_fails(name: str) -> None:
    fields, verdict = MUST_FAIL[name]
    result = judged(anew(OLD, **fields))
    assert verdicts(result) == {verdict}
    assert result.exit_code == 1


def test_unchanged_code_is_good_and_says_on_how_much_that_rests() -> None:
    result = judged(NEW)
    assert result.exit_code == 0
    assert "good: 1 of 1 baseline cells compared on 200 samples, 0 of them one by one" in result.summary


@given(difference=st.floats(-50, 2), tolerance=st.floats(0, 60))
def test_swapping_the_runs_changes_the_sign_and_nothing_else(difference: float, tolerance: float) -> None:
    other, policy = anew(OLD, metrics=top1(94 + difference), fp32=OLD.fp32), Policy(tolerance=tolerance)
    there, back = gate([OLD], [other], policy), gate([other], [OLD], policy)
    assert there.exit_code == back.exit_code
    opposite = {"worse": "better", "better": "worse"}
    assert verdicts(there) == {opposite[v] for v in verdicts(back)}


@pytest.mark.parametrize("part", ["weights", "validation", "calibration", "subset", "training"])
def test_other_inputs_are_not_comparable_and_never_good(part: str) -> None:
    other = anew(row(accuracy=record("accuracy", identity={part: "ff" * 32})))
    alone = judged(other)
    assert verdicts(alone) == {"not-comparable"}
    assert part in alone.render()
    assert alone.exit_code == 4
    beside = row(OTHERS[0])
    assert gate([OLD, beside], [other, anew(beside)]).exit_code == 1


@pytest.mark.parametrize(
    "difference", [{"limit": 100}, {"options": {"softmax": "log2"}}, {"seed": 1}, {"calibration": {"images": 8}}]
)
def test_a_cell_of_the_same_name_with_other_settings_is_not_comparable(difference: dict[str, object]) -> None:
    result = judged(anew(OLD, cell=OLD.cell.model_copy(update=difference)))
    assert verdicts(result) == {"not-comparable"}
    assert next(iter(difference)) in result.regressions[0].note


def test_cells_are_matched_by_what_was_asked_for_though_their_identity_changed() -> None:
    other = anew(row(accuracy=record("accuracy", identity={"code": "changed", "packages": "torch 2.9"})))
    result = judged(other)
    assert (result.exit_code, result.compared) == (0, 1)
    assert f"identity changed: code ({'33' * 32}" not in result.render(), "a digest says nothing"
    assert "identity changed: code, decides accuracy of 1 cell" in result.render()
    assert "identity changed: packages (none -> torch 2.9), decides accuracy of 1 cell" in result.render()


def test_a_change_of_identity_that_many_cells_share_is_one_line() -> None:
    def of(name: str, code: str) -> Row:
        kinds = {kind: record(kind, name, identity={"code": code}) for kind in ("model", "accuracy", "counts")}
        return row(name, **kinds, latency=None)

    result = gate([of(name, "a") for name in OTHERS], [anew(of(name, "b")) for name in OTHERS])
    assert result.changes == ["identity changed: code (a -> b), decides model, accuracy, counts of 7 cells"]


def test_a_cell_that_failed_before_cannot_make_the_gate_good() -> None:
    failed = row(accuracy=record("accuracy", status="failed"))
    alone = gate([failed], [NEW])
    assert alone.exit_code == 4
    assert f"{CELL} was not compared: failed in the baseline" in alone.render()


def test_a_baseline_of_which_most_cells_failed_is_too_little() -> None:
    names = [CELL, *OTHERS[:3]]
    failed = [row(name, accuracy=record("accuracy", name, status="oom")) for name in names[1:]]
    now = [anew(row(name)) for name in names]
    most = gate([OLD, *failed], now)
    assert most.exit_code == 4
    assert most.summary.startswith("too little was compared: most cells of the baseline failed: 1 of 4 baseline cells")
    few = gate([OLD, failed[0]], now)
    assert few.exit_code == 0
    assert "(1 failed in the baseline)" in few.summary
    assert gate([OLD, failed[0]], now, Policy(at_least="all")).exit_code == 4


def test_a_regression_is_told_before_too_little() -> None:
    failed = [row(name, accuracy=record("accuracy", name, status="failed")) for name in OTHERS]
    assert gate([OLD, *failed], [anew(OLD, metrics=top1(80.0))]).exit_code == 1


@pytest.mark.parametrize(("at_least", "code"), [(None, 0), (1, 0), (2, 4), ("all", 0)])
def test_at_least_so_many_cells(at_least: Any, code: int) -> None:
    assert judged(NEW, policy=Policy(at_least=at_least)).exit_code == code


def test_a_cell_that_is_gone_fails() -> None:
    beside = row(OTHERS[0])
    result = gate([OLD, beside], [NEW])
    assert (verdicts(result), result.exit_code) == ({"missing"}, 1)


def test_a_method_that_was_unsupported_stays_out_of_it() -> None:
    unsupported = row(OTHERS[0], accuracy=record("accuracy", OTHERS[0], status="unsupported"))
    result = gate([OLD, unsupported], [NEW, unsupported])
    assert result.exit_code == 0
    assert "cell not compared: unsupported in the baseline (1x)" in result.render()


def test_only_another_limit_was_run() -> None:
    result = judged(anew(row(f"{CELL}/limit100")))
    assert result.exit_code == 4
    assert "run with --limit 100 alone: run it as the baseline was" in result.render()
    result = gate([row(f"{CELL}/limit100")], [NEW])
    assert "run without --limit alone" in result.render()


def test_a_limited_run_beside_the_full_one_does_not_hide_it() -> None:
    result = judged(NEW, anew(row(f"{CELL}/limit100", accuracy=record("accuracy", f"{CELL}/limit100"))))
    assert result.exit_code == 0
    assert [each.verdict for each in result.shown] == ["new"]


def test_records_of_the_baseline_itself_prove_nothing() -> None:
    result = gate([OLD], [OLD])
    assert result.exit_code == 4
    assert "cell not compared: the record is the baseline's own: it was not run anew (1x)" in result.render()
    beside = row(OTHERS[0])
    partly = gate([OLD, beside], [OLD, anew(beside)])
    assert (partly.exit_code, partly.compared) == (0, 1)


def test_a_copy_elsewhere_of_the_same_records_proves_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_results(tmp_path / name, *lines())
    assert gate(read_baseline(tmp_path / "one"), read_baseline(tmp_path / "two")).exit_code == 4


def test_empty_runs_compare_nothing() -> None:
    assert gate([], []).exit_code == 4
    assert gate([OLD], []).exit_code == 4
    assert gate([], [OLD]).exit_code == 4


def test_fp32_is_told_once_for_all_cells_that_share_it() -> None:
    rows = [row(name) for name in OTHERS]
    result = gate(rows, [anew(each, fp32=top1(96.0)) for each in rows])
    assert [each.cell for each in result.regressions] == ["FP32/classification/digits/digits_vit"]


def test_counts_alone_are_compared() -> None:
    only = row(accuracy=None, model=None, latency=None, fp32=None)
    assert gate([only], [anew(only)]).exit_code == 0
    assert verdicts(gate([only], [anew(only, size=None)])) == {"missing"}


@pytest.mark.parametrize("content", ["", "no record\n", '{"kind": "cell"}\n', "[1]\n", '{"schema_version": 1}\n'])
def test_a_baseline_that_cannot_be_read_is_bad_input(content: str, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(content)
    with pytest.raises(BadInputError) as caught:
        read_baseline(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_baseline_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no records at"):
        read_baseline(tmp_path / "nowhere")


def test_a_cut_last_line_is_bad_input_since_its_cell_would_pass(tmp_path: Path) -> None:
    file = write_results(tmp_path, *lines()) / "records.jsonl"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(BadInputError, match="not whole"):
        read_baseline(file)


def test_only_the_last_record_of_a_cell_counts(tmp_path: Path) -> None:
    bad: Record = record("accuracy", identity={"code": "newer"}, metrics=top1(50.0))
    now = write_results(tmp_path, *lines(), *lines(accuracy=bad, fp32=fp32_of(provenance=NOW)))
    assert verdicts(gate([OLD], [anew(each) for each in read_baseline(now)])) == {"worse"}


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": float("nan")}, {"tolerance": -1.0}, {"alpha": 0.0}, {"alpha": 1.5}, {"slowdown": 0.9},
     {"stderrs": -1.0}, {"at_least": 0}],
)  # fmt: skip
def test_a_policy_that_would_let_anything_pass_is_bad_input(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        Policy(**wrong)
