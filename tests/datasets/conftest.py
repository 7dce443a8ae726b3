"""A tiny folder laid out as ImageNet is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SYNSETS = {"n01440764": 0, "n01443537": 1, "n02123045": 281, "n15075141": 999}


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (60 + seed % 7, 80, 3), dtype=np.uint8)).save(path, quality=90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four of the thousand classes: 3 validation and 12 training images of each."""
    root = tmp_path / "imagenet"
    for i, synset in enumerate(SYNSETS):
        for j in range(3):
            picture(root / "val" / synset / f"ILSVRC2012_val_{i}{j}.JPEG", 10 * i + j)
        for j in range(12):
            picture(root / "train" / synset / f"{synset}_{j}.JPEG", 1000 + 100 * i + j)
    return root
