"""The example packages: what they add is found, their suites are good, nothing private is used, their tests pass."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import vitq
from sources import imports, private_uses

import examples
from examples import EXAMPLES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAMES = ("vitq-plugin", "vitq-fq-vit", "vitq-ptq4vit")
SUITES = [path for name in NAMES for path in sorted((EXAMPLES / name).glob("*.yaml"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    for name in NAMES:
        examples.install(name, place / "site", place)
    return place / "site"


def on_path(site: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **on_path(site)}
    return subprocess.run(
        [sys.executable, *words], env=environment, cwd=site, check=False, capture_output=True, text=True, timeout=300
    )


def test_every_example_is_named_here() -> None:
    assert sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")) == sorted(NAMES)
    assert len(SUITES) == 3


@pytest.mark.parametrize("name", NAMES)
def test_what_a_package_ships_is_what_it_says(name: str, site: Path) -> None:
    project = tomllib.loads((EXAMPLES / name / "pyproject.toml").read_text(encoding="utf-8"))
    for package in project["tool"]["setuptools"]["packages"]:
        source = EXAMPLES / name / package.replace(".", "/")
        shipped = site / package.replace(".", "/")
        files = {path.name for path in source.iterdir() if path.suffix in (".py", ".yaml")}
        assert files == {path.name for path in shipped.iterdir() if path.suffix in (".py", ".yaml")}
    for points in project["project"]["entry-points"].values():
        for place in points.values():
            assert place.partition(":")[0].partition(".")[0] == name.replace("-", "_")


@pytest.mark.parametrize("name", NAMES)
def test_a_package_uses_what_vitq_offers_to_all(name: str) -> None:
    for path in (EXAMPLES / name).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert private_uses(tree) == [], path
        stands_on = [each.name for each in imports(tree) if each.name.startswith("vitq.methods.")]
        shared = ("base", "bits", "cards", "registry", "toolkit", "architectures", "training")
        assert [word for word in stands_on if word.split(".")[2] not in shared] == [], path
        assert len((ast.get_docstring(tree) or "").partition("\n")[0]) >= 15, path


def test_a_method_takes_about_sixty_lines() -> None:
    text = (EXAMPLES / "vitq-plugin" / "vitq_plugin" / "clipped" / "method.py").read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 60


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.parent.name)
def test_its_suite_lists_cells(suite: Path, site: Path) -> None:
    done = vitq("list", "cells", suite, cwd=site, env=on_path(site))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 8
    assert "left out" not in done.stdout


def test_cards_options_and_names_need_no_torch(site: Path) -> None:
    code = """
import sys
from vitq.methods.cards import all_cards
cards = all_cards()
for name in ("clipped", "fq_vit", "ptq4vit"):
    known = cards[name].options
    print(name, cards[name].fidelity, cards[name].compared.startswith("Nothing"), len(known),
          all(each.source and each.effect in ("row", "recipe") for each in known.values()))
print("torch" in sys.modules)
"""
    done = python(site, "-c", code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "clipped baseline True 1 True", "fq_vit reconstruction True 8 True", "ptq4vit reconstruction True 8 True",
        "False",
    ]  # fmt: skip


def test_every_option_that_its_figures_name_is_declared(site: Path) -> None:
    code = """
from vitq.benchmarks.commands.declared_options import declared_options
from vitq.options import fault
from vitq.reports.figure import load_figures
from vitq.reports.verdicts import compare
known = declared_options()
figures = [f for f in load_figures() if f.cell_method in ("fq_vit", "ptq4vit")]
settings = [{n: v for n, v in f.settings.items() if not n.startswith("calibration.")} for f in figures]
print(len(figures), [w for f, s in zip(figures, settings) for n, v in {**f.options, **s}.items()
                     if (w := fault(known[f.cell_method], n, v))])
print({(c.verdict, c.reason) for c in compare([], figures, known)})
"""
    done = python(site, "-c", code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["142 []", "{('not-run', 'no such cell')}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vitq-fq-vit", "vitq-ptq4vit"])
def test_its_own_tests_pass(name: str, site: Path) -> None:
    done = python(site, "-m", "pytest", str(EXAMPLES / name / "tests"), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
