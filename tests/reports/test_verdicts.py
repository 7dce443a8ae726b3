"""Each verdict once, with the case that would make it another; and what can never be called reproduced."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from option_facts import declared_by_hand

from vitq.record import Calibrated, LatencyRow, Metric, Provenance, Size
from vitq.reports.figure import FULL_SIZE, Figure, load_figures
from vitq.reports.verdicts import Comparison
from vitq.reports.verdicts import compare as compare_by
from vitq.rows import Row

Make = Callable[..., Any]
compare = partial(compare_by, options=declared_by_hand())


def only(comparisons: list[Comparison]) -> Comparison:
    assert len(comparisons) == 1, [c[:3] for c in comparisons]
    return comparisons[0]


def of_figures(comparisons: list[Comparison]) -> Comparison:
    return only([c for c in comparisons if c.figure is not None])


@pytest.mark.parametrize(
    ("top1", "verdict"),
    [(69.83, "reproduced"), (69.834, "reproduced"), (69.84, "above"), (68.23, "reproduced"), (68.22, "below")],
)
def test_within_the_tolerance_at_printed_precision(record: Make, figure: Make, top1: float, verdict: str) -> None:
    found = only(compare([record(top1)], [figure()]))
    assert found.verdict == verdict
    assert "re-runs differ by up to 0.8" in found.reason


@pytest.mark.parametrize(
    ("top1", "verdict"), [(68.5, "disputed"), (69.9, "below"), (67.6, "below"), (78.0, "reproduced"), (79.5, "above")]
)
def test_disputed_is_what_others_measured_too(record: Make, figure: Make, top1: float, verdict: str) -> None:
    row = figure(value=78.32, disputed_low=68.5, disputed_high=68.5)
    found = only(compare([record(top1)], [row]))
    assert found.verdict == verdict
    assert "68.50" in found.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "imagenet-proxy", "n": 744}, "other data: imagenet-proxy"),
        ({"limit": 1000}, "--limit 1000"),
        ({"n": 1000}, "1,000 of 50,000"),
        ({"fp32": 79.70}, "other weights or preprocessing"),
        ({"fp32": None}, "no FP32 top1"),
        ({"calibrated": Calibrated(read=2, given=32)}, "2 of 32 calibration images were read"),
        (
            {"calibrated": Calibrated(read=32, given=32, evaluated=32)},
            "calibrated on 32 of the images that are evaluated",
        ),
        ({"scope": "backbone"}, "only the backbone"),
        ({"options": {"softmax": "log_sqrt2", "brand_new": 3}}, "brand_new"),
        ({"calibration": {"images": 8}}, "calibration.images 8, the figure's is 32"),
        ({"calibration": {}}, "does not say calibration.images"),
    ],
)
def test_not_comparable_says_why(record: Make, figure: Make, changes: dict[str, Any], reason: str) -> None:
    row = figure(settings={"calibration.images": 32})
    assert only(compare([record(69.03)], [row])).verdict == "reproduced"
    found = only(compare([record(69.03, **changes)], [row]))
    assert found.verdict == "not-comparable"
    assert reason in found.reason
    assert found.measured == 69.03


def test_a_post_training_run_is_not_compared_with_a_trained_figure(record: Make, figure: Make) -> None:
    row = figure(method="i_vit", cell_method="i_vit", settings={"epochs": [30, 60, 90]})
    trained = {"method": "i_vit", "options": {"epochs": 30}}
    found = only(compare([record(69.03, method="i_vit", options={"epochs": 0})], [row]))
    assert "post-training run" in found.reason
    assert "post-training" not in only(compare([record(69.03, **trained)], [row])).reason


def test_every_seed_must_be_comparable(record: Make, figure: Make) -> None:
    good, bad = record(69.0, seed=0), record(69.0, seed=1, fp32=75.0)
    assert only(compare([good, bad], [figure()])).verdict == "not-comparable"


def test_seeds_are_compared_by_their_mean(record: Make, figure: Make) -> None:
    found = only(compare([record(68.0, seed=0), record(70.0, seed=1)], [figure()]))
    assert (found.verdict, found.measured) == ("reproduced", 69.0)
    assert found.stderr == pytest.approx(1.0)


def test_no_figure_for_a_row_that_nobody_reports(record: Make, figure: Make) -> None:
    options = {**record().cell.options, "log_code_overflow": "clip"}
    found = compare([record(options=options, variant="clip")], [figure()])
    assert [c.verdict for c in found] == ["not-run", "no-figure"]
    assert "variant clip" in found[1].reason


def test_an_ablation_row_is_matched_by_its_options(record: Make, figure: Make) -> None:
    channel = figure(value=70.28, options={"layernorm": "channel"})
    options = {**record().cell.options, "layernorm": "channel"}
    found = compare([record(70.3, options=options, variant="any label"), record(69.1)], [figure(), channel])
    assert [(c.verdict, c.measured) for c in found] == [("reproduced", 69.1), ("reproduced", 70.3)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({}, "failed: RuntimeError: out"), ({"status": "unsupported", "error": "no such width"}, "unsupported: no such")],
)
def test_not_run_says_what_became_of_it(record: Make, figure: Make, changes: dict[str, Any], reason: str) -> None:
    failed = {"top1": None, "status": "failed", "error": "RuntimeError: out\nof something"} | changes
    found = only(compare([record(**failed)], [figure()]))
    assert found.verdict == "not-run"
    assert reason in found.reason
    assert of_figures(compare([record(bits="W6A6")], [figure()])).verdict == "not-run"


def test_accounting_alone_runs_no_accuracy_figure(record: Make, figure: Make) -> None:
    found = only(compare([record(None, fp32=None, dataset="none")], [figure()]))
    assert (found.verdict, found.reason) == ("not-run", "done: only size and operations were counted")


def test_a_cell_that_failed_and_was_run_again_counts_once(record: Make, figure: Make) -> None:
    good = record(69.0)
    failed = record(None, status="failed", error="killed")
    assert only(compare([failed, good], [figure()])).verdict == "reproduced"
    assert only(compare([good, failed], [figure()])).verdict == "not-run"


def test_counts_need_no_data(record: Make, figure: Make) -> None:
    size = Size(params=5_717_416, fp32_mb=22.87, packed_mb=5.9, conventions={"params_x_bits": 5.0})
    row = figure(metric="model_size_mb", value=5, decimals=0, tolerance=0, convention="params_x_bits")
    counted = record(None, fp32=None, dataset="none", size=size)
    assert only(compare([counted], [row])).verdict == "reproduced"
    other = counted.model_copy(update={"size": size.model_copy(update={"conventions": {"params_x_bits": 6.0}})})
    assert only(compare([other], [row])).verdict == "above"
    assert "counted as params_x_bits" in only(compare([record(None, dataset="none")], [row])).reason


def test_latency_is_compared_on_its_hardware_with_its_kernel_only(record: Make, figure: Make, latency: Make) -> None:
    row = figure(
        **{"metric": "speedup", "value": 3.87, "tolerance": 0.2, "hardware": "RTX 2080 Ti"},
        settings={"batch": 8, "runtime": "tvm"},
    )
    times: list[LatencyRow] = [latency("fp32", 11.5), latency("integer-only:tvm", 2.97)]
    card = Provenance(vitq="0", gpu="NVIDIA GeForce RTX 2080 Ti")
    assert only(compare([record(latency=times, provenance=card)], [row])).verdict == "reproduced"
    elsewhere = only(compare([record(latency=times)], [row]))
    assert (elsewhere.verdict, round(elsewhere.measured or 0, 2)) == ("not-comparable", 3.87)
    assert "RTX 2080 Ti" in elsewhere.reason
    fake = [latency("fp32", 11.5), latency("fake-quant", 2.97)]
    found = only(compare([record(latency=fake, provenance=card)], [row]))
    assert (found.verdict, found.measured) == ("not-comparable", None)


def test_a_gain_is_over_the_own_baseline_of_the_same_seeds(record: Make, figure: Make) -> None:
    row = figure(
        **{"method": "binary_vit", "cell_method": "binary_vit", "model": "", "w_bits": 1, "a_bits": 1, "value": 2.05},
        **{"metric": "top1_gain_over_own_baseline", "fp_value": None, "options": {"grs": True, "asm": True}},
    )
    both, none = {"grs": True, "asm": True}, {"grs": False, "asm": False}
    runs = [
        record(top1, method="binary_vit", bits="W1A1", options=options, seed=seed, variant=str(options["grs"]))
        for top1, options, seed in [(52.0, both, 0), (53.0, both, 1), (50.0, none, 0), (50.5, none, 1), (9.0, none, 2)]
    ]
    found = of_figures(compare(runs, [row]))
    assert found.measured == pytest.approx(2.25)
    assert found.verdict == "not-comparable"
    alone = of_figures(compare(runs[:2], [row]))
    assert "own baseline" in alone.reason


def test_the_released_code_on_the_proxy_can_be_reproduced(record: Make) -> None:
    proxy = {"dataset": "imagenet-proxy", "model": "vit_tiny_patch16_224", "paper_name": None, "n": 744, "fp32": 87.77}
    found = [c for c in compare([record(27.9, **proxy)], load_figures()) if c.records]
    assert [(c.verdict, c.figure.evidence if c.figure else "") for c in found] == [("reproduced", "released-code run")]


PAPERS = [
    f for f in load_figures() if f.evidence != "released-code run" and not f.counted and f.dataset == "imagenet-1k"
]


@given(
    figure=st.sampled_from(PAPERS),
    off=st.floats(-1, 1),
    dataset=st.sampled_from(["imagenet-1k", "imagenet-proxy", "digits", "none"]),
    limit=st.none() | st.integers(1, 50_000),
    n=st.sampled_from([744, 49_999, 50_000]),
    fp_off=st.none() | st.sampled_from([0.0, 0.09]) | st.floats(-3, 3),
    with_settings=st.booleans(),
)
def test_reproduced_needs_the_whole_data_set_and_the_same_weights(
    record: Make,
    figure: Figure,
    off: float,
    dataset: str,
    limit: int | None,
    n: int,
    fp_off: float | None,
    with_settings: bool,
) -> None:
    settings = {k: v[0] if isinstance(v, list) else v for k, v in figure.settings.items()} if with_settings else {}
    cell = {k: v for k, v in settings.items() if not k.startswith("calibration.")} | figure.options
    fp32 = None if fp_off is None or figure.fp_value is None else min(max(figure.fp_value + fp_off, 0.0), 100.0)
    made: Row = record(
        min(max(figure.value + off * figure.tolerance, 0.0), 100.0),
        fp32,
        n,
        **{"method": figure.cell_method, "bits": figure.bits, "dataset": dataset, "limit": limit, "options": cell},
        calibration=record().cell.calibration if with_settings else {},
        paper_name=figure.model,
    )
    found = [c for c in compare([made], [figure]) if c.figure]
    if found[0].verdict == "reproduced":
        assert (dataset, limit, n) == ("imagenet-1k", None, FULL_SIZE["imagenet-1k"])
        assert fp_off is not None
        assert abs(fp_off) <= figure.fp_tolerance + 1e-4
        assert "calibration.images" not in figure.settings or with_settings


@given(top1=st.floats(0, 100), fp32=st.floats(0, 100))
def test_comparable_is_judged_by_distance_alone(record: Make, figure: Make, top1: float, fp32: float) -> None:
    row = figure(fp_value=fp32)
    found = only(compare([record(top1, fp32)], [row]))
    assert found.difference is not None
    assert (found.verdict == "reproduced") == (abs(found.difference) <= 0.8)
    assert found.verdict == "reproduced" or (found.verdict == "above") == (found.difference > 0)


def test_a_record_without_the_metric_is_not_comparable(record: Make, figure: Make) -> None:
    metrics = {"top5": Metric(value=90.0, n=50_000)}
    found = only(compare([record(metrics=metrics)], [figure()]))
    assert (found.verdict, found.measured) == ("not-comparable", None)
