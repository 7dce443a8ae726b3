"""A machine to test on: a tiny data set of ImageNet's shape, weights, a site file, a suite; and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

VITQ = Path(sys.executable).parent / "vitq"
MODEL = "deit_tiny_patch16_224.fb_in1k"
SYNSETS = ("n01440764", "n02172182")


def vitq(
    *words: object, cwd: Path, env: dict[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    kept = {k: v for k, v in os.environ.items() if k != "VITQ_SITE"}
    return subprocess.run(
        [VITQ, *map(str, words)], cwd=cwd, env=kept | (env or {}), capture_output=True, text=True, timeout=timeout
    )


@dataclass
class Machine:
    """Folders of one made machine."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def results(self) -> Path:
        return self.root / "results" / "tiny"

    def image(self, index: int = 0) -> Path:
        return self.data / "val" / SYNSETS[0] / f"val_{index}.JPEG"

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """`vitq run` of the tiny suite."""
        return vitq("run", "tiny.yaml", *words, cwd=self.root)


def make_machine(root: Path, methods: str = "[{method: fp32, bits: [FP32]}]", images: int = 2) -> Machine:
    """So many photographs' worth of noise a split and class, a DeiT-Tiny with random weights, and a suite over them."""
    import timm
    import torch
    from safetensors.torch import save_file

    machine, dice = Machine(root), np.random.default_rng(0)
    for split in ("train", "val"):
        for synset in SYNSETS:
            folder = machine.data / split / synset
            folder.mkdir(parents=True)
            for i in range(images):
                pixels = dice.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}_{i}.JPEG")
    (root / "weights").mkdir()
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", pretrained=False)
    save_file(model.state_dict(), root / "weights" / f"{MODEL}.safetensors")
    (root / "vitq.toml").write_text('hub = false\n[datasets]\nimagenet-proxy = "data"\n[weights]\nfolder = "weights"\n')
    (root / "tiny.yaml").write_text(
        f"name: tiny\ntasks: [{{dataset: imagenet-proxy, models: [{MODEL}]}}]\nbits: [W8A8]\n"
        f"calibration: {{images: 2, batch: 2}}\nmethods: {methods}\n"
    )
    return machine
