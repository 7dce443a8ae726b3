"""The report's page opened in a headless Chromium: it works, keeps quiet, can be used by keyboard, and prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import Visit, browser
from option_facts import declared_by_hand
from timed_rows import MACHINE, peaks, session

from vitq.record import Provenance, Size
from vitq.reports.html.page import Content, write_page
from vitq.reports.tables import order
from vitq.reports.verdicts import compare

Make = Callable[..., Any]
EVIL = "&<img src=x onerror=alert(1)><script>alert(2)</script>"
HERE = Provenance(vitq="0.1.0", machine=MACHINE, cpu="a CPU", threads=2, command="vitq run mine")
ROWS = 45

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Chromium is looked for as Unix installs it")


@pytest.fixture(scope="module")
def file(record: Make, figure: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = Size(params=22_050_664, fp32_mb=88.2, packed_mb=88.2)
    here = {"provenance": HERE, "latency_provenance": HERE}
    records = [
        record(79.85, method="fp32", bits="FP32", latency=session("x", 20.0)[:2], size=whole, **here),
        record(69.0, latency=session("int8-kernel:openvino", 30.0), **here),
        record(55.0, method=EVIL, model=EVIL, variant=EVIL, warnings=[EVIL], **here),
        record(None, method="pmq", status="failed", error="RuntimeError: no convergence", **here),
        *(record(60 + seed / 4, method="minmax", seed=seed, **here) for seed in range(ROWS - 4)),
    ]
    rows = order(records)
    figures = [figure(), figure(value=75.0, table="Table 2")]
    comparisons = compare(rows, figures, declared_by_hand())
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_page(Content(rows, comparisons, figures, [], [], peaks(), suite="mine"), path)


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def visit(chrome: Any, file: Path) -> Iterator[Visit]:
    """One visit for all tests, which may write nothing on the console and fetch nothing, whatever they do."""
    found = Visit(chrome, file, viewport={"width": 1280, "height": 800})
    found.ready()
    yield found
    assert found.said == []
    assert found.fetched == []


@pytest.fixture
def page(visit: Visit) -> Any:
    """The page as it is when nobody has touched it."""
    page = visit.page
    page.evaluate("location.hash = ''")
    page.evaluate("document.querySelectorAll('details.record').forEach(each => each.open = false)")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    for table in ("results", "compared"):
        filters(page, table).get_by_role("button", name="Clear").click()
    page.locator("#results-box .dt-info", has_text=f"1 to 25 of {ROWS} rows").wait_for()
    return page


def opened(chrome: Any, file: Path, table: str, **how: Any) -> Visit:
    """A visit of a test's own, waited for until one table is made."""
    found = Visit(chrome, file, **how)
    found.page.wait_for_selector(f"#{table}-box", state="attached")
    found.page.evaluate(f"document.getElementById('{table}-box').scrollIntoView()")
    found.page.wait_for_selector(f"#{table}-box[data-ready]")
    found.page.evaluate("scrollTo(0, 0)")
    return found


def column(page: Any, at: int) -> list[str]:
    rows = f"[...document.querySelectorAll('#results tbody tr')].map(r => r.cells[{at}].textContent)"
    return list(page.evaluate(rows))


def filters(page: Any, table: str) -> Any:
    return page.locator(f"#{table}-box form")


def info(page: Any) -> str:
    return str(page.inner_text("#results-box .dt-info"))


def test_it_says_nothing_on_the_console_and_fetches_nothing(visit: Visit) -> None:
    assert visit.said == []
    assert visit.fetched == []
    assert visit.page.evaluate("document.querySelectorAll('[data-plot][data-ready]').length") >= 5


def test_hostile_names_are_text(page: Any) -> None:
    assert page.evaluate("document.querySelectorAll('img, svg image').length") == 0
    assert EVIL in " ".join(column(page, 0) + column(page, 1) + column(page, 3))
    assert page.evaluate(f"[...document.querySelectorAll('option')].some(o => o.value === {EVIL!r})")
    assert EVIL in page.inner_text("#troubles")
    names = page.evaluate("[...document.querySelectorAll('.legendtext')].map(t => t.textContent)")
    assert any(name.startswith("&<img src=x") for name in names)


def test_a_table_sorts_by_pointer_and_by_keyboard(page: Any) -> None:
    heading = "#results thead th:nth-child(5)"
    page.click(heading)
    page.wait_for_selector(f"{heading}[aria-sort=descending]")
    top = [float(text.split()[0]) for text in column(page, 4)]
    assert top == sorted(top, reverse=True)
    page.focus(f"{heading} [role=button]")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{heading}[aria-sort=ascending]")
    shown = [float(text.split()[0]) for text in column(page, 4) if text]
    assert shown == sorted(shown)


@pytest.mark.parametrize(
    ("label", "choice", "left"),
    [("Method", "repq_vit", 1), ("Model", EVIL, 1), ("Verdict", "reproduced", 1), ("Status", "failed", 1),
     ("Task", "classification", ROWS)],
    ids=["method", "model", "verdict", "status", "task"],
)  # fmt: skip
def test_a_table_is_filtered(page: Any, label: str, choice: str, left: int) -> None:
    filters(page, "results").get_by_label(label, exact=True).select_option(choice)
    assert f"of {left} row" in info(page)


