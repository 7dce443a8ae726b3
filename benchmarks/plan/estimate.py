"""How long cells will take and how much disk: by what the like took here before, else by their operations.

By operations a measurement takes

    seconds = images x passes x MACs / rate + images x DECODE

where `rate` is what FP32 models of about this size reached on this machine in earlier records, or a documented default,
and `passes` counts forward passes: one for FP32, FAKE_QUANT for a quantized model, three times as many where gradients
are taken. What a method's options say of epochs and iterations is counted; how it searches is not known, so that
calibration is CALIBRATION passes. Such an estimate is of the right order and no more; a run says how far off it was.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vitq.benchmarks.plan.past_costs import PastCosts
from vitq.benchmarks.plan.suite import NO_DATA, Latency
from vitq.datasets import registry as datasets
from vitq.methods.bits import Bits
from vitq.record import CellKey, Name

RATES = {"cpu": 1.5e10, "cuda": 5e12}
"""MACs a second: of one CPU thread (AVX2, FP32 products of a ViT in torch), and of a data-center GPU in FP32 without
TF32 (an H100's 67 TFLOPS are 3.3e13 at most, of which ViTs in batches of 32 reach about a sixth)."""
FAKE_QUANT, GRADIENTS, CALIBRATION = 2.0, 3.0, 20.0
DECODE = 0.01
"""Seconds a photograph takes to read and resize on one core."""
LEAST, START = 0.3, 5.0
"""Seconds that any measurement takes, and that a run takes before its first."""
TRAINING = {"imagenet-1k": 1_281_167, "coco-2017": 118_287, "ade20k": 20_210}
"""Images of training splits; of other data sets as many as are validated on are taken."""
TASKS_MACS = {"classification": 4.6e9, "detection": 2.7e11, "segmentation": 2.4e11}
"""MACs of a model of which nothing is known: those of DeiT-S, of Mask R-CNN and of UPerNet with Swin-T."""
STEPS_ONLY_WITH: Mapping[str, Mapping[str, Any]] = {
    "iterations": {"calibration": "generated", "generation": "psaq_vit"},
    "image_steps": {"generation": "adaptive"},
    "training_steps": {"student_training": True},
}
"""Options that count steps, and what others must say for these steps to be made; a method has some of the others."""
PACKED = 1.1
"""What a stored model has more than its weights' codes, as a factor."""
DAY = 86400.0
UNITS = (
    (100.0, 1.0, "s"),
    (100 * 60.0, 60.0, "min"),
    (3 * DAY, 3600.0, "h"),
    (1000 * DAY, DAY, "days"),
    (math.inf, 365 * DAY, "years"),
)
"""Below so many seconds, the unit of so many, by its name."""
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
By = Literal["records", "operations"]


@dataclass(frozen=True)
class Cost:
    """What a cell is expected to take: seconds in which others may run, seconds alone (latency), and bytes of disk."""

    seconds: float
    alone: float
    bytes: int
    by: By

    @property
    def total(self) -> float:
        """Seconds of both kinds."""
        return self.seconds + self.alone


@dataclass(frozen=True)
class Conditions:
    """What costs depend on beside the cell: earlier records, device and threads, folders of data, what is kept."""

    past: PastCosts
    device: str
    threads: int
    folders: Mapping[str, Path]
    keep: bool = True

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]


@dataclass(frozen=True)
class Estimate:
    """The cost of a run, and of how many of its cells the cost is known from earlier records.

    `seconds` pass until it is finished, `jobs` cells at once; all cells together take GPUs for `gpu_seconds`.
    """

    seconds: float
    bytes: int
    cells: int
    by_records: int
    device: str
    jobs: int = 1
    gpu_seconds: float = 0.0

    @property
    def text(self) -> str:
        """One line; on a GPU also how long it is taken."""
        if not self.cells:
            return "estimated: nothing is left to run"
        how = [f"{self.by_records} by earlier runs here"] if self.by_records else []
        how += [f"{self.cells - self.by_records} by their operations"] if self.cells > self.by_records else []
        hours = self.gpu_seconds / 3600
        shown = f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"
        gpu = f", {shown} GPU hours" if self.device.startswith("cuda") else ""
        what = f"{self.cells} cell{'s' * (self.cells > 1)}" + (f", {self.jobs} at once" if self.jobs > 1 else "")
        return f"estimated: {duration(self.seconds)}{gpu} and {size(self.bytes)} of disk for {what} ({', '.join(how)})"

    def error(self, took: float) -> str:
        """One line on how long it took instead."""
        return f"estimated {duration(self.seconds)}, took {duration(took)}"


def cost(cell: CellKey, wanted: Collection[Name], latency: Latency | None, where: Conditions) -> Cost:
    """The cost of the measurements of a cell that are wanted."""
    images, by = _images(cell, where.folders), []
    spent: dict[Name, float] = {}
    for name in wanted:
        known = where.past.seconds(name, cell, where.kind, images)
        by.append(known is not None)
        spent[name] = max(known, 0.01) if known is not None else _by_operations(name, cell, images, latency, where)
    alone = sum(seconds for name, seconds in spent.items() if name.startswith("latency"))
    stored = _bytes(cell, where) if "model" in wanted and where.keep else 0
    counted = sum(known for known in by) * 2 >= len(by)
    return Cost(sum(spent.values()) - alone, alone, stored, "records" if counted else "operations")


