"""Where tests of Triton's kernels run: on a GPU, or on the CPU in a process whose Triton interprets kernels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda:0" if torch.cuda.device_count() and not INTERPRETED else "cpu")
ROOT = Path(__file__).resolve().parents[2]


def where_kernels_run(test: Any) -> Any:
    """A mark: the test runs on a GPU, and in the interpreter; elsewhere it is skipped with the reason."""
    lacking = DEVICE.type == "cpu" and not INTERPRETED
    skip = pytest.mark.skipif(lacking, reason="needs a CUDA GPU; the interpreter runs it within another test")
    return pytest.mark.cuda(skip(test))


def first_tile_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first tile of every kernel, as the interpreter does: each one that is compiled takes a second."""
    from vitq.benchmarks.runtimes.gpu import tiles

    monkeypatch.setattr(tiles.Tiles, "_fastest", lambda _, choices, launch: choices[0])


def run_interpreted(path: str, least: int) -> None:
    """Run the tests of a file that are marked `cuda` in the interpreter; at least so many must pass, none may fail."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider", path]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, env=environment, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-1000:]
    assert int(passed[1]) >= least, done.stdout[-1000:]
