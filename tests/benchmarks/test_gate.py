"""The gate itself: golden files of what it prints, and every single change that must, or must not, fail it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitq.benchmarks.gate import GateResult, Policy, gate, read_baseline
from vitq.benchmarks.paired import pack_outcomes, paired_stderr, unpack_outcomes
from vitq.benchmarks.record import LatencyRow, Metric, Record
from vitq.errors import BadInputError

GOLDEN = Path(__file__).parent / "golden"
BASELINE = read_baseline(GOLDEN / "baseline.jsonl")
RECORD = BASELINE[0]
Change = Callable[[Record], Record]


def change(**fields: object) -> Change:
    return lambda record: record.model_copy(update=fields)


def judged(*current: Record, policy: Policy | None = None) -> GateResult:
    return gate([RECORD], current, policy)


def verdicts(result: GateResult) -> set[str]:
    return {row.verdict for row in result.regressions}


@pytest.mark.parametrize("name", ["same", "regressed", "elsewhere", "faster", "nothing"])
def test_golden(name: str) -> None:
    result = gate(BASELINE, read_baseline(GOLDEN / f"{name}.jsonl"))
    printed = f"exit code {result.exit_code}\n\n{result.render()}\n"
    assert printed == (GOLDEN / f"{name}.txt").read_text()


def accuracy(value: float, n: int = 360) -> Change:
    return change(metrics={"top1": Metric(value=value, n=n)})


TOP1 = RECORD.metrics["top1"].value
assert RECORD.size is not None
assert RECORD.operations is not None
MUST_FAIL: dict[str, tuple[Change, str]] = {
    "lower": (accuracy(TOP1 - 0.01), "worse"),
    "higher": (accuracy(TOP1 + 0.01), "better"),
    "nan": (accuracy(math.nan), "not-a-number"),
    "infinite": (accuracy(math.inf), "not-a-number"),
    "fewer samples": (accuracy(TOP1, n=359), "not-comparable"),
    "no metric": (change(metrics={}), "missing"),
    "another FP32 model": (change(fp32={"top1": Metric(value=98.0, n=360)}), "worse"),
    "no FP32 metric": (change(fp32={}), "missing"),
    "no size": (change(size=None), "missing"),
    "no operations": (change(operations=None), "missing"),
    "larger": (change(size=RECORD.size.model_copy(update={"packed_mb": 0.06140001})), "changed"),
    "smaller": (change(size=RECORD.size.model_copy(update={"packed_mb": 0.06})), "changed"),
    "size nan": (change(size=RECORD.size.model_copy(update={"packed_mb": math.nan})), "changed"),
    "one BitOP more": (change(operations=RECORD.operations.model_copy(update={"bitops": 30822401})), "changed"),
    "no latency": (change(latency=[]), "missing"),
    "latency nan": (
        change(latency=[r.model_copy(update={"samples_ms": [math.nan] * 12}) for r in RECORD.latency]),
        "not-a-number",
    ),
    "no samples": (change(latency=[r.model_copy(update={"samples_ms": []}) for r in RECORD.latency]), "not-a-number"),
    "failed": (change(status="failed", error="no"), "failed"),
    "out of memory": (change(status="oom"), "failed"),
    "unsupported": (change(status="unsupported"), "failed"),
}


@pytest.mark.parametrize("name", MUST_FAIL)
def test_every_single_change_fails(name: str) -> None:
    changed, verdict = MUST_FAIL[name]
    result = judged(changed(RECORD))
    assert verdicts(result) == {verdict}
    assert result.exit_code == 1


@pytest.mark.parametrize("field", ["weights_sha256", "data_sha256"])
def test_other_inputs_are_not_comparable_and_never_good(field: str) -> None:
    alone = judged(RECORD.model_copy(update={field: None}))
    assert verdicts(alone) == {"not-comparable"}
    assert alone.exit_code == 4
    both = gate(BASELINE, [RECORD.model_copy(update={field: "0" * 64}), *BASELINE[1:]])
    assert both.exit_code == 1


@pytest.mark.parametrize(
    "difference", [{"limit": 100}, {"options": {"softmax": "log2"}}, {"seed": 1}, {"calibration": {"images": 8}}]
)
def test_a_cell_of_the_same_name_with_other_settings_is_not_comparable(difference: dict[str, object]) -> None:
    result = judged(RECORD.model_copy(update={"cell": RECORD.cell.model_copy(update=difference)}))
    assert verdicts(result) == {"not-comparable"}
    assert next(iter(difference)) in result.regressions[0].note


def test_a_renamed_cell_is_found_by_its_fingerprint() -> None:
    renamed = RECORD.cell.model_copy(update={"id": "repq_vit[paper]/renamed", "variant": "paper"})
    result = judged(RECORD.model_copy(update={"cell": renamed}))
    assert (result.exit_code, result.compared) == (0, 1)
    assert not any(row.verdict == "new" for row in result.rows)


def test_only_the_latest_record_of_a_cell_counts() -> None:
    worse = accuracy(50.0)(RECORD).model_copy(update={"fingerprint": "newer"})
    assert judged(RECORD, worse).exit_code == 1
    assert judged(worse, RECORD).exit_code == 0
    assert gate([worse, RECORD], [RECORD]).exit_code == 0


def test_tolerance_holds_both_ways() -> None:
    policy = Policy(tolerance=0.5)
    for value in (TOP1 - 0.5, TOP1 + 0.5):
        assert judged(accuracy(value)(RECORD), policy=policy).exit_code == 0
    assert verdicts(judged(accuracy(TOP1 - 0.51)(RECORD), policy=policy)) == {"worse"}
    assert verdicts(judged(accuracy(TOP1 + 0.51)(RECORD), policy=policy)) == {"better"}


@given(difference=st.floats(-50, 5), tolerance=st.floats(0, 60))
def test_swapping_the_runs_changes_the_sign_and_nothing_else(difference: float, tolerance: float) -> None:
    other, policy = accuracy(TOP1 + difference)(RECORD), Policy(tolerance=tolerance)
    there, back = gate([RECORD], [other], policy), gate([other], [RECORD], policy)
    assert there.exit_code == back.exit_code
    opposite = {"worse": "better", "better": "worse"}
    assert verdicts(there) == {opposite[v] for v in verdicts(back)}


@pytest.mark.parametrize("where", [{"machine": "other"}, {"packages": {"torch": "3"}}, {"python": "3.14.0"}])
def test_two_paired_standard_errors_are_allowed_elsewhere_alone(where: dict[str, object]) -> None:
    right = np.arange(360) < 338
    right[[1, 2]] = False
    moved = accuracy(100 * float(np.mean(right)))(RECORD).model_copy(
        update={"details": {"outcomes": {"top1": pack_outcomes(right.tolist())}}}
    )
    elsewhere = moved.model_copy(update={"provenance": RECORD.provenance.model_copy(update=where)})
    assert verdicts(judged(moved)) == {"worse"}
    assert judged(elsewhere).exit_code == 0
    assert verdicts(judged(elsewhere.model_copy(update={"details": {}}))) == {"worse"}


def timed(median: float, runs: int, seed: int = 0, spread: float = 0.05) -> LatencyRow:
    samples = median * np.exp(spread * np.random.default_rng(seed).standard_normal(runs))
    samples *= median / np.median(samples)
    row = RECORD.latency[0].model_dump() | {"samples_ms": samples.tolist(), "median_ms": float(np.median(samples))}
    return LatencyRow(**row)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (timed(10, 20), timed(13, 20, seed=1), "slower"),
        (timed(10, 20), timed(7, 20, seed=1), "faster"),
        (timed(10, 20), timed(10, 20, seed=1), "same"),
        (timed(10, 200, spread=0.01), timed(10.5, 200, seed=1, spread=0.01), "same"),  # certain, but small
        (timed(10, 20, spread=0.8), timed(12, 20, seed=1, spread=0.8), "same"),  # large, but not certain
        (timed(10, 2), timed(13, 2, seed=1), "slower"),  # two samples could never reach alpha
    ],
)
def test_slower_means_certain_and_large(before: LatencyRow, after: LatencyRow, verdict: str) -> None:
    old, new = (RECORD.model_copy(update={"latency": [row]}) for row in (before, after))
    result = gate([old], [new])
    assert [row.verdict for row in result.rows if row.quantity.startswith("fp32, ")] == [verdict]
    assert result.exit_code == (1 if verdict == "slower" else 0)


def test_latency_of_another_machine_is_not_compared_and_said_so() -> None:
    slow = [row.model_copy(update={"samples_ms": [100.0] * 12, "median_ms": 100.0}) for row in RECORD.latency]
    there = RECORD.provenance.model_copy(update={"machine": "other"})
    result = judged(RECORD.model_copy(update={"latency": slow, "provenance": there}))
    assert result.exit_code == 0
    assert "latency not compared: other machine (1x)" in result.render()


def test_a_cell_that_failed_before_cannot_make_the_gate_good() -> None:
    failed = RECORD.model_copy(update={"status": "failed"})
    assert gate([failed], [RECORD]).exit_code == 4
    assert gate([failed, *BASELINE[1:]], BASELINE).exit_code == 0


def test_a_baseline_compared_with_itself_is_good_but_says_that_nothing_was_run() -> None:
    result = gate(BASELINE, BASELINE)
    assert result.exit_code == 0
    assert "a new run not compared: the record is the baseline's own (5x)" in result.render()


def test_empty_runs_compare_nothing() -> None:
    assert gate([], []).exit_code == 4
    assert gate(BASELINE, []).exit_code == 4
    assert gate([], BASELINE).exit_code == 4


@pytest.mark.parametrize("content", ["", "no record\n", '{"fingerprint": "x"}\n', RECORD.model_dump_json()])
def test_a_baseline_that_cannot_be_read_is_bad_input(content: str, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(content)
    with pytest.raises(BadInputError) as caught:
        read_baseline(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_baseline_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no records at"):
        read_baseline(tmp_path / "nowhere")


def test_a_cut_last_line_is_bad_input_since_its_cell_would_pass(tmp_path: Path) -> None:
    lines = (GOLDEN / "baseline.jsonl").read_text()
    (tmp_path / "baseline.jsonl").write_text(lines[:-20])
    with pytest.raises(BadInputError, match="cut short"):
        read_baseline(tmp_path / "baseline.jsonl")


@pytest.mark.parametrize(
    "wrong", [{"tolerance": math.nan}, {"tolerance": -1.0}, {"alpha": 0.0}, {"alpha": 1.5}, {"slowdown": 0.9}]
)
def test_a_policy_that_would_let_anything_pass_is_bad_input(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInputError):
        Policy(**wrong)


@given(st.lists(st.booleans(), max_size=100))
def test_outcomes_survive_packing(right: list[bool]) -> None:
    assert unpack_outcomes(pack_outcomes(right), len(right)).tolist() == [int(r) for r in right]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_paired_standard_error_is_that_of_the_differences(pairs: list[tuple[bool, bool]]) -> None:
    def record(right: list[bool]) -> Record:
        outcomes = {"outcomes": {"top1": pack_outcomes(right)}}
        return RECORD.model_copy(update={"metrics": {"top1": Metric(value=0, n=len(pairs))}, "details": outcomes})

    differences = [int(b) - int(a) for a, b in pairs]
    mean = sum(differences) / len(pairs)
    variance = sum((d - mean) ** 2 for d in differences) / (len(pairs) - 1)
    before, after = record([a for a, _ in pairs]), record([b for _, b in pairs])
    stderr = paired_stderr(before, after, "top1")
    assert stderr == pytest.approx(100 * math.sqrt(variance / len(pairs)))


@pytest.mark.parametrize("details", [{}, {"outcomes": {}}, {"outcomes": {"top1": "zz"}}, {"outcomes": {"top1": "ff"}}])
def test_outcomes_that_are_absent_or_broken_give_no_standard_error(details: dict[str, object]) -> None:
    assert paired_stderr(RECORD, RECORD.model_copy(update={"details": details}), "top1") is None
