"""The report's page, read without a browser: complete in itself, everything linked, and whatever is named only text."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from option_facts import declared_by_hand
from PIL import Image
from report_pages import Page, links, shown
from timed_rows import AROUND, MACHINE, peaks, session

from vitq.record import Provenance, Size
from vitq.reports.html.packed import picture_address
from vitq.reports.html.page import Content, page
from vitq.reports.html.sources import addresses
from vitq.reports.pictures import Picture
from vitq.reports.report import write_report
from vitq.reports.tables import order
from vitq.reports.verdicts import compare
from vitq.rows import Row

Make = Callable[..., Any]
OPTIONS = declared_by_hand()
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&<b>'\"`\x1b[31m\u202e"
LIMIT = 10_000_000


def made(records: list[Row], figures: list[Any] = [], **more: Any) -> Page:  # noqa: B006
    return Page(text_of(records, figures, **more))


def text_of(records: list[Row], figures: list[Any], **more: Any) -> str:
    rows = order(records)
    comparisons = compare(rows, figures, OPTIONS)
    return page(Content(rows, comparisons, figures, **{"pictures": [], "problems": [], **more}))


@pytest.fixture
def records(record: Make) -> list[Row]:
    """Two methods with kernels and an FP32 model, a failure of two cells, a warning; on two machines."""
    other = Provenance(vitq="0.1.0", machine="gpu box", gpu="a GPU", git_commit="abcdef0123456", git_dirty=True)
    whole = Size(params=22_050_664, fp32_mb=88.2, packed_mb=88.2)
    reason = "RuntimeError: no convergence\nmore"
    return [
        record(79.85, method="fp32", bits="FP32", latency=session("int8-kernel:x", 20.0)[:2], size=whole),
        record(69.0, latency=session("int8-kernel:openvino", 30.0), latency_around=AROUND),
        record(71.0, variant="channel", warnings=["few images"]),
        record(
            60.0, method="psaq_vit_v2", fidelity="reconstruction", provenance=other, dataset="imagenet-proxy", n=744
        ),
        record(None, method="pmq", status="failed", error=reason, seed=0),
        record(None, method="pmq", status="failed", error=reason, seed=1),
    ]


@pytest.fixture
def figures(figure: Make) -> list[Any]:
    return [figure(), figure(value=78.0, disputed_low=68, disputed_high=69, source="arXiv 2311.10126 footnote")]


def test_the_first_screen_says_what_was_run_on_what_and_what_must_not_be_concluded(
    records: list[Row], figures: list[Any]
) -> None:
    text = text_of(records, figures, suite="proxy")
    first = " ".join(Page(text[: text.index("<nav")] + "</body></html>").words.split())
    for words in (
        "of proxy",
        "6: 4 done, 2 failed",
        "n = 50,000 images",
        "box, a CPU",
        "gpu box",
        "with local changes",
    ):
        assert words in first, words
    limits = (
        "psaq_vit_v2† are what their authors ran", "a small difference between two rows", "imagenet-proxy: stand-ins",
        "with another seed", "2 cells failed", "differ by their method alone", "disturbed by other work",
    )  # fmt: skip
    for words in limits:
        assert words in first, words
    assert "accuracy was confirmed or refuted" not in first  # here two were compared


def test_without_a_comparable_figure_nothing_is_confirmed(record: Make, figure: Make) -> None:
    words = made([record(60.0, dataset="imagenet-proxy", n=744)], [figure()]).words
    assert "That any paper's figure was confirmed or refuted." in words
    assert "No integer or binary kernel was timed here" in words


def test_failures_and_warnings_come_first_and_the_same_reason_once(records: list[Row]) -> None:
    found = made(records, problems=["pmq_plots: no pictures"])
    places = [e.attributes["id"] for e in found.elements if e.name == "section" and "id" in e.attributes]
    assert places.index("troubles") < places.index("results-section") < places.index("records")
    assert found.words.count("RuntimeError: no convergence") == 1
    assert "2 cells" in found.words
    assert found.words.index("no convergence") < found.words.index("few images") < found.words.index("no pictures")


def test_every_number_leads_to_its_record_and_every_figure_to_its_source(
    records: list[Row], figures: list[Any]
) -> None:
    found = made(records, figures, peaks=peaks())
    assert len(set(found.ids)) == len(found.ids)
    inside = {a["href"][1:] for a in found.of("a") if a.get("href", "").startswith("#")}
    packed = {to for name in found.packed if name.startswith("data-") for to in links(found.data(name))}
    points = {
        to for plot in found.data("data-plots").values() for t in plot["traces"] for to in t.get("customdata", [])
    }
    assert (inside | packed | points - {""}) <= set(found.ids)
    ids = {d["id"] for d in found.of("details") if d.get("class") == "record"}
    assert len(ids) == len(records)
    for row in found.table("results"):
        assert row[0]["r"] in ids
        assert all(cell["r"] in ids for cell in (row[4], row[7], row[8]) if cell)
    reported = [row[5] for row in found.table("compared") if row[5]]
    assert {cell["r"] for cell in reported} <= {e["id"] for e in found.of("li") if "id" in e}
    assert len({cell["r"] for cell in reported}) == len(figures)


def test_measured_stands_beside_reported_with_the_difference_and_its_error(
    records: list[Row], figures: list[Any]
) -> None:
    rows = [[shown(cell) for cell in row] for row in made(records, figures).table("compared")]
    first = next(row for row in rows if row[0] == "reproduced")
    assert first[5:8] == ["69.03", "69.00 ± 0.21", "-0.03 ± 0.21"]
    assert {row[0] for row in rows} >= {"reproduced", "disputed", "no-figure"}


def test_a_record_is_whole_but_for_long_lists(records: list[Row]) -> None:
    found = made(records)
    kept = {each["json"]["cell"]["id"]: each for each in found.records}
    assert set(kept) == {row.cell.id for row in records}
    timed = next(
        each for each in kept.values() if each["json"].get("latency") and each["json"]["cell"]["bits"] == "W4A4"
    )
    assert timed["json"]["metrics"]["top1"]["value"] == 69.0
    assert ["status", "done"] in timed["facts"]
    long = made([records[1].model_copy(update={"latency": [records[1].latency[0].model_copy(
        update={"samples_ms": [1.0] * 40})]})]).records[0]  # fmt: skip
    assert long["json"]["latency"][0]["samples_ms"] == "40 numbers, in records.jsonl"


def test_fronts_name_their_points_and_say_what_lies_on_them(records: list[Row]) -> None:
    found = made(records)
    plots = found.data("data-plots")
    assert {"front-0-size", "front-0-bitops", "front-0-latency-0"} <= set(plots)
    hover = [text for plot in plots.values() for trace in plot["traces"] for text in trace.get("hovertext", [])]
    assert any("repq_vit[channel] W4A4<br>top-1 accuracy 71.00 ± 0.21 %<br>11.5 MB, on the front" in t for t in hover)
    assert any("int8-kernel:openvino" in text and "30 ms" in text for text in hover)
    assert any("FP32, fp32:openvino" in text for text in hover)
    for plot in found.of("div"):
        if "data-plot" in plot:
            assert plot["role"] == "img"
            assert "table below has every point" in plot["aria-label"]


def test_the_roofline_and_the_peaks_are_there(record: Make) -> None:
    here = Provenance(vitq="0", machine=MACHINE)
    timed = record(latency=session("int8-kernel:openvino", 20.0), provenance=here, latency_provenance=here)
    found = made([timed], peaks=peaks())
    assert "roofline-0" in found.data("data-plots")
    assert found.table("peaks-table")
    assert "of its int8 roof" in str(found.data("data-plots")["roofline-0"])
    assert "No roofline" in made([timed]).words


def test_nothing_is_fetched_and_no_markup_of_a_record_can_run(
    records: list[Row], figures: list[Any], tmp_path: Path
) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    drawn = Picture(tmp_path / "a.png", "A picture", "of red", ({"colour": "red", "share": "1"},))
    text = text_of(records, figures, pictures=[drawn], peaks=peaks())
    found = Page(text)
    for element in found.elements:
        attributes = element.attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert "srcset" not in attributes
        if element.name == "a":
            assert attributes["href"].startswith(("#", "https://"))
        elif "href" in attributes:
            assert attributes["href"] == "data:,"
    style = "".join(found.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(m["content"] for m in found.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    script = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}' blob:" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "of red" in found.words


def test_hostile_names_are_text_and_their_bytes_are_seen(record: Make, figure: Make) -> None:
    bad = [
        record(69.0, model=EVIL, variant=EVIL, warnings=[EVIL], latency=session(f"int8-kernel:{EVIL}", 3.0)),
        record(None, method=EVIL, status="failed", error=EVIL),
        record(50.0, dataset=EVIL, provenance=Provenance(vitq=EVIL, machine=EVIL, command=EVIL, packages={EVIL: EVIL})),
    ]
    text = text_of(bad, [figure(source=EVIL, table=EVIL, model=EVIL)], title=EVIL, suite=EVIL, problems=[EVIL])
    found = Page(text)
    plain = made([record(69.0)], [figure()])
    assert {e.name for e in found.elements} <= {e.name for e in plain.elements} | {"details", "summary", "code"}
    assert [s for s in found.of("script") if "id" not in s] == [{}]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in found.words
    assert all("\x1b" not in str(found.data(name)) for name in found.packed if not name.startswith("library-"))
    hover = str(found.data("data-plots"))
    assert "&lt;img src=x" in hover
    assert "<img" not in hover
    assert "<script" not in hover


def test_a_page_of_nothing_says_so() -> None:
    found = made([])
    assert "nothing was run" in found.words
    assert "Anything at all" in found.words
    assert "library-plotly" not in found.packed


@pytest.mark.parametrize("value", [1e308, 1e-300])
def test_numbers_that_cannot_be_drawn_are_still_told(record: Make, value: float) -> None:
    found = made([record(latency=session("int8-kernel:x", value))], peaks=peaks())
    assert any("int8-kernel:x" in str(row) for row in found.table("latency"))


def test_equal_records_give_equal_pages(records: list[Row], figures: list[Any]) -> None:
    assert text_of(records, figures) == text_of(list(reversed(records)), figures)


def test_headings_tables_forms_and_pictures_can_be_read_aloud(
    records: list[Row], figures: list[Any], tmp_path: Path
) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    drawn = Picture(tmp_path / "a.png", "A picture", "of black", ({"a": "1"},))
    found = made(records, figures, pictures=[drawn], peaks=peaks())
    assert found.of("html")[0]["lang"] == "en"
    assert [len(found.of(name)) for name in ("h1", "main", "header", "footer", "nav")] == [1] * 5
    levels = [int(e.name[1]) for e in found.elements if re.fullmatch("h[1-6]", e.name)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(found.of("caption")) == len(found.of("table"))
    assert all(th.get("scope") in ("col", "row") for th in found.of("th"))
    assert all(image["alt"].startswith("A picture. of black") for image in found.of("img"))
    controls = [e for e in found.elements if e.name in ("input", "select")]
    assert controls
    assert {e.attributes["id"] for e in controls} == {label["for"] for label in found.of("label")}
    labelled = {s["aria-labelledby"] for s in found.of("section")}
    assert labelled <= set(found.ids)
    assert all(not int(e.attributes.get("tabindex", "0")) > 0 for e in found.elements)


def test_five_thousand_records_stay_below_ten_megabytes(record: Make) -> None:
    def some(count: int) -> int:
        methods = ("minmax", "repq_vit", "pmq", "i_vit")
        return len(text_of([
            record(50 + seed % 37 / 3, seed=seed, method=methods[seed % 4], variant=f"v{seed % 5}",
                   latency=session("int8-kernel:x", 10 + seed % 23)) for seed in range(count)
        ], []))  # fmt: skip

    few, more = some(200), some(600)
    assert more + (more - few) / 400 * 4400 < LIMIT


def test_a_picture_lies_in_the_page(tmp_path: Path) -> None:
    Image.new("RGB", (3200, 100), "blue").save(tmp_path / "wide.png")
    address, width, height = picture_address(tmp_path / "wide.png")
    assert address.startswith("data:image/webp;base64,")
    assert (width, height) == (1600, 50)


def test_sources_have_the_addresses_that_they_name() -> None:
    assert addresses("arXiv 2209.05687 abstract") == [("arXiv 2209.05687", "https://arxiv.org/abs/2209.05687")]
    repository = ("github.com/zkkli/RepQ-ViT", "https://github.com/zkkli/RepQ-ViT")
    assert addresses("github.com/zkkli/RepQ-ViT classification/README @ a160561") == [repository]
    assert addresses("zkkli/RepQ-ViT issue 10") == [repository]
    assert addresses("counted from the architecture") == []


def test_the_page_is_written_beside_the_other_files(record: Make, figure: Make, tmp_path: Path) -> None:
    write_report([record(69.0)], [figure()], OPTIONS, tmp_path, tmp_path / "out", suite="mine")
    found = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "Report of mine" in " ".join(found.words.split())
    assert {"report.md", "results.csv", "compare.csv"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_a_picture_of_differences_holds_no_more_than_it_has_room_for(record: Make, figure: Make) -> None:
    figures = [figure(value=60 + i / 100, table=f"Table {i}") for i in range(130)]
    found = made([record(69.0)], figures)
    plot = found.data("data-plots")["differences"]
    assert len(plot["layout"]["yaxis"]["ticktext"]) == 100
    assert plot["height"] < 3000
    assert "The 100 that differ most of 130; the table has all." in found.words
    assert sum(row[0] != "not-run" for row in found.table("compared")) == 130