def together(costs: Sequence[Cost], jobs: int, device: str, gpus: float = 1.0) -> Estimate:
    """The cost of a run: cells side by side, never shorter than the longest; latency after them, alone.

    `gpus` are those that a cell has, or its share of one, where they compute on GPUs.
    """
    running = [c for c in costs if c.total > 0]
    beside = max(sum(c.seconds for c in running) / jobs, max((c.seconds for c in running), default=0.0))
    seconds = START + beside + sum(c.alone for c in running) if running else 0.0
    known = sum(c.by == "records" for c in running)
    on_gpus = sum(c.total for c in running) * gpus if device.startswith("cuda") else 0.0
    return Estimate(seconds, sum(c.bytes for c in running), len(running), known, device, jobs, on_gpus)


def _by_operations(name: Name, cell: CellKey, images: int, latency: Latency | None, where: Conditions) -> float:
    if name == "counts" or cell.dataset == NO_DATA:
        return LEAST
    macs, once = sizes_of(cell, where.past)[0], 1.0 if cell.method == "fp32" else FAKE_QUANT
    rate = where.past.rate(macs, where.kind) or RATES.get(where.kind, RATES["cpu"]) * _at_once(where)
    read = DECODE / max(1, os.cpu_count() or 1) if cell.dataset in where.folders else 0.0
    if name == "accuracy":
        return max(LEAST, images * (once * macs / rate + read))
    if name == "model":
        passes = 0.0 if cell.method == "fp32" else once * _passes(cell, images)
        return max(LEAST, passes * macs / rate)
    spec = latency or Latency()
    forms = 2 if name == "latency" else 1
    return max(LEAST, forms * (spec.runs + spec.warmup) * sum(spec.batches) * macs / rate)


def _at_once(where: Conditions) -> int:
    return where.threads if where.kind == "cpu" else 1


def _passes(cell: CellKey, images: int) -> float:
    """Forward passes of one image that a method makes, by the options that say how often it steps."""
    options: Mapping[str, Any] = cell.options
    calibrated = float(cell.calibration.get("images", 32))

    def told(name: str) -> float:
        value = options.get(name)
        if any(options.get(other, with_) != with_ for other, with_ in STEPS_ONLY_WITH.get(name, {}).items()):
            return 0.0
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0

    made = told("images") or calibrated
    training = told("epochs") * TRAINING.get(cell.dataset, images)
    steps = told("cycles") * (told("image_steps") + told("training_steps")) + 2 * told("iterations")
    return CALIBRATION * calibrated + GRADIENTS * (training + steps * made)


def sizes_of(cell: CellKey, past: PastCosts) -> tuple[int, int]:
    """MACs and parameters of a cell's model: as counted before, as known of ours, else those of a common one."""
    guess = TASKS_MACS.get(cell.task, TASKS_MACS["classification"])
    known = past.sizes.get(cell.model) or known_sizes().get(cell.model)
    return known or (int(guess), 22_000_000)


@cache
def known_sizes() -> dict[str, tuple[int, int]]:
    """MACs of one image and parameters of each of our models, by name; a test counts them anew."""
    text = (resources.files("vitq.benchmarks.plan") / "macs.json").read_text(encoding="utf-8")
    return {name: (row["macs"], row["params"]) for name, row in json.loads(text).items()}


def _images(cell: CellKey, folders: Mapping[str, Path]) -> int:
    """How many are evaluated."""
    if cell.dataset == NO_DATA:
        return 0
    whole = datasets.load(cell.dataset).full_size
    if whole is None:
        whole = _files(folders[cell.dataset]) if cell.dataset in folders else 1000
    return min(cell.limit, whole) if cell.limit else whole


@cache
def _files(folder: Path) -> int:
    """Images in a folder's validation split, or in all of it."""
    root = folder / "val" if (folder / "val").is_dir() else folder
    walked = (name for _, _, names in os.walk(root) for name in names)
    return max(1, sum(Path(name).suffix.lower() in IMAGES for name in walked))


def _bytes(cell: CellKey, where: Conditions) -> int:
    known = where.past.bytes(cell)
    if known is not None:
        return known
    bits = 32 if cell.bits == "FP32" else Bits.parse(cell.bits).w
    return int(PACKED * sizes_of(cell, where.past)[1] * bits / 8)


def duration(seconds: float) -> str:
    """`40 s`, `3.2 min`, `5.1 h`, `2.4 days`."""
    for most, unit, name in UNITS:
        if seconds < most:
            value = seconds / unit
            return f"{value:.0f} {name}" if value >= 10 or name == "s" else f"{value:.1f} {name}"
    raise ValueError(f"{seconds} is no duration")


def size(count: int) -> str:
    """Bytes in MB or GB of powers of ten."""
    return (
        f"{count / 1e9:.1f} GB"
        if count >= 1e9
        else f"{count / 1e6:.0f} MB"
        if count >= 1e7
        else f"{count / 1e6:.1f} MB"
    )
