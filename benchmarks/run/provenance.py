"""Where a record comes from: source, versions, machine. Torch is not imported for it."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import psutil

import vitq
from vitq.record import Provenance

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "safetensors", "scikit-learn", "pillow",
    "mmdet", "mmsegmentation", "mmengine", "mmcv", "mmcv-lite", "onnxruntime", "openvino", "ray",
)  # fmt: skip
_SOURCES = ("vitq", "benchmarks", "methods", "datasets", "tasks", "reports", "pyproject.toml")


def collect(command: str) -> Provenance:
    """The provenance of a record that is finished now; everything but the time is looked up once a process."""
    commit, dirty = source_state(_checkout(Path(vitq.__file__).resolve().parent))
    return Provenance(
        vitq=vitq.__version__,
        git_commit=commit,
        git_dirty=dirty,
        packages=package_versions(),
        python=platform.python_version(),
        cpu=cpu_name(),
        gpu=gpu_name(),
        machine=machine_id(),
        command=command,
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _checkout(package: Path) -> Path:
    """Where a checkout would have its root: beside `src`, which holds the package, or the package's own folder."""
    return package.parent.parent if package.parent.name == "src" else package.parent


@functools.cache
def source_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that vitq runs from, and whether its source differs from it; (None, None) without one.

    A wheel installed inside somebody else's repository is no checkout of vitq: only `root` itself may be one. Untracked
    files count where they are source, results and data do not.
    """
    if not (root / ".git").exists():
        return None, None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--", *_SOURCES],
            capture_output=True, text=True, check=True, timeout=30, env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None, None
    lines = answer.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), None)
    return (None if commit == "(initial)" else commit), any(not line.startswith("#") for line in lines)


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages that can change a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


CPUINFO = Path("/proc/cpuinfo")
_MODEL = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant", "CPU revision")
_FLAGS = ("flags", "Features")


@functools.cache
def cpu_facts() -> dict[str, str]:
    """What the system says of its first CPU, by the system's own names; empty where it says nothing."""
    if not CPUINFO.is_file():
        return {}
    first = CPUINFO.read_text(errors="replace").strip().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@functools.cache
def cpu_name() -> str:
    """The CPU's name as the system prints it, with family, model and stepping: clouds give many models one name."""
    facts = cpu_facts()
    name = facts.get("model name") or platform.processor() or platform.machine()
    said = ", ".join(f"{key.removeprefix('cpu ')} {facts[key]}" for key in _MODEL[1:] if key in facts)
    return f"{name} ({said})" if said else name


@functools.cache
def cpu_flags() -> str:
    """The CPU's instruction sets as the system lists them: libraries pick their kernels, and so last bits, by them."""
    facts = cpu_facts()
    return " ".join(sorted(next((facts[key] for key in _FLAGS if key in facts), "").split()))


@functools.cache
def gpu_name() -> str | None:
    """Names of the NVIDIA GPUs that are visible here, None without one; asked of the driver, not of torch."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return None
    return ", ".join(name.strip() for name in names if name.strip()) or None


@functools.cache
def machine_id() -> str:
    """A stable, anonymous name of this kind of machine: CPU and its instruction sets, cores, memory, GPUs and system.

    The host name stays out of it, since containers change theirs; two machines of the same hardware count as one.
    """
    memory = round(psutil.virtual_memory().total / 2**30)
    parts = (cpu_name(), cpu_flags(), os.cpu_count(), memory, gpu_name(), platform.system(), platform.machine())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
