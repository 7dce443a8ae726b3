"""Tables as text: every format holds the same cells, and a plain one fits the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.escape import line
from vitq.reports.layout import NOTHING, render

NAMES = st.sampled_from(["a", "b", "c d", "é"])
CELLS = st.one_of(st.none(), st.integers(), st.floats(), st.booleans(), st.text(max_size=12))
ROWS = st.lists(st.dictionaries(NAMES, CELLS, min_size=1), min_size=1, max_size=4)


@settings(deadline=None)
@given(ROWS)
def test_json_gives_back_what_it_was_given(rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    found = json.loads(render(rows, "json"))
    assert [list(row) for row in found] == [columns] * len(rows)
    for before, after in zip(rows, found, strict=True):
        for name in columns:
            value = before.get(name)
            assert after[name] == (None if isinstance(value, float) and not math.isfinite(value) else value)


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries({"a": st.integers() | st.none(), "b": st.text("xyz ,\"'\n", max_size=8)}), min_size=1
    )
)
def test_csv_gives_back_what_it_was_given(rows: list[dict[str, Any]]) -> None:
    found = list(csv.DictReader(io.StringIO(render(rows, "csv"), newline="")))
    assert found == [{"a": "" if row["a"] is None else str(row["a"]), "b": row["b"]} for row in rows]


WORDY = st.text("abcdé -", min_size=1, max_size=60)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"name": WORDY, "what": WORDY}), min_size=1, max_size=3), st.integers(40, 120))
def test_a_plain_table_fits_and_loses_nothing(rows: list[dict[str, str]], width: int) -> None:
    text = render(rows, "plain", width=width)
    assert max(map(len, text.splitlines())) <= width
    letters = "".join(c for row in rows for value in row.values() for c in line(value) if c.isalpha())
    if letters:
        assert sorted("".join(c for c in text.split("\n", 2)[-1] if c.isalpha())) == sorted(letters)


@pytest.mark.parametrize("width", [20, 30, 33])
def test_a_terminal_too_narrow_for_columns_gets_a_block_a_row(width: int) -> None:
    cell = "repq_vit/classification/digits/digits_vit/W4A4/seed0"
    text = render(
        [{"cell": cell, "n": "600", "why": ""}, {"cell": "x", "n": "1", "why": "it was so and so"}],
        "plain",
        width=width,
    )
    first, second = text.split("\n\n")
    assert first.splitlines() == [f"cell  {cell}", "n     600"], "an id stays whole, to be copied"
    assert [each[:6] for each in second.splitlines()][:2] == ["cell  ", "n     "]
    assert " ".join(second.split()).endswith("why it was so and so")


def test_nothing_is_said_in_each_format() -> None:
    assert (render([], "plain"), render([], "md"), render([], "csv"), render([], "json")) == (
        NOTHING,
        NOTHING,
        "\n",
        "[]",
    )
    with pytest.raises(ValueError, match="plain, md, csv, json"):
        render([], "html")  # type: ignore[arg-type]


def test_md_is_markdown() -> None:
    rows = [{"a": "x|y", "b": 1}]
    assert render(rows, "md") == render(rows, "markdown")


def test_json_holds_nothing_that_a_terminal_obeys() -> None:
    assert render([{"a": "\x1b[31m‮é"}], "json").isascii()
    assert "\x1b" not in render([{"a": "\x1b[31m"}], "json")
