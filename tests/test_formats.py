"""Every table that a command prints, in every format: the same cells, alone on standard output, whoever reads it."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from commands import Said, vitq_here
from places import VITQ, vitq

PICK = "digits_vit and classification and (fp32/ or minmax/) and (FP32 or W4*)"
RUN = ("run", "smoke", "-k", PICK, "--limit", "40", "--results", "r")
LISTS = {
    "methods": ("list", "methods"),
    "models": ("list", "models", "*swin*"),
    "datasets": ("list", "datasets"),
    "suites": ("list", "suites"),
    "runtimes": ("list", "runtimes"),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of two cells, said quietly."""
    root = tmp_path_factory.mktemp("formats")
    return root, vitq(*RUN, "--quiet", cwd=root)


@pytest.fixture
def here(done: tuple[Path, subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(done[0])
    monkeypatch.delenv("VITQ_SITE", raising=False)
    return done[0]


def plain(text: str) -> list[dict[str, str]]:
    """A plain table read back by the dashes below its heads."""
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if re.fullmatch(r"-+( +-+)*", line))
    spans = [match.span() for match in re.finditer("-+", lines[at])]
    spans = [(start, spans[i + 1][0] if i + 1 < len(spans) else None) for i, (start, _) in enumerate(spans)]
    rows = []
    for line in lines[at + 1 :]:
        if not line.strip():
            break
        rows.append({lines[at - 1][a:b].strip(): line[a:b].strip() for a, b in spans})
    return rows


def md(text: str) -> list[dict[str, str]]:
    """The last table of a Markdown text."""
    last = text.rpartition("\n\n|")
    lines = [line for line in f"|{last[2].removeprefix('|')}".splitlines() if line[:1] == "|"]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def in_format(name: str, *words: str) -> Said:
    said = vitq_here(*words, "--format", name)
    assert said.code == 0, said.err
    return said


def texts(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    """Rows without their empty cells, every cell as text in single spaces."""
    return [{k: " ".join(str(v).split()) for k, v in row.items() if v not in (None, "")} for row in rows]


def parsed(*words: str) -> tuple[list[dict[str, object]], list[dict[str, str]]]:
    """The rows as JSON and CSV have them; nothing else is on standard output."""
    return (
        json.loads(in_format("json", *words).out),
        list(csv.DictReader(io.StringIO(in_format("csv", *words).out, newline=""))),
    )


@pytest.mark.parametrize("what", LISTS)
def test_a_list_has_the_same_cells_in_every_format(what: str) -> None:
    rows, by_csv = parsed(*LISTS[what])
    assert texts(by_csv) == texts(rows)  # type: ignore[arg-type]
    assert texts(plain(vitq_here(*LISTS[what]).out)) == texts(rows)  # type: ignore[arg-type]
    unescaped = [
        {k: re.sub(r"\\(.)", r"\1", v) for k, v in row.items()} for row in md(in_format("md", *LISTS[what]).out)
    ]
    assert texts(unescaped) == texts(rows)  # type: ignore[arg-type]


def test_cells_are_lines_of_ids_and_rows_of_their_parts() -> None:
    ids = vitq_here("list", "cells", "smoke", "*/W1A1/*").out.splitlines()
    rows, by_csv = parsed("list", "cells", "smoke", "*/W1A1/*")
    assert ids == [row["cell"] for row in rows] == [row["cell"] for row in by_csv]
    assert {row["bits"] for row in rows} == {"W1A1"}


@pytest.mark.slow
def test_a_quiet_run_says_its_table_alone(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    ran = done[1]
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(plain(ran.stdout)) == 2
    assert re.search(r"^estimated .+, took ", ran.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_run_s_table_is_read_by_programs(here: Path) -> None:
    said = in_format("json", *RUN)
    rows = json.loads(said.out)
    assert [row["method"] for row in rows] == ["fp32", "minmax"]
    assert rows[1]["top1_n"] == 40
    assert isinstance(rows[1]["packed_mb"], float)
    assert "records in r/records.jsonl" in said.err
    by_csv = list(csv.DictReader(io.StringIO(in_format("csv", *RUN).out)))
    assert [float(row["top1"]) for row in by_csv] == [row["top1"] for row in rows]
    reading = plain(vitq_here(*RUN).out)
    assert [row["cell"] for row in reading] == [row["id"] for row in rows]
    assert float(reading[1]["packed MB"].split()[0]) == round(rows[1]["packed_mb"], 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("show", "minmax", "-o", "r"),
        ("show", "minmax", "-o", "r", "--layers"),
        (*RUN, "--dry-run"),
        ("run", "smoke", "-k", "minmax/ and W8*", "--dry-run", "--results", "r"),
    ],
)
def test_the_other_tables_are_the_same_in_csv_and_json(words: tuple[str, ...], here: Path) -> None:
    rows, by_csv = parsed(*words)
    assert len(rows) > 1
    assert [{k: v or "" for k, v in row.items()} for row in by_csv] == [
        {k: "" if v is None else str(v) for k, v in row.items()} for row in rows
    ]
    assert len(md(in_format("md", *words).out)) >= len(rows)


@pytest.mark.slow
def test_verdicts_and_the_gate_are_read_by_programs_too(here: Path) -> None:
    said = vitq_here("compare", "smoke", "-o", "r", "--format", "json")
    assert said.code == 4, "digits are compared with no paper"
    assert {row["verdict"] for row in json.loads(said.out)} == {"no-figure", "not-run"}
    text = (
        Path("r/records.jsonl").read_text().replace('"macs":', '"macs":1').replace('"finished":"20', '"finished":"19')
    )
    Path("before.jsonl").write_text(text)
    said = vitq_here("gate", "smoke", "-o", "r", "--baseline", "before.jsonl", "--format", "json")
    assert said.code == 1, said
    assert any("macs" in str(row).lower() or "size" in str(row) for row in json.loads(said.out))
    assert "regression" in said.err
    assert len(md(vitq_here("gate", "smoke", "-o", "r", "--baseline", "before.jsonl", "--format", "md").out)) >= 1


@pytest.mark.slow
def test_an_unfinished_run_is_estimated_from_what_was_done(here: Path) -> None:
    said = vitq_here("run", "smoke", "-k", PICK, "--limit", "80", "--dry-run", "--results", "r")
    assert "2 by earlier runs here" in said.out, said
    said = vitq_here("run", "full", "-k", "binary_vit/ and deit_small and W1A1", "--dry-run", "--device", "cuda:7")
    assert "GPU hours" in said.out
    assert said.code == 2, "its data are missing"


@pytest.mark.parametrize(
    "words",
    [
        ("list", "methods"), ("run",), ("verify", "smoke"), ("compare", "smoke"), ("show", "x", "smoke"), ("peaks",),
        ("gate", "smoke", "--baseline", "x"), ("latency", "x"), ("evaluate", "digits_vit"),
        ("quantize", "x", "-o", "y"),
    ],
)  # fmt: skip
def test_a_format_that_is_none_is_a_line(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vitq_here(*words, "--format", "html").refused("no format is called 'html'; known: plain, md, csv, json")


def on_terminal(*words: str, columns: int, **env: str) -> str:
    """What a terminal so wide is sent."""
    ours, theirs = pty.openpty()
    known = os.environ | {"COLUMNS": str(columns), "TERM": "xterm-256color"} | env
    process = subprocess.Popen([VITQ, *words], stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=known)
    os.close(theirs)
    sent = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:
            break
        if not part:
            break
        sent += part
    os.close(ours)
    assert process.wait() == 0, sent
    return sent.decode()


@pytest.mark.parametrize("columns", [40, 100, 160])
def test_a_narrow_terminal_gets_no_line_that_it_would_break(columns: int) -> None:
    said = on_terminal("list", "methods", columns=columns, NO_COLOR="1").replace("\r\n", "\n")
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= columns
    assert "RepQ-ViT" in said


def test_a_reader_that_has_enough_is_no_error() -> None:
    shell = f"set -o pipefail; {VITQ} list models '*' --all --format csv | head -2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stdout.splitlines()[0].startswith("model,task")
    assert (done.stdout.splitlines()[-1], done.stderr) in [("141", ""), ("0", "")]


def test_a_shell_is_told_what_may_follow() -> None:
    def offered(words: str) -> list[str]:
        env = {"_VITQ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run([VITQ], env=os.environ | env, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert offered("vitq run sm") == ["smoke"]
    assert offered("vitq quantize --method repq") == ["repq_vit"]
    assert "evaluate" in offered("vitq e")


def test_the_version_is_one_line() -> None:
    import vitq as package

    said = vitq_here("--version")
    assert (said.code, said.out, said.err) == (0, f"vitq {package.__version__}\n", "")
