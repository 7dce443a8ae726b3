"""Latency in reports: what is a speed-up and what is none, reasons in place of numbers, and the two pictures."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from timed_rows import AROUND, peaks, session, timed

from vitq.record import LatencyRow, Provenance, Size
from vitq.reports import latency_plot, roofline, roofline_plot
from vitq.reports.latency_table import latency_table, peaks_table, ratio, strongest
from vitq.reports.layout import NOTHING
from vitq.reports.report import write_report
from vitq.rows import Row

Make = Callable[..., Any]
EVIL = "<script>alert(1)</script>![x](http://e.vil/x.png)|$\\frac$`x`\x1b[31m\u202e\n# heading" + "z" * 300


def size(packed_mb: float) -> Size:
    return Size(params=22_050_664, fp32_mb=88.2, packed_mb=packed_mb)


def many(record: Make) -> list[Row]:
    """Every kind of execution at two batches; as many points close together as a suite has."""

    def both(kernel: str, ms: float) -> list[LatencyRow]:
        return session(kernel, ms) + session(kernel, ms / 7, batch=1, session="b")

    return [
        record(79.85, method="fp32", bits="FP32"),
        record(69.0, bits="W4A4", latency=both("int8-kernel:openvino", 36.0), size=size(11.5)),
        record(78.4, bits="W8A8", latency=both("int8-kernel:openvino", 35.0), size=size(22.3)),
        record(78.1, bits="W8A8", latency=both("int8-kernel:onnxruntime", 44.0), size=size(22.3), variant="channel"),
        record(79.1, method="i_vit", bits="W8A8", latency=both("integer-only:numba", 27.0), size=size(22.4)),
        record(79.0, method="i_vit", bits="W8A8", latency=both("integer-only:tvm", 75.0), size=size(22.4), variant="r"),
        record(70.6, method="binary_vit", bits="W1A1", latency=both("xnor:numba-xnor", 13.0), size=size(4.1)),
        record(77.6, method="minmax", bits="W8A8", latency=session("xnor:x", 1.0)[:3], latency_around=AROUND),
    ]


def table(rows: list[Row]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(latency_table(rows, "csv"))))


def test_a_ratio_is_a_median_over_rounds_timed_in_turn() -> None:
    base, own = timed("fp32", [10.0, 20.0, 30.0]), timed("int8-kernel:x", [5.0, 5.0, 30.0])
    assert ratio(base, own) == 2.0  # of 2, 4 and 1; the medians' ratio is 4
    assert ratio(base, timed("int8-kernel:x", [5.0, 5.0, 30.0], session="another")) is None
    assert ratio(base, timed("int8-kernel:x", [5.0, 5.0, 30.0], threads=1)) is None
    assert ratio(None, own) is None


def test_a_fake_quant_time_has_no_ratio_and_no_point(record: Make) -> None:
    rows = table([record(latency=session("int8-kernel:openvino", 25.0))])
    ratios = {row["exec"]: (row["x best fp32"], row["x eager fp32"]) for row in rows}
    assert ratios["fake-quant"] == ("", "")
    assert ratios["fp32"] == ("0.5", "1.0")
    assert ratios["int8-kernel:openvino"] == ("2.0", "4.0")
    fast = [timed("fp32", [10.0]), timed("fake-quant", [1.0])]
    assert latency_plot.panels([record(latency=fast)]) == {}
    (forms,) = roofline.points([record(latency=fast)], peaks()).values()
    assert [form.exec for form in forms] == ["fp32"]


def test_the_strongest_fp32_is_the_fastest_of_its_kind() -> None:
    rows = [*session("int8-kernel:x", 1.0), timed("bf16:torch", [2.0])]
    best = strongest(rows)
    assert best is not None
    assert best.exec == "fp32:openvino"


def test_where_there_is_no_kernel_there_is_a_reason_and_no_number(record: Make) -> None:
    told = record(latency=session("xnor:x", 1.0)[:3], no_runtime={"openvino": "no form of a | model"})
    silent = record(latency=session("xnor:x", 1.0)[:3], seed=1)
    missing = [row for row in table([told, silent]) if row["exec"].startswith("none")]
    assert [row["exec"] for row in missing] == ["none on openvino", "none"]
    assert all(row["median ms"] == "no kernel" and row["x best fp32"] == "" for row in missing)
    assert "no form of a | model" in missing[0]["checked"]
    assert "--runtime" in missing[1]["checked"]
    assert "no form of a \\| model" in latency_table([told])


def test_a_row_says_what_was_checked_what_ran_and_who_disturbed(record: Make) -> None:
    rows = {row["exec"]: row for row in table([record(latency=session("int8-kernel:x", 9.0), latency_around=AROUND)])}
    kernel = rows["int8-kernel:x"]
    assert kernel["checked"] == "equals fake-quant to 2.0e-05 of the largest output, 98.5 % in the same class"
    assert kernel["operators"] == "Linear 2 fp32 + 48 int8"
    assert kernel["disturbed"] == "yes: other work took 0.75 cores"
    assert (kernel["runtime"], float(kernel["median ms"]), float(kernel["p90 ms"])) == ("x 1.0", 9.0, 9.0 * 1.2)
    assert rows["fp32"]["checked"] == "the reference itself"
    exact = timed("xnor:x", [1.0], reference="xnor:torch", difference=0.0, agreement=100.0)
    (row,) = table([record(latency=[exact])])
    assert row["checked"] == "equals xnor:torch bit for bit"
    (row,) = table([record(latency=[timed("xnor:x", [1.0])])])
    assert row["checked"] == "not checked"


def test_nothing_timed_is_nothing(record: Make, tmp_path: Path) -> None:
    assert latency_table([record()]) == NOTHING
    assert latency_plot.latency_against_accuracy([record()], tmp_path) == []
    assert roofline_plot.rooflines([record()], peaks(), tmp_path) == []


def test_panels_keep_apart_what_cannot_be_compared(record: Make) -> None:
    far = Provenance(vitq="0.1.0", machine="another")
    rows = [
        record(latency=session("int8-kernel:x", 20.0)),
        record(bits="W8A8", latency=session("int8-kernel:x", 20.0, batch=1)),
        record(bits="W6A6", latency=session("int8-kernel:x", 20.0), latency_provenance=far),
        record(bits="W5A5", latency=session("int8-kernel:x", 20.0, threads=1)),
    ]
    found = latency_plot.panels(rows)
    assert len(found) == 4
    assert all(len(shown.points) == 1 for shown in found.values())
    assert all(shown.baselines["strongest"] == ("fp32:openvino", 50.0) for shown in found.values())
    assert all(shown.baselines["eager"] == ("fp32", 100.0) for shown in found.values())


def test_seeds_are_one_point(record: Make) -> None:
    rows = [record(60.0 + s, seed=s, latency=session("int8-kernel:x", 10.0 + 20 * s)) for s in (0, 2)]
    (shown,) = latency_plot.panels(rows).values()
    (point,) = shown.points
    assert (point.accuracy, point.stderr) == (61.0, 1.0)
    assert 10.0 < point.median < 50.0
    assert point.lower < point.median < point.upper


def test_a_point_lies_under_the_roof_of_its_width(record: Make) -> None:
    here = peaks()
    assert roofline.roof_at(here, "fp32", 1e6) == 140e9  # the best of two
    assert roofline.roof_at(here, "int8", 2.0) == 50e9  # 25 GB/s
    assert roofline.roof_at(peaks(rates=[here.rates[0]]), "int8", 2.0) is None
    row = record(latency=session("int8-kernel:x", 100.0), size=size(10.0))
    (forms,) = roofline.points([row], here).values()
    point = next(form for form in forms if form.exec == "int8-kernel:x")
    macs = 8 * 4_598_900_000
    assert point.intensity == pytest.approx(macs / 10e6)
    assert point.rate == pytest.approx(macs / 0.1)
    assert point.share == pytest.approx(macs / 0.1 / 540e9)
    eager = next(form for form in forms if form.exec == "fp32")
    assert (eager.method, eager.intensity) == ("fp32", pytest.approx(macs / 88.2e6))


@pytest.mark.parametrize("other", [{"machine": "another"}, {"threads": 1}, {"device": "cuda"}])
def test_only_what_ran_under_the_same_roof_is_drawn(record: Make, other: dict[str, Any]) -> None:
    assert roofline.points(many(record), peaks(**other)) == {}
    assert roofline.roofline_table(many(record), peaks(**other)) == NOTHING


def test_peaks_are_told_with_what_reached_them() -> None:
    text = peaks_table(peaks(left_out={"int8 by numba VNNI tile": "this CPU has no AVX-512 VNNI"}), "plain")
    lines = {tuple(line.split()[:2]): line for line in text.splitlines()}
    assert lines["fp32", "another"].endswith("yes")
    assert not lines["fp32", "a"].endswith("yes")
    assert "2500.0 GMAC/s" in lines["binary", "a"]
    assert "not measured: this CPU has no AVX-512 VNNI" in lines["int8", "numba"]
    assert "4 times the last cache" in text


def texts(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation) and text.get_fontsize() == 7]


@pytest.mark.parametrize("which", ["latency_plot", "roofline_plot"])
def test_names_in_the_pictures_overlap_nothing(
    which: str, record: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"latency_plot": latency_plot, "roofline_plot": roofline_plot}[which]
    seen: list[Any] = []
    monkeypatch.setattr(module, "save", lambda canvas, path: seen.append(canvas) or path)
    rows = many(record)
    if which == "latency_plot":
        latency_plot.latency_against_accuracy(rows, tmp_path)
    else:
        roofline_plot.rooflines(rows, peaks(), tmp_path)
    (canvas,) = seen
    shown = [axes for axes in canvas.axes if axes.get_visible()]
    assert len(shown) == 2
    for axes in shown:
        named = texts(axes)
        assert len(named) == (6 if which == "latency_plot" else 8)
        boxes = [Text.get_window_extent(text) for text in named]
        inside = axes.get_window_extent()
        assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        points = [axes.transData.transform(text.xy) for text in named]
        assert not any(box.contains(*point) for box in boxes for point in points)
    latency_plot.plt.close("all")


def test_a_report_shows_latency_and_with_peaks_a_roofline(record: Make, tmp_path: Path) -> None:
    text = write_report(many(record), [], {}, tmp_path, tmp_path / "a").read_text(encoding="utf-8")
    assert "(latency_against_accuracy.png)" in text
    assert "roofline" not in text
    text = write_report(many(record), [], {}, tmp_path, tmp_path / "b", peaks=peaks()).read_text(encoding="utf-8")
    for words in ("## Latency", "## Peaks of the machine", "(roofline.png)", "% of its roof", "None."):
        assert words in text
    one, two = (tmp_path / name / "latency_against_accuracy.png" for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert (tmp_path / "b" / "latency.csv").read_text(encoding="utf-8").count("\n") == 53


def test_hostile_names_do_nothing_in_the_report(record: Make, tmp_path: Path) -> None:
    fields = {"method": EVIL, "model": EVIL, "variant": EVIL, "bits": EVIL, "dataset": EVIL}
    rows = session(f"int8-kernel:{EVIL}", 9.0, session=EVIL, runtime=EVIL, version=EVIL, device="cpu")
    evil = record(latency=rows, no_runtime={EVIL: EVIL}, latency_around={EVIL: AROUND["a"]}, **fields)
    found = write_report([evil], [], {}, tmp_path, tmp_path / "out", peaks=peaks(cpu=EVIL, left_out={EVIL: EVIL}))
    text = found.read_text(encoding="utf-8")
    for bad in ("<script>", "](http:", "\x1b", "\u202e", "\n# heading"):
        assert bad not in text
    assert "no picture" not in text
    assert (tmp_path / "out" / "roofline.png").stat().st_size < 2_000_000
    (label,) = [p.label for shown in latency_plot.panels([evil]).values() for p in shown.points]
    assert label.count("\n") == 1
    assert all(len(line) <= 48 and line.isprintable() for line in label.split("\n"))


@pytest.mark.parametrize("ms", [1e-300, 1e300])
def test_times_that_cannot_be_drawn_cost_a_picture_alone(record: Make, tmp_path: Path, ms: float) -> None:
    rows = [timed("fp32", [1.0]), timed("int8-kernel:x", [ms])]
    text = write_report([record(latency=rows)], [], {}, tmp_path, tmp_path / "out", peaks=peaks()).read_text()
    assert "int8-kernel:x" in text
