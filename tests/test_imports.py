"""Our folder `datasets` never hides the package of that name (Hugging Face's, which timm's readers import)."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("methods", "datasets", "tasks", "benchmarks", "reports")
PROBE = """
import importlib.util, sys
import vitq.{room}
for name in {rooms!r}:
    spec = importlib.util.find_spec(name)
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or [])]
    print(name, *places, sep="|")
print("from|" + vitq.{room}.__file__)
"""


def probe(tmp_path: Path, setup: str = "", **environment: str) -> dict[str, list[str]]:
    """Where bare room names and `vitq.datasets` are found by a script started in the repository's root."""
    script = tmp_path / "probe.py"
    script.write_text(setup + PROBE.format(room="datasets", rooms=ROOMS))
    command = [sys.executable, *(["-S"] if setup else []), str(script)]
    done = subprocess.run(command, cwd=ROOT, env=environment or None, check=True, capture_output=True, text=True)
    return {line.split("|")[0]: line.split("|")[1:] for line in done.stdout.splitlines()}


def none_is_ours(found: dict[str, list[str]], *homes: Path) -> bool:
    return not any(str(home) in place for room in ROOMS for place in found[room] for home in homes)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing in the repository."""
    copy = tmp_path_factory.mktemp("copy") / "vitq"
    wanted = ["src", *ROOMS]
    for name in wanted:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def pip(*arguments: str | Path) -> None:
    pytest.importorskip("setuptools", reason="building without the network needs setuptools here")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_pytest_does_not_see_our_folders(room: str) -> None:
    spec = importlib.util.find_spec(room)
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or [])]
    assert not any(Path(place).resolve().is_relative_to(ROOT) for place in places if place)


def test_a_script_started_in_the_root_does_not(tmp_path: Path) -> None:
    assert none_is_ours(probe(tmp_path), ROOT)


def test_no_source_imports_a_bare_room() -> None:
    bare = re.compile(rf"^\s*(from|import) ({'|'.join(ROOMS)})\b", re.MULTILINE)
    sources = [path for room in ("src", "tests", *ROOMS) for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 20
    assert [path for path in sources if bare.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.slow
def test_not_after_an_install(tmp_path: Path, checkout: Path) -> None:
    target = tmp_path / "installed"
    pip(checkout, "--target", target)
    found = probe(tmp_path, PYTHONPATH=str(target))
    assert found["from"][0].startswith(str(target / "vitq"))
    assert none_is_ours(found, ROOT, target, checkout)
    assert (target / "vitq" / "tasks" / "weights" / "digits_vit.safetensors").is_file()
    assert (target / "vitq" / "datasets" / "digits_splits.json").is_file()


@pytest.mark.slow
def test_not_after_an_editable_install(tmp_path: Path, checkout: Path) -> None:
    pip("-e", checkout, "--prefix", tmp_path / "prefix", "--ignore-installed")
    (site_packages,) = (tmp_path / "prefix").rglob("site-packages")
    found = probe(tmp_path, setup=f"import site; site.addsitedir({str(site_packages)!r})\n")
    assert found["from"][0].startswith(str(checkout))
    assert none_is_ours(found, ROOT, checkout)


@pytest.mark.slow
def test_the_module_runs_from_a_checkout_without_editing(tmp_path: Path, checkout: Path) -> None:
    """`-m` puts the working directory first, where `vitq` has no rooms: the installed one is used."""
    target = tmp_path / "installed"
    pip(checkout, "--target", target)
    done = subprocess.run(
        [sys.executable, "-m", "vitq", "--help"],
        cwd=checkout, env={"PYTHONPATH": str(target)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout
