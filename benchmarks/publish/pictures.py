"""The two pictures of README: accuracy against packed size of `proxy`, and against measured latency of `latency`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitq.reports.pictures import Picture
from vitq.rows import Row

SIZE, LATENCY = "proxy", "latency"
"""Suites that the pictures are of: a real model on real photographs, and the same on every runtime."""


def draw(found: Mapping[str, Sequence[Row]], out: Path) -> list[Picture]:
    """Draw what there are records of to `out`; OSError where it cannot be written."""
    from vitq.reports.latency_plot import latency_against_accuracy
    from vitq.reports.size_plot import accuracy_against_size

    pictures: list[Picture] = []
    for name, drawing in ((SIZE, accuracy_against_size), (LATENCY, latency_against_accuracy)):
        with tempfile.TemporaryDirectory() as folder:
            for picture in drawing(found.get(name, ()), Path(folder)):
                file = out / picture.file.name
                file.write_bytes(picture.file.read_bytes())
                pictures.append(picture._replace(file=file))
    return pictures
