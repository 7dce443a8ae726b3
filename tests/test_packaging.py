"""What is shipped, and where it runs: wheel and sdist hold everything, and all files name the same Pythons."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
HOMES = {
    "src/vitq": "vitq",
    **{room: f"vitq/{room}" for room in ("methods", "datasets", "tasks", "benchmarks", "reports")},
}
"""Folders of the repository and where they lie in the package."""
NOT_SHIPPED = ("benchmarks/timings/", "reports/results/")
SET_UP = "python3 -m venv .venv && .venv/bin/pip install tox"


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pythons() -> list[str]:
    """The Pythons that the classifiers name, in order."""
    words = [word.rpartition(" :: ") for word in project()["project"]["classifiers"]]
    return [last for first, _, last in words if first == "Programming Language :: Python" and "." in last]


def workflow(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def tox() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.read(ROOT / "tox.ini", encoding="utf-8")
    return found


def readme_commands() -> list[str]:
    """The commands of the README's first block, without comments."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.partition("```console\n")[2].partition("```")[0]
    return [line.removeprefix("$ ").partition("#")[0].strip() for line in block.splitlines()]


def ci_lines() -> list[str]:
    return (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_python_that_is_named_is_run() -> None:
    named = pythons()
    assert len(named) >= 4
    assert workflow("nightly")["jobs"]["pythons"]["strategy"]["matrix"]["python"] == named
    short = ",".join(version.removeprefix("3.") for version in named)
    assert f"py3{{{short}}}" in tox()["tox"]["env_list"]
    commands = tox()[f"testenv:py3{{{short}}}"]["commands"]
    assert 'vitq run smoke -k "fp32 or minmax"' in commands
    assert "tests/reports" in commands
    assert "tests/benchmarks/run/test_store.py" in commands


def test_the_lowest_python_is_the_one_that_is_required_and_checked_against() -> None:
    lowest = pythons()[0]
    assert project()["project"]["requires-python"] == f">={lowest}"
    assert project()["tool"]["mypy"]["python_version"] == lowest
    assert project()["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert f"Python {lowest} to {pythons()[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_an_interpreter_that_is_missing_is_skipped_here_and_an_error_in_the_workflow() -> None:
    assert tox()["tox"]["skip_missing_interpreters"] == "true"
    steps = [step.get("run", "") for step in workflow("nightly")["jobs"]["pythons"]["steps"]]
    assert any("tox run" in step and "--skip-missing-interpreters false" in step for step in steps)


def test_two_commands_of_the_readme_set_up_and_run() -> None:
    """Each by what the first one made: a system's own Python refuses `pip install`, and is not asked."""
    first, second = readme_commands()
    assert first == f"{SET_UP} && .venv/bin/tox run -e smoke"
    assert second == ".venv/bin/tox run -e test"
    assert ".venv/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_ci_runs_what_the_readme_says_and_the_checks() -> None:
    lines = ci_lines()
    assert SET_UP in lines
    tests, smoke = readme_commands()[1], readme_commands()[0].removeprefix(f"{SET_UP} && ")
    assert tests in lines
    assert any(line.startswith(f"{smoke} -- --results ") for line in lines)
    for name in re.findall(r"tox run -e (\S+)", "\n".join(lines)):
        assert tox().has_section(f"testenv:{name}")
    assert {"lint", "types"} <= set(re.findall(r"tox run -e (\S+)", "\n".join(lines)))
    assert [step for step in workflow("ci")["jobs"]["all"]["steps"] if step.get("run") == ".ci/run"]


def test_long_tests_wait_for_the_night() -> None:
    """Left out by default, run by an environment of their own, which the nightly workflow runs."""
    assert "-m 'not long'" in project()["tool"]["pytest"]["ini_options"]["addopts"]
    assert "pytest -m long" in tox()["testenv:long"]["commands"]
    assert ".venv/bin/tox run -e long" in [step.get("run") for step in workflow("nightly")["jobs"]["long"]["steps"]]
    assert workflow("nightly")[True]["schedule"]  # YAML reads the key `on` as true
    assert "-m" not in tox()["testenv:test"]["commands"].replace("python -m pytest", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("fails", ["test", "smoke", "lint", "types", ""])
def test_ci_stops_at_the_first_failure(tmp_path: Path, fails: str) -> None:
    """The script itself, with a tox that only notes what it is asked and fails where the case says so."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ -z "{fails}" ] || [ "$3" != "{fails}" ]\n'
    python = f"#!/bin/sh\nmkdir -p .venv/bin && cp {tools}/tox .venv/bin/tox && cp {tools}/tox .venv/bin/pip\n"
    for name, text in (("tox", tool), ("python3", python)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    done = subprocess.run([tmp_path / ".ci" / "run"], env={"PATH": f"{tools}:/usr/bin:/bin"}, check=False)
    assert (done.returncode == 0) == (not fails)
    asked = [line.split()[2] for line in (tmp_path / "asked").read_text().splitlines() if "run -e" in line]
    assert set(asked) >= ({fails} if fails else {"test", "smoke", "lint", "types"})
    assert not fails or asked[-1] == fails


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clean clone of the working tree would be: the files that git knows, and no other."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("needs git and a checkout")
    place = tmp_path_factory.mktemp("clone") / "vitq"
    for name in tracked():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    return place


def tracked() -> list[str]:
    """Tracked files, and those that would be by `git add`."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def shipped() -> set[str]:
    """The package's files, as they must lie in a wheel: code, cards, suites, figures, weights, types."""
    return {
        target + name.removeprefix(home)
        for name in tracked()
        for home, target in HOMES.items()
        if name.startswith(f"{home}/") and not name.startswith(NOT_SHIPPED)
    }


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist as an installer does, without the network."""
    pytest.importorskip("setuptools", reason="building without the network needs setuptools here")
    out.mkdir(parents=True, exist_ok=True)
    script = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=source, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


@pytest.mark.slow
def test_the_wheel_of_a_clean_clone_holds_every_file_of_the_package(clone: Path, tmp_path: Path) -> None:
    want = shipped()
    assert {"vitq/py.typed", "vitq/benchmarks/suites/smoke.yaml", "vitq/tasks/weights/digits_vit.safetensors"} <= want
    found = names_in(build("wheel", clone, tmp_path))
    assert sorted(want - found) == []
    assert sorted(found - want) == []


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(clone: Path, tmp_path: Path) -> None:
    with tarfile.open(build("sdist", clone, tmp_path / "sdist")) as file:
        file.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # type: ignore[arg-type]
    (source,) = tmp_path.glob("vitq-*")
    assert names_in(build("wheel", source, tmp_path / "wheel")) == shipped()


@pytest.mark.slow
def test_tox_builds_from_the_sdist_so_that_no_stale_module_is_shipped(clone: Path, tmp_path: Path) -> None:
    """setuptools takes over what an earlier build left in `build/`, modules that were removed since included."""
    assert tox()["testenv"]["package"] == "sdist-wheel"
    stale = clone / "build" / "lib" / "vitq" / "methods" / "removed.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("")
    with tarfile.open(build("sdist", clone, tmp_path / "sdist")) as file:
        assert not [name for name in file.getnames() if name.endswith("removed.py")]
    shutil.rmtree(clone / "build")


TEN_MINUTES = """
import sys
import timm
from safetensors.torch import load_file
import vitq

photographs, weights = sys.argv[1:]
assert "site-packages" in vitq.__file__, vitq.__file__
model = timm.create_model("vit_tiny_patch16_224", num_classes=7)
if weights != "none":
    known = load_file(weights)
    body = {name: tensor for name, tensor in known.items() if not name.startswith("head.")}
    model.load_state_dict(body, strict=False)

print(vitq.list_methods("repq*"), vitq.method_card("repq_vit").title)
small = vitq.quantize(model, "repq_vit", bits="W4A4", data=photographs, options={"rounded_zero_point": True})
print(small.size)
print(small.layers())
print(vitq.evaluate(small, photographs, limit=14))
small.save("small.safetensors")
"""
AND_AGAIN = """
import onnxruntime
import torch
import vitq

images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
small = vitq.load("small.safetensors")
made = small.export("small.onnx", runtime="onnxruntime", batch=2)
session = onnxruntime.InferenceSession("small.onnx", providers=["CPUExecutionProvider"])
theirs = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
ours = small(images)
print(made.exec, made.operators)
assert ours.shape == theirs.shape == (2, 7)
torch.save((ours, theirs), "again.pt")
"""
FIRST_LOGITS = """
images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
torch.save(small(images), "first.pt")
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Seventy photographs in seven folders: real ones where there are any, else drawn."""
    from own_things import CLASSES
    from own_things import photographs as drawn

    shared = Path(os.environ.get("VITQ_DATA") or ROOT.parent / "shared") / "data" / "imagenet-proxy" / "train"
    real = sorted(path for path in shared.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg"))[:70]
    if len(real) < 70:
        return drawn(tmp_path / "photographs")
    for number, path in enumerate(real):
        folder = tmp_path / "photographs" / CLASSES[number // 10]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{number:02}{path.suffix}")
    return tmp_path / "photographs"


def fresh_environment(place: Path, wheel: Path) -> Path:
    """An environment of its own with the wheel; the packages that it needs are those of this one. Its Python."""
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    (packages,) = place.glob("lib/python*/site-packages")
    others = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))  # whose own .pth files, an editable vitq's too, stay unread
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", "-I"]
    done = subprocess.run([*install, str(wheel)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
def test_a_new_users_first_ten_minutes(clone: Path, photographs: Path, tmp_path: Path) -> None:
    """From the wheel, by what `import vitq` offers: quantize, look, save; in another process load, export, run."""
    torch, _ = (pytest.importorskip(name) for name in ("torch", "onnxruntime"))
    python = fresh_environment(tmp_path / "env", build("wheel", clone, tmp_path))
    shared = Path(os.environ.get("VITQ_DATA") or ROOT.parent / "shared")
    weights = shared / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
    arguments = [str(photographs), str(weights) if weights.is_file() else "none"]
    work = tmp_path / "work"
    work.mkdir()
    said = ""
    for script in ("import torch" + TEN_MINUTES + FIRST_LOGITS, AND_AGAIN):
        assert not re.search(r"(from|import) vitq\.", script), "nothing internal is imported"
        done = subprocess.run(
            [python, "-c", script, *arguments], cwd=work, check=False, capture_output=True, text=True,
            env={"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        said += done.stdout
    for word in ("blocks.11.mlp.fc2", "packed_mb", "top1", "onnxruntime"):
        assert word in said
    first, (again, theirs) = torch.load(work / "first.pt"), torch.load(work / "again.pt")
    assert torch.equal(first, again)
    alike = torch.nn.functional.cosine_similarity(again, theirs)
    assert alike.min() > 0.7, "in 4 bits the order of a sum moves whole steps, and the direction stays"
    assert (work / "small.safetensors").stat().st_size < 4e6
