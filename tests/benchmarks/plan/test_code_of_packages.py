"""Code of other packages that has no source to be read is one line that names the package, when a run is planned."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import packages
import pytest
from commands import vitq_here

from vitq.benchmarks.plan import code_identity, identity
from vitq.benchmarks.plan.code_identity import code_sha256
from vitq.errors import BadInputError

CACHED = (code_identity._file, code_identity._tree, code_identity._imports, identity.method_code, identity.data_code)
SUITE = """\
name: theirs
tasks: [{dataset: DATA, models: [digits_vit]}]
methods: [halves]
bits: [W4A4]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Others' packages on this process's path, and a suite of theirs; what is imported of them is forgotten."""
    packages.install_everything(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for cached in CACHED:
        cached.cache_clear()
    for name in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[name]


def plan(here: Path, dataset: str = "digits") -> object:
    (here / "theirs.yaml").write_text(SUITE.replace("DATA", dataset))
    return vitq_here("run", "theirs.yaml", "--dry-run", "--limit", 20)


@dataclass(frozen=True)
class Broken:
    """What is done to the packages, the data set that is asked for, and what the line says."""

    do: Callable[[Path], object]
    says: tuple[str, ...]
    dataset: str = "digits"


HALVES = "the method 'halves' of package their-things (their_halves)"
SCANS = "the data set 'their_scans' of package their-things (their_data.scans:SCANS)"


def nested(place: Path) -> None:
    """A folder of the method's own, imported by it, without an initializer."""
    (place / "their_halves" / "tools").mkdir()
    (place / "their_halves" / "tools" / "rounding.py").write_text("HALF = 2\n")
    (place / "their_halves" / "method.py").write_text(
        "from their_halves.tools.rounding import HALF\n" + packages.METHOD.replace("mul_(2)", "mul_(HALF)")
    )


def elsewhere(place: Path, module: str) -> None:
    text = packages.DATA.replace("full_size=7", f"full_size=7, modules=({module!r},)")
    (place / "their_data" / "scans.py").write_text(text)


BROKEN = {
    "no __init__.py": Broken(
        lambda place: (place / "their_halves" / "__init__.py").unlink(),
        (HALVES, "their_halves", "has no __init__.py: add one, it may be empty"),
    ),
    "a folder it imports has no __init__.py": Broken(
        nested, (HALVES, "their_halves/tools", "has no __init__.py: add one, it may be empty")
    ),
    "no module": Broken(
        lambda place: (place / "their_halves" / "method.py").unlink(),
        (HALVES, "package their_halves has no module 'method'"),
    ),
    "not Python": Broken(
        lambda place: (place / "their_halves" / "method.py").write_text("def quantize(:\n"),
        (HALVES, "method.py, line 1: invalid syntax: correct it"),
    ),
    "compiled": Broken(
        lambda place: (place / "their_halves" / "method.py").write_bytes(b"\x00\x01"),
        (HALVES, "method.py", "correct it"),
    ),
    "a data set's module of no package": Broken(
        lambda place: elsewhere(place, "their_gone.scans"),
        (SCANS, "no package 'their_gone' with a source can be found"),
        "their_scans",
    ),
    "a data set's module that is missing": Broken(
        lambda place: elsewhere(place, "their_data.scan"),
        (SCANS, "package their_data has no module 'scan'"),
        "their_scans",
    ),
    "a data set's module below a module": Broken(
        lambda place: elsewhere(place, "their_data.scans.more"),
        (SCANS, "their_data.scans is a module, not a package"),
        "their_scans",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_code_without_a_source_is_one_line_when_a_run_is_planned(here: Path, name: str) -> None:
    broken = BROKEN[name]
    broken.do(here)
    plan(here, broken.dataset).refused(*broken.says)


def test_the_same_packages_unbroken_are_planned(here: Path) -> None:
    assert plan(here).code == 0
    nested(here)
    (here / "their_halves" / "tools" / "__init__.py").touch()
    forget()
    assert plan(here).code == 0


def test_a_folder_of_data_beside_modules_is_no_code(here: Path) -> None:
    """It may be imported, and holds nothing that computes."""
    (here / "their_halves" / "tables").mkdir()
    (here / "their_halves" / "tables" / "one.csv").write_text("1\n")
    (here / "their_halves" / "method.py").write_text("from their_halves import tables\n" + packages.METHOD)
    assert plan(here).code == 0


def test_a_module_of_a_namespace_package_names_the_folder(here: Path) -> None:
    """A namespace above a package is a folder without an initializer too."""
    (here / "their_space" / "halves").mkdir(parents=True)
    (here / "their_space" / "halves" / "__init__.py").touch()
    (here / "their_space" / "halves" / "method.py").touch()
    with pytest.raises(BadInputError, match=r"their_space has no __init__\.py"):
        code_sha256("their_space.halves.method")


def test_a_script_is_no_module_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a data set of a script calls its module: another process has another `__main__`."""
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    forget()
    with pytest.raises(BadInputError, match="no package '__main__' with a source can be found"):
        code_sha256("__main__")
