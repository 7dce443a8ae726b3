"""Names of tasks, data sets and models, and what is known of each model; read without torch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vitq.errors import BadInputError

TASKS = {"classification": "vitq.tasks.classification"}
"""Task name to the module that offers `TASK`."""
TASK_VERSIONS = {"classification": 1}
"""Rises when a task's metrics change for the same model; part of every fingerprint."""
DATASETS = {"digits": "classification", "imagenet-1k": "classification", "imagenet-proxy": "classification"}
"""Data set name to its task."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Strict):
    """Resize the short side to floor(size / crop_pct), crop the centre, (pixel in 0..1 - mean) / std."""

    size: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float
    interpolation: Literal["bilinear", "bicubic"]


class Build(_Strict):
    """A model made from a class of timm directly."""

    cls: Literal["VisionTransformer", "SwinTransformer"] = Field(alias="class")
    args: dict[str, Any]


class ModelEntry(_Strict):
    """One model. `paper_name` is what figures call it; `build` is None for a name that timm knows.

    `sha256` pins the weights file, `tensors_sha256` what the hub gives (`weights.tensors_sha256`). `packaged` weights
    ship with vitq; their sha256 and FP32 accuracy come from the card beside them. `hub` says whether timm may fetch the
    weights by name.
    """

    name: str
    task: str = "classification"
    paper_name: str | None = None
    preprocessing: Preprocessing
    build: Build | None = None
    sha256: str | None = None
    tensors_sha256: str | None = None
    packaged: bool = False
    hub: bool = True
    expected: dict[str, dict[str, float]] = Field(default_factory=dict)
    expected_source: str = ""
    note: str = ""


class Accuracy(_Strict):
    """Accuracy in percent on n images with its standard error in percentage points."""

    top1: float
    n: int
    stderr: float


class WeightsCard(_Strict):
    """The card beside packaged weights, `weights/<model>.yaml`, written by the script that trained them.

    `rescaled` says what was done to the weights after training without changing what they compute; `unevenness` how
    uneven the channels after LayerNorm were and are (`vitq.benchmarks.uneven_channels.Unevenness`).
    """

    model: str
    sha256: str
    bytes: int
    params: int
    made_by: str
    data: dict[str, str]
    split: dict[str, int]
    seed: int
    threads: int
    recipe: dict[str, Any]
    augmentation: str
    rescaled: str = ""
    unevenness: dict[str, dict[str, float]] = Field(default_factory=dict)
    validation: Accuracy
    note: str = ""
    versions: dict[str, str]


def card(model: str) -> WeightsCard:
    """The card of packaged weights."""
    text = (resources.files("vitq.tasks") / "weights" / f"{model}.yaml").read_text(encoding="utf-8")
    return WeightsCard.model_validate(yaml.safe_load(text))


def _with_card(entry: ModelEntry) -> ModelEntry:
    if not entry.packaged or not (resources.files("vitq.tasks") / "weights" / f"{entry.name}.yaml").is_file():
        return entry
    known = card(entry.name)
    return entry.model_copy(
        update={
            "sha256": known.sha256,
            "expected": {"digits": {"top1": known.validation.top1}},
            "expected_source": f"the card of the weights, {known.validation.n} images",
        }
    )


@cache
def model_entries() -> dict[str, ModelEntry]:
    """Every model by name, in the order of models.yaml."""
    rows = yaml.safe_load(resources.files("vitq.tasks").joinpath("models.yaml").read_text(encoding="utf-8"))
    return {row["name"]: _with_card(ModelEntry.model_validate(row)) for row in rows}


def model_entry(name: str) -> ModelEntry:
    """What is known of a model; BadInputError names the nearest ones."""
    if name not in model_entries():
        raise BadInputError(unknown("model", name, model_names()))
    return model_entries()[name]


def paper_name(model: str) -> str | None:
    """What the papers' figures call this model, or None where no paper has it; BadInputError for an unknown model."""
    return model_entry(model).paper_name


def model_names(task: str | None = None) -> list[str]:
    """Names of all models, or of one task's."""
    return [name for name, entry in model_entries().items() if task in (None, entry.task)]


def near_miss(label: str) -> str | None:
    """The model's name that `label` is probably a typo of; None for a model's name and for any other word."""
    if label in model_names():
        return None
    return next(iter(difflib.get_close_matches(label[:200], model_names(), n=1, cutoff=0.8)), None)


def task_names() -> list[str]:
    """Names of all tasks."""
    return list(TASKS)


def task_version(name: str) -> int:
    """Version of a task's metrics."""
    return TASK_VERSIONS[name]


def dataset_names(task: str | None = None) -> list[str]:
    """Names of all data sets, or of one task's."""
    return [name for name, serves in DATASETS.items() if task in (None, serves)]


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """One line that says no such thing exists and which names are nearest."""
    near = difflib.get_close_matches(name[:200], known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"no {kind} is called {name!r}; {hint}"
