"""What the documentation's pages are made of: they name all there is, and nothing of them comes from outside."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from timed_rows import session

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "generate"))

from command_page import command_names, commands  # noqa: E402
from directives import expand  # noqa: E402
from equations import to_mathml  # noqa: E402
from measurements import comparisons, rows  # noqa: E402
from method_page import card, figures, options  # noqa: E402
from outside import loads_from_outside  # noqa: E402

from vitq.methods.cards import all_cards  # noqa: E402
from vitq.methods.registry import METHODS  # noqa: E402
from vitq.reports.compare_tables import compare_table  # noqa: E402
from vitq.reports.latency_table import latency_table  # noqa: E402
from vitq.reports.run_tables import seeds_table  # noqa: E402
from vitq.reports.tables import results_table  # noqa: E402
from vitq.reports.verdicts import VERDICTS  # noqa: E402
from vitq.rows import Row  # noqa: E402


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def header(table: str, by: str) -> list[str]:
    return [name.strip() for name in table.splitlines()[0].strip("|").split(by)]


def test_every_method_has_a_page_with_all_of_its_parts() -> None:
    for name in METHODS.ours:
        page = text("methods/baselines.md" if name in ("fp32", "minmax") else f"methods/{name}.md")
        parts = ("card", "measured") if name == "fp32" else ("card", "options", "figures", "measured")
        assert all(f"<!-- vitq: {part} {name} -->" in page for part in parts), name


def test_navigation_names_every_page_once() -> None:
    def pages(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        inner = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []
        return [page for each in inner for page in pages(each)]

    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def few() -> list[Row]:
    """A row a task, the first with times: a table of all takes half a minute."""
    found = {r.cell.task: r for r in rows() if r.cell.method == "minmax" and r.cell.bits == "W8A8"}
    first, *others = found.values()
    return [first.model_copy(update={"latency": session("int8-kernel:openvino", 36.0)}), *others]


def seeds() -> list[Row]:
    return [row for row in rows() if row.cell.variant == "random"]


@pytest.mark.parametrize(("table", "known"), [(results_table, few), (latency_table, few), (seeds_table, seeds)])
def test_the_page_of_columns_has_every_column(table: Callable[..., str], known: Callable[[], list[Row]]) -> None:
    page = text("columns.md")
    columns = header(table(known(), "markdown"), "|")
    assert len(columns) > 5
    missing = [name for name in columns if f"{name} |" not in page and f"{name}," not in page]
    assert not missing


def test_the_page_of_columns_has_every_column_of_a_csv() -> None:
    words = set(re.split(r"[\s|,\[\]`]+", text("columns.md")))
    metrics = sorted({name for row in few() for name in row.metrics}, key=len, reverse=True)
    for name in header(results_table(few(), "csv"), ","):
        metric = next((metric for metric in metrics if name == metric or name.startswith(f"{metric}_")), None)
        shown = name.partition("[")[0] if metric is None else f"METRIC{name.removeprefix(metric)}"
        assert shown in words, name


def test_the_page_of_columns_has_every_verdict_and_column_of_the_comparison() -> None:
    page = text("columns.md")
    assert all(f"`{verdict}`" in page for verdict in VERDICTS)
    columns = header(compare_table(comparisons(), "markdown", everything=True), "|")
    assert not [name for name in columns if f"| {name} |" not in page]


def test_the_command_page_has_every_command_and_option() -> None:
    made = commands()
    assert len(command_names()) > 8
    for name in command_names():
        assert f"## {name}\n" in made
    assert "`--dry-run`" in made
    assert "run nothing." in made


@pytest.mark.parametrize("method", METHODS.ours)
def test_a_method_s_parts_hold_what_it_declares(method: str) -> None:
    known = all_cards()[method]
    assert all(f"| `{name}` |" in options(method) for name in known.options)
    assert card(method).count("\n- ") >= len(known.differences) - 1
    reported = [c.figure for c in comparisons() if c.figure is not None and c.figure.cell_method == method]
    assert all(figure.printed in figures(method) for figure in reported)


def test_a_line_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is generated under the name 'optoins'"):
        expand("<!-- vitq: optoins repq_vit -->")
    with pytest.raises(ValueError, match="asks for nothing"):
        expand("Inline <!-- vitq: options repq_vit -->")
    with pytest.raises(ValueError, match=r"no file methods/none\.py"):
        expand("<!-- vitq: file methods/none.py python -->")


def test_an_equation_that_would_be_shown_as_its_source_is_refused() -> None:
    assert "<math" in to_mathml('<div class="arithmatex">\\[x \\le 2\\]</div>')
    assert to_mathml("<p>nothing</p>") == "<p>nothing</p>"
    with pytest.raises(ValueError, match=r"\\nonsense"):
        to_mathml('<span class="arithmatex">\\(\\nonsense x\\)</span>')


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<a href="https://arxiv.org/abs/1">a link</a>', []),
        ('<img src="data:image/png;base64,AA">', []),
        ('<link rel="canonical" href="https://here/">', []),
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', ["//fonts.example/x.css"]),
        ('<img src="http://a.example/b.png">', ["http://a.example/b.png"]),
        ('<div style="background: url(https://a.example/b.png)">', ["background: url(https://a.example/b.png)"]),
    ],
)
def test_what_a_page_would_load_from_outside_is_found(html: str, loads: list[str]) -> None:
    assert loads_from_outside(html) == loads