def test_a_table_is_searched(page: Any) -> None:
    filters(page, "results").get_by_label("Search").fill("<img")
    assert info(page).startswith("1 to 1 of 1 row")


def test_figures_not_run_and_runs_without_a_figure_are_left_out_until_asked_for(chrome: Any, file: Path) -> None:
    page = opened(chrome, file, "compared").page
    box = page.locator("#compared-box")
    words = box.locator("tbody tr td:first-child, tbody tr th:first-child").all_inner_texts()
    assert {word.strip() for word in words} == {"reproduced", "below"}
    filters(page, "compared").get_by_label("Verdict").select_option("no-figure")
    assert "no-figure" in box.locator("tbody").inner_text()
    page.close()


def test_a_number_opens_its_record(page: Any) -> None:
    filters(page, "results").get_by_label("Method", exact=True).select_option("repq_vit")
    page.click("#results tbody td.number a")
    page.wait_for_selector("details.record[open] dl")
    opened = page.locator("details.record[open]")
    assert "repq_vit/classification/imagenet-1k" in opened.locator("> summary").inner_text()
    assert page.evaluate("document.activeElement.parentElement.matches('details.record[open]')")
    opened.get_by_text("As JSON").click()
    assert '"value": 69' in opened.locator("pre").inner_text()
    page.go_back()
    page.click("#compared tbody td.number a")
    assert page.evaluate("document.activeElement.id").startswith("source-")


def test_a_link_from_elsewhere_opens_the_record(chrome: Any, file: Path, visit: Visit) -> None:
    id = visit.page.evaluate("document.querySelector('details.record').id")
    page = chrome.new_page()
    page.goto(f"{file.as_uri()}#{id}")
    page.wait_for_selector(f"#{id}[open] dl")
    page.close()


def test_points_show_their_names_and_open_their_records(page: Any) -> None:
    page.locator("#front-0-size, #front-1-size").first.scroll_into_view_if_needed()
    point = page.locator("[data-plot] .scatterlayer .points path").first
    point.hover(force=True)
    page.wait_for_selector(".hoverlayer .hovertext")
    assert (
        "accuracy" in page.inner_text(".hoverlayer .hovertext")
        if False
        else page.text_content(".hoverlayer .hovertext")
    )
    point.click(force=True)
    page.wait_for_selector("details.record[open] dl")


def test_every_plot_has_its_points_as_a_table(visit: Visit) -> None:
    count = "[...document.querySelectorAll('figure.plot')].map(f => f.querySelectorAll('tbody tr').length)"
    plots = visit.page.evaluate(count)
    assert plots
    assert all(plots)


def test_keyboard_and_screen_reader(chrome: Any, file: Path) -> None:
    page = opened(chrome, file, "results").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    unnamed = """[...document.querySelectorAll('a, button, select, input, [role=button], [role=region], nav')]
        .filter(e => e.getClientRects().length)
        .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length))
        .map(e => e.outerHTML.slice(0, 120))"""
    assert page.evaluate(unnamed) == []
    navs = page.evaluate("[...document.querySelectorAll('nav')].map(n => n.getAttribute('aria-label'))")
    assert len(set(navs)) == len(navs)
    headings = "[...document.querySelectorAll('#results-box thead th')].every(h => h.scope === 'col')"
    assert page.evaluate(headings)
    assert page.evaluate("[...document.querySelectorAll('#results tbody th')].every(h => h.scope === 'row')")
    boxes = "[...document.querySelectorAll('.dt-layout-table')].map(b => `${b.tabIndex} ${b.getAttribute('role')}`)"
    assert set(page.evaluate(boxes)) == {"0 region"}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(chrome: Any, file: Path, scheme: str) -> None:
    page = chrome.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    ratios = page.evaluate("""() => {
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
            const hex = style.getPropertyValue(name).trim().slice(1);
            const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
                .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
        };
        const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
        return ['--ink', '--muted', '--accent', '--bad', '--warn', '--good']
            .flatMap((name) => [ratio(name, '--paper'), ratio(name, '--raised')]);
    }""")
    page.close()
    assert min(ratios) >= 4.5


def test_a_narrow_screen_scrolls_tables_and_not_the_page(chrome: Any, file: Path) -> None:
    found = opened(chrome, file, "results", viewport={"width": 400, "height": 800})
    page = found.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    table = "document.querySelector('#results-box .dt-layout-table')"
    assert page.evaluate(f"{table}.scrollWidth > {table}.clientWidth")
    assert found.said == []
    page.close()


def test_a_print_shows_every_row_and_no_control(page: Any) -> None:
    assert len(column(page, 0)) == 25
    page.emulate_media(media="print")
    page.wait_for_selector(f"#results tbody tr:nth-child({ROWS})")
    controls = page.locator("nav, form, button, select, input")
    assert not any(control.is_visible() for control in controls.all())
    page.emulate_media(media="screen")
    page.wait_for_selector("#results tbody tr:nth-child(26)", state="detached")
    assert len(column(page, 0)) == 25
