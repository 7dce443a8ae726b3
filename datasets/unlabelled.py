"""Images without labels, or of classes that a model does not tell apart: they may calibrate, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitq.datasets import folders
from vitq.datasets.base import Data
from vitq.datasets.batches import Batch
from vitq.datasets.calibration import Calibration, enough
from vitq.datasets.images import read_batches
from vitq.datasets.in_memory import NO_LABEL
from vitq.datasets.listing import Item, as_text, draw
from vitq.errors import BadInputError


def is_flat(root: Path) -> bool:
    """Whether images lie in a folder itself, and no folder beside them."""
    if not root.is_dir():
        return False
    there = folders.entries(root)
    return any(e.name.lower().endswith(folders.SUFFIXES) for e in there) and not any(map(folders.is_folder, there))


def unlabelled(root: Path, how: Any, spec: Calibration, *, workers: int | None = None) -> Data:
    """The images of a folder, however deep, to calibrate on: drawn by the seed, or the first by name.

    BadInputError where there are none, or fewer than were asked for.
    """
    items = [Item(path, NO_LABEL) for path in sorted(_images(root))]
    if not items:
        raise BadInputError(f"{root} holds no image ({', '.join(folders.SUFFIXES)})")
    wanted = spec.images if "images" in spec.model_fields_set else min(spec.images, len(items))
    exact = spec.model_copy(update={"images": wanted})
    if spec.list not in ("seeded", "first"):
        raise BadInputError(f"calibration: images without labels have no list {spec.list}: use seeded or first")
    chosen = enough(draw(items, wanted, spec.seed) if spec.list == "seeded" else items[:wanted], exact)
    return Data(
        calibration=lambda: read_batches(root, chosen, how, spec.batch, workers=workers),
        training=None, validation=_refused, n_validation=0, sha256="", calibration_list=as_text(chosen),
    )  # fmt: skip


def _images(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        if path.suffix.lower() in folders.SUFFIXES and path.is_file():
            yield path.relative_to(root).as_posix()


def _refused() -> Iterator[Batch]:
    raise BadInputError("these images have no labels: give a folder of a folder a class, or a CSV of labels")
