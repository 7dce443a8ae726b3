"""README.md's tables say of methods, tasks, suites and runtimes what `vitq list` says."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from places import vitq

from vitq.tasks.registry import TASKS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OTHERS = sorted((ROOT / "examples").glob("*/*/card.yaml"))


def table(first: str) -> list[list[str]]:
    """The cells of the table whose first column has this title, a list a row, without marks of bold."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip().replace("**", "") for cell in line.strip("|").split(" | ")])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def listed(what: str) -> list[dict[str, str]]:
    """In a process of its own: what other tests registered in this one is no part of it."""
    said = vitq("list", what, "--format", "json", cwd=Path(__file__).parent)
    found: list[dict[str, str]] = json.loads(said.stdout)
    return found


def ours(what: str, column: str) -> set[str]:
    return {row[column] for row in listed(what) if not row.get("package")}


METHODS = {names(row[0])[0]: row for row in table("method")}


def test_every_method_of_ours_is_in_its_table() -> None:
    assert set(METHODS) == ours("methods", "method")


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_row_says_what_the_list_of_methods_says(name: str) -> None:
    (known,) = [row for row in listed("methods") if row["method"] == name]
    _, what, regime, fidelity = METHODS[name]
    assert (regime, fidelity) == (known["regime"], known["fidelity"])
    assert re.findall(r"arxiv\.org/abs/([\d.]+)", what) == re.findall(r"arXiv ([\d.]+)", known["paper"])


@pytest.mark.parametrize("card", OTHERS, ids=lambda path: path.parent.name)
def test_a_package_that_is_named_is_called_what_its_card_says(card: Path) -> None:
    known = yaml.safe_load(card.read_text(encoding="utf-8"))
    title = known["title"].partition(":")[0]
    said = f"(`{known['name']}`, {title}, {known['regime']}, **{known['fidelity']}**)"
    assert said in " ".join(README.split())


def test_tasks_and_their_data_sets_are_those_that_are_listed() -> None:
    rows = {names(row[0])[0]: set(names(row[1])) for row in table("task")}
    assert set(rows) == set(TASKS.ours)
    known = [row for row in listed("datasets") if not row.get("package")]
    assert rows == {task: {row["data set"] for row in known if row["task"] == task} for task in rows}


@pytest.mark.parametrize("what", ["suite", "runtime"])
def test_suites_and_runtimes_are_those_that_are_listed(what: str) -> None:
    assert {name for row in table(what) for name in names(row[0])} == ours(f"{what}s", what)
