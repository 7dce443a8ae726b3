"""Records from elsewhere: shown as what they are, and their files read in their folder alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from commands import vitq_here
from rich.console import Console
from rows import CELL, cell, lines, record, write_results

from vitq.benchmarks.run.progress import plain_console

EVIL = "<script>alert(1)</script>![x](http://e.vil/x.png)|`x`\x1b[31m\u202e:x:\n# heading"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)
    Path("secret.json").write_text(json.dumps([{"layer": "TOP SECRET"}]))


def results(folder: str, relative: str) -> None:
    counts = record("counts", CELL, files={"layers": relative})
    write_results(Path(folder), *lines(CELL, counts=counts))


@pytest.mark.parametrize("relative", ["../secret.json", "SECRET", "link", "../r/layers.json", "gone", "a\0b"])
def test_no_file_outside_is_shown(relative: str) -> None:
    relative = str(Path("secret.json").resolve()) if relative == "SECRET" else relative
    results("r", relative)
    Path("r", "link").symlink_to("../secret.json")
    Path("r", "layers.json").write_text("[]")
    said = vitq_here("show", CELL, "-o", "r", "--layers")
    assert said.code == 2
    assert "TOP SECRET" not in said.out + said.err
    assert said.err.startswith("vitq: ")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 100_000, "\xff"])
def test_a_layers_file_that_is_none_is_said_so(content: str) -> None:
    results("r", "layers.json")
    Path("r", "layers.json").write_text(content, encoding="latin-1")
    said = vitq_here("show", CELL, "-o", "r", "--layers")
    assert said.code == 2
    assert "no list of layers" in said.err


def hostile() -> None:
    named = cell(CELL, variant="=1+1", model="digits_vit")
    failed = record("accuracy", named, status="failed", error=EVIL)
    counts = record("counts", named, warnings=[EVIL])
    write_results(Path("r"), *lines(named, accuracy=failed, counts=counts, latency=None, fp32=None))


def test_a_report_of_hostile_records_does_nothing() -> None:
    hostile()
    said = vitq_here("report", "smoke", "-o", "r")
    assert said.code == 0, said.err
    text = Path("r/report/report.md").read_text(encoding="utf-8")
    for bad in ("<script>", "](http:", "\x1b", "\u202e", "\n# heading"):
        assert bad not in text
    assert "\\<script\\>" in text
    for row in csv.reader(io.StringIO(Path("r/report/results.csv").read_text(encoding="utf-8"), newline="")):
        assert not any(word.startswith(("=", "+", "@")) for word in row)


def test_a_terminal_is_shown_what_is_there() -> None:
    hostile()
    said = vitq_here("show", CELL, "-o", "r")
    assert said.code == 0, said.err
    assert "\\x1b[31m" in said.out
    assert all(c.isprintable() for c in said.out.replace("\n", ""))


def test_words_in_brackets_and_colons_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print(":x: [red]a[/red] [/]")
    assert capsys.readouterr().err == ":x: [red]a[/red] [/]\n"
    assert isinstance(plain_console(), Console)
