"""Text of others does nothing where it is shown, and a record's files stay in its folder."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitq import escape
from vitq.errors import BadInputError
from vitq.reports.files import inside
from vitq.reports.layout import render

HOSTILE = (
    "<script>alert(1)</script> ![x](http://e.vil/x.png) [a](b) `code` | *b* ~~s~~ $m$ &lt; www.e.vil a@b.c \x1b[31m"
)


def test_markdown_renders_as_the_text_itself() -> None:
    shown = escape.markdown(HOSTILE)
    bare = re.sub(r"\\.", "", shown)
    assert not set("<>[]|`*~$\x1b") & set(bare)
    for mark in ("://", "www.", "&lt;", "@"):
        assert mark not in bare
    assert r"\\x1b" in shown
    assert escape.markdown("repq_vit W4A4, 5.1 %") == "repq_vit W4A4, 5.1 %"
    assert escape.markdown("a\n\n# b") == "a # b"


@given(st.text())
def test_markdown_is_one_line_and_loses_no_letter(text: str) -> None:
    shown = escape.markdown(text)
    assert len(shown.splitlines()) <= 1
    assert [c for c in shown if c.isalpha()][: len(text)] or not any(c.isalpha() for c in text)


@pytest.mark.parametrize("text", ["a`b", "``", "`", "a``b`c", "x\ny", "\u202eabc"])
def test_a_code_span_cannot_be_left(text: str) -> None:
    shown = escape.code(text)
    fence = shown[: len(shown) - len(shown.lstrip("`"))]
    assert shown.endswith(fence)
    assert fence not in shown[len(fence) : -len(fence)]
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "-", "=cmd|' /C x'!A0"]
)
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(render([{"a": text}], "csv"), newline=""))
    assert row["a"].startswith(("'", "\\x0d"))


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e-5", -1.5, 3, None, "W4A4", "a=b"])
def test_numbers_and_words_stay_as_they_are(value: object) -> None:
    assert escape.csv_cell(value) == value


@given(st.text())
def test_nothing_invisible_reaches_a_terminal(text: str) -> None:
    for shown in (escape.line(text), render([{"a": text or "x"}], "plain"), render([{"a": text or "x"}], "markdown")):
        assert all(c.isprintable() for c in shown.replace("\n", ""))


def test_tables_keep_their_columns() -> None:
    for fmt in ("markdown", "plain"):
        lines = render([{"a|b": "c | d\ne", "f": "g"}], fmt).splitlines()
        assert len(lines) == 3
        assert fmt == "plain" or all(line.replace("\\|", "").count("|") == 3 for line in lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "results"
    (home / "artifacts").mkdir(parents=True)
    (home / "artifacts" / "layers.json").write_text("[]")
    (tmp_path / "secret").write_text("s")
    (home / "out").symlink_to(tmp_path / "secret")
    (home / "up").symlink_to(tmp_path)
    (home / "loop").symlink_to(home / "loop")
    os.mkfifo(home / "pipe")
    return home


def test_a_file_of_a_record_is_found_in_its_folder(folder: Path) -> None:
    assert inside(folder, "artifacts/layers.json").read_text() == "[]"


@pytest.mark.parametrize(
    "relative",
    ["../secret", "/etc/passwd", "out", "up/secret", "artifacts/../../secret", "artifacts/../artifacts/layers.json",
     "", ".", "artifacts", "gone", "pipe", "loop", "a\0b", "x" * 5000, "out/x", "\udcff"],
)  # fmt: skip
def test_a_file_that_leads_out_or_is_none_is_not_read(folder: Path, relative: str) -> None:
    with pytest.raises(BadInputError) as error:
        inside(folder, relative)
    assert "\n" not in str(error.value)
