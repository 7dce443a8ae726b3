"""One registry: ours and other packages' things by name, imported when asked for; wrong and double names are told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import packages
import pytest
from commands import vitq_here

from vitq.errors import BadInputError
from vitq.methods.registry import load
from vitq.registry import Registry

SUITE = """\
name: theirs
tasks:
  - {dataset: their_scans, models: [their_vit, digits_vit]}
methods:
  - halves
  - {method: halves, variant: up, options: {to: up}}
bits: [W4A4]
"""


LIST_METHODS = "import sys; from vitq.entry import main; sys.argv = ['vitq', 'list', 'methods']; main()"


def python(place: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with others' packages on Python's path, apart from what this process has imported and remembered."""
    environment = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=place, check=False, capture_output=True, text=True
    )


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return packages.install_everything(tmp_path)


@pytest.fixture
def here(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, on this process's path; what is imported of it is forgotten at the end."""
    monkeypatch.syspath_prepend(theirs)
    monkeypatch.chdir(theirs)
    yield theirs
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]


def test_what_another_package_adds_is_listed_without_importing_it(theirs: Path) -> None:
    code = """
import sys
from vitq.methods.registry import METHODS
from vitq.datasets.registry import DATASETS
from vitq.tasks.names import model_names
from vitq.tasks.registry import TASKS
print(*METHODS.names(), *DATASETS.names(), *model_names(), *TASKS.names())
print(*[name for name in sys.modules if name in ("torch", "timm") or name.startswith("their")])
"""
    names, imported = python(theirs, code).stdout.splitlines()
    assert {"halves", "minmax", "their_scans", "digits", "their_vit", "their_other_vit", "digits_vit"} < set(
        names.split()
    )
    assert imported == ""


def test_its_method_model_and_data_set_load(theirs: Path) -> None:
    code = """
from vitq.datasets.registry import DATASETS
from vitq.methods.cards import all_cards
from vitq.methods.registry import load
from vitq.tasks.names import model_entry
card = all_cards()["halves"]
print(card.options["to"].choices, card.reads_data("calibration", {"look": True}), card.reads_data("calibration", {}))
print(load("halves").quantize.__module__, load("halves").Options().to)
print(DATASETS.load("their_scans").full_size, DATASETS.load("their_scans").task)
print(model_entry("their_vit").name, model_entry("their_other_vit").build.cls)
"""
    done = python(theirs, code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "('even', 'up') True False", "their_halves.method even", "7 classification", "their_vit VisionTransformer",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "row"),
    [
        ("methods", ["halves", "Rounding to halves"]),
        ("models", ["their_vit", "classification"]),
        ("datasets", ["their_scans", "classification", "10", "7"]),
    ],
)
def test_the_command_line_lists_it(here: Path, what: str, row: list[str]) -> None:
    (line,) = [line for line in vitq_here("list", what).out.splitlines() if line.startswith(f"{row[0]} ")]
    assert all(word in line for word in row)


def test_a_suite_may_name_it(here: Path) -> None:
    (here / "theirs.yaml").write_text(SUITE)
    assert vitq_here("list", "cells", "theirs.yaml").out.splitlines()[:2] == [
        "halves/classification/their_scans/their_vit/W4A4/seed0",
        "halves[up]/classification/their_scans/their_vit/W4A4/seed0",
    ]
    (here / "theirs.yaml").write_text(SUITE.replace("{to: up}", "{to: upp}"))
    vitq_here("list", "cells", "theirs.yaml").refused("line 6", "halves.to is 'upp'; did you mean 'up'?")


def test_its_code_decides_a_result(theirs: Path) -> None:
    code = "from vitq.benchmarks.plan.identity import method_code; print(method_code('halves'))"
    before = python(theirs, code).stdout
    options = theirs / "their_halves" / "options.py"
    options.write_text("# a comment\n" + packages.OPTIONS)
    assert python(theirs, code).stdout == before
    options.write_text(packages.OPTIONS.replace('"even", source', '"up", source'))
    assert python(theirs, code).stdout != before


@pytest.mark.parametrize(
    ("group", "names", "what"),
    [
        ("vitq.methods", {"minmax": "their_halves"}, "a method called 'minmax', other-things and vitq"),
        ("vitq.methods", {"halves": "other"}, "a method called 'halves', other-things and their-things"),
        ("vitq.models", {"digits_vit": "other:ENTRY"}, "a model called 'digits_vit', other-things and vitq"),
        ("vitq.datasets", {"their_scans": "other:X"}, "a data set called 'their_scans', other-things and their-things"),
    ],
)
def test_a_name_that_two_packages_offer_is_refused_with_both(
    here: Path, group: str, names: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.install(here / "other", "other-things", {group: names}, {})
    monkeypatch.syspath_prepend(here / "other")
    vitq_here("list", group.removeprefix("vitq.")).refused(f"two packages offer {what}: remove one of the two")


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    things: Registry[object] = Registry("thing", {"loads": "json:loads", "json": "json"})
    assert things.load("loads").__name__ == "loads"
    assert things.load("json").__name__ == "json"
    assert things.load("json", "tool").__name__ == "json.tool"
    with pytest.raises(BadInputError, match=r"no thing is called 'jsom'; did you mean 'json'\?"):
        things.load("jsom")
    with pytest.raises(BadInputError, match="no thing is called 'zz'; known: loads, json"):
        things.load("zz")
    with pytest.raises(ModuleNotFoundError):
        Registry("thing", {"gone": "vitq.gone:IT"}).load("gone")


@pytest.mark.parametrize(
    ("broken", "what", "line"),
    [
        ("their_data/scans.py", "datasets", "data set 'their_scans' of package their-things (their_data.scans:SCANS"),
        ("their_data/models.py", "models", "model 'their_vit' of package their-things (their_data.models:ENTRIES"),
    ],
)
def test_what_cannot_be_imported_is_a_line_of_the_list(here: Path, broken: str, what: str, line: str) -> None:
    (here / broken).write_text("raise RuntimeError('no licence\\nfound')")
    said = vitq_here("list", what)
    assert said.code == 0
    assert f"the {line}) cannot be loaded: RuntimeError: no licence" in said.out.splitlines()
    assert any(name in said.out for name in ("digits_vit", "imagenet-1k"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name: halves\n", "title: Field required"),
        (packages.CARD.replace("halves", "thirds", 1), "it is called 'thirds' there"),
        (None, "No such file"),
    ],
)
def test_a_card_that_cannot_be_read_is_a_line_of_the_list(theirs: Path, text: str | None, fault: str) -> None:
    card = theirs / "their_halves" / "card.yaml"
    card.unlink() if text is None else card.write_text(text)
    done = python(theirs, LIST_METHODS)
    assert "minmax" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("the method 'halves' of package their-things (their_halves) has no usable card.yaml: ")
    assert fault in last


def test_a_method_that_cannot_be_imported_is_told_when_it_is_asked_for(here: Path) -> None:
    (here / "their_halves" / "method.py").write_text("import no_such_module")
    assert "Rounding to halves" in vitq_here("list", "methods").out
    with pytest.raises(BadInputError, match="cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"):
        load("halves")


def test_a_model_of_another_name_is_a_line_of_the_list(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.install(here / "other", "other-things", {"vitq.models": {"nobody": "their_data.models:ENTRIES"}}, {})
    monkeypatch.syspath_prepend(here / "other")
    said = vitq_here("list", "models").out
    assert "the model 'nobody' of package other-things (their_data.models:ENTRIES) is neither" in said
