"""Fixtures shared by all rooms' tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# `python -m pytest` puts the root on the path, where the folder `datasets` would hide the package of that name
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
sys.path.insert(0, str(ROOT / "tests" / "support"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: a process that meets one last leaves the others waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference vectors, papers and real data; it is not part of the repository."""
    place = Path(os.environ.get("VITQ_DATA") or ROOT.parent / "shared")
    if not (place / "vectors").is_dir():
        pytest.skip(f"reference vectors and real data are not at {place}; set VITQ_DATA to the folder that holds them")
    return place
