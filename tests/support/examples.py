"""The example packages, built as wheels and unpacked where a test wants them, as pip installs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


def install(example: str, site: Path, work: Path) -> Path:
    """Build `examples/<example>` in the folder `work` and unpack its wheel into `site`; returns `site`."""
    source = work / example
    shutil.copytree(EXAMPLES / example, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    done = subprocess.run([sys.executable, "-c", _BUILD, str(work)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(work / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site
