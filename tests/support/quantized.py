"""Small quantized models of every method, made in a moment, and what a saved one's header says."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vitq.methods import registry
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.toolkit import saving
from vitq.subject import Subject
from vitq.tasks.base import LoadedModel, Places
from vitq.tasks.names import model_entry
from vitq.tasks.registry import load as load_task

TASK = load_task("classification")
GENERATED = {"images": 2, "image_steps": 1, "training_steps": 1, "cycles": 1}


class Case(NamedTuple):
    """A model, a method, widths and options that differ from the defaults."""

    model: str
    method: str
    bits: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.model, self.method, self.bits, *map(str, self.options.values())]).replace("/", "")


VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("fp32", "FP32", {}),
    ("minmax", "W8A8", {}),
    ("minmax", "W3A5", {}),
    ("repq_vit", "W8A8", {}),
    ("repq_vit", "W4A4", {}),
    ("repq_vit", "W6A6", {"rounded_zero_point": True}),
    ("repq_vit", "W3A3", {"layernorm": "channel", "softmax": "log2", "log_code_overflow": "clip"}),
    ("repq_vit", "W5A7", {"layernorm": "layer", "softmax": "uniform"}),
    ("psaq_vit", "W4A8", {"calibration": "gaussian", "images": 2}),
    ("psaq_vit", "W8A8", {"calibration": "real", "residual": "fp"}),
    ("psaq_vit_v2", "W4A8", GENERATED),
    ("pmq", "W4A4", {"frontier_points": 64}),
    ("pmq", "W5A5", {"allocation": "uniform"}),
    ("pmq", "W4A6", {"frontier_points": 64, "cost": "bitops", "patch_wise": True}),
    ("i_vit", "W8A8", {"epochs": 0}),
    ("i_vit", "W8A8", {"epochs": 0, "softmax": "polynomial", "gelu": "polynomial", "layernorm": "l1"}),
    ("i_vit", "W8A8", {"epochs": 0, "arithmetic": "release"}),
    ("i_vit", "W8A8", {"epochs": 1, "arithmetic": "release", "paper_operators": ("weights", "layernorm")}),
    ("binary_vit", "W1A1", {"epochs": 0}),
    ("binary_vit", "W1A1", {"epochs": 1, "asm": False}),
]
CASES = [Case(model, *variant) for model in ("digits_vit", "digits_swin") for variant in VARIANTS]


@cache
def loaded(model: str) -> LoadedModel:
    """A packaged model with its weights; not to be changed."""
    return TASK.load_model(model, Places())


def images(model: str, n: int, seed: int = 0) -> torch.Tensor:
    """Noise [n, C, H, W] of the model's input shape."""
    return torch.randn(n, *loaded(model).preprocessing.size, generator=torch.Generator().manual_seed(seed))


def quantize(case: Case, folder: Path) -> Quantized:
    """The case's model, calibrated on four images of noise."""
    known, method = loaded(case.model), registry.load(case.method)
    data = [(images(case.model, 4, seed=1), torch.arange(4))]
    subject = Subject(
        model=TASK.load_model(case.model, Places()).model, calibration=lambda: iter(data),
        forward=TASK.forward, loss=TASK.loss, distance=TASK.distance, distill=TASK.distill,
        synthesize=lambda x, generator: TASK.synthesize(x, generator, known),
        example=lambda: data[0], digest=TASK.digest,
        input=known.preprocessing.input, training=lambda epoch: iter(data), artifacts=folder,
    )  # fmt: skip
    done = method.quantize(subject, Bits.parse(case.bits), method.Options(**case.options))
    done.model.eval()
    return done


def header(case: Case, done: Quantized) -> dict[str, Any]:
    """The header that a run writes."""
    options = dataclasses.asdict(registry.load(case.method).Options(**case.options))
    entry = model_entry(case.model).model_dump(mode="json", by_alias=True)
    architecture = {"task": "classification", "model": entry}
    return saving.header_of(case.method, options, case.bits, "model", done.facts, done.exec, architecture, {"seed": 0})
