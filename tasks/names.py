"""Models by name, ours and those of other packages' entry points, and what is known of each; read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from types import ModuleType
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import BadInputError
from vitq.registry import OURS, Registry
from vitq.words import close, nearest, short


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Build(_Strict):
    """A model made from a class of timm directly."""

    cls: Literal["VisionTransformer", "SwinTransformer"] = Field(alias="class")
    args: dict[str, Any]


class Configured(_Strict):
    """A model made from a configuration of mmdet (`mmdet::swin/....py`), mmsegmentation (`mmseg::...`) or ours.

    Ours (`vitq::name.py`) lie in `tasks/configs`. `changes` are merged into the configuration's `model`.
    """

    config: str = Field(pattern=r"^(mmdet|mmseg|vitq)::[\w./-]+\.py$")
    changes: dict[str, Any] = Field(default_factory=dict)

    def content(self) -> str:
        """What decides the model beside its name: sha256 of a file of ours; the package's version says the rest."""
        library, _, name = self.config.partition("::")
        if library != "vitq":
            return f"of the installed {library}"
        file = resources.files("vitq.tasks") / "configs" / name
        return f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}"


class Timm(_Strict):
    """A model made by timm's `create_model` from the name of an architecture, with or without a tag, and arguments."""

    timm: str
    args: dict[str, Any] = Field(default_factory=dict)


class ModelEntry(_Strict):
    """One model. `paper_name` is what figures call it; `build` is None for a name that timm knows.

    `sha256` pins the weights file, `sha256_prefix` its first eight digits, `tensors_sha256` what the hub gives
    (`weights.tensors_sha256`); a file published at `url` of which none is known is held to its first reading.
    `packaged` weights ship with vitq; their sha256 and FP32 accuracy come from the card beside them. `hub` says
    whether timm may fetch the weights by name. `not_papers` says how the preprocessing differs from what the papers
    used with the same weights, where it does.
    """

    name: str
    task: str = "classification"
    paper_name: str | None = None
    preprocessing: Preprocessing | ScenePreprocessing
    build: Build | Configured | Timm | None = None
    sha256: str | None = None
    sha256_prefix: str | None = Field(default=None, pattern=r"^[0-9a-f]{8}$")
    tensors_sha256: str | None = None
    url: str | None = None
    packaged: bool = False
    hub: bool = True
    expected: dict[str, dict[str, float]] = Field(default_factory=dict)
    expected_source: str = ""
    note: str = ""
    not_papers: str = ""


class Accuracy(_Strict):
    """Accuracy in percent on n images with its standard error in percentage points."""

    top1: float
    n: int
    stderr: float

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric by name, in percent."""
        return {"top1": self.top1}


class Metrics(_Strict):
    """Metrics by name in percent on n images, with the standard errors in percentage points of those that have one."""

    metrics: dict[str, float]
    stderr: dict[str, float]
    n: int


DATA_OF_CARDS = {"classification": "digits", "detection": "digit-scenes", "segmentation": "digit-scenes-maps"}
"""The data set, by task, that packaged weights were trained and validated on."""


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
    validation: Accuracy | Metrics
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
            "expected": {DATA_OF_CARDS[entry.task]: known.validation.metrics},
            "expected_source": f"the card of the weights, {known.validation.n} images",
        }
    )


@cache
def model_entries() -> dict[str, ModelEntry]:
    """Each of our models by name, in the order of models.yaml and mm_models.yaml."""
    files = [resources.files("vitq.tasks").joinpath(name) for name in ("models.yaml", "mm_models.yaml")]
    rows = [row for file in files for row in yaml.safe_load(file.read_text(encoding="utf-8"))]
    return {row["name"]: _with_card(ModelEntry.model_validate(row)) for row in rows}


@cache
def models() -> Registry[object]:
    """The names of all models; an entry point stands for a `ModelEntry` or a list of them, of which it is one."""
    return Registry("model", dict.fromkeys(model_entries(), "vitq.tasks:models.yaml"), group="vitq.models")


def register(entries: Iterable[ModelEntry]) -> None:
    """Let this process know these models too; see `vitq.registry.Registry.register` for what is refused."""
    for entry in entries:
        models().register(entry.name, entry)


def registered_models() -> tuple[ModelEntry, ...]:
    """What was registered, in that order; a worker process is told of it."""
    return tuple(entry for entry in models().registered.values() if isinstance(entry, ModelEntry))


def model_entry(name: str) -> ModelEntry:
    """What is known of a model: ours, other packages', registered, or any that timm knows.

    BadInputError names the nearest ones, or says what is wrong with another package's.
    """
    known = models()
    if name not in known.names():
        found: ModelEntry = _timm_models().timm_entry(name)
        return found
    if known.offer(name).distribution == OURS:
        return model_entries()[name]
    given = known.load(name)
    for entry in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(entry, ModelEntry) and entry.name == name:
            return entry
    raise BadInputError(f"{known.described(name)} is neither a vitq.tasks.names.ModelEntry of that name nor has one")


def paper_name(model: str) -> str | None:
    """What the papers' figures call this model, or None where no paper has it; BadInputError for an unknown model."""
    return model_entry(model).paper_name


def model_names() -> list[str]:
    """Names of all models that are ours, other packages' or registered; timm knows more."""
    return models().names()


def is_model(name: str) -> bool:
    """Whether `model_entry` knows a name; timm is imported, and asked, where nobody else knows it."""
    return name in model_names() or _timm_models().is_timm(name)


def unknown_model(name: str) -> str:
    """One line that says that no model is called so, and which names are nearest."""
    return f"no model is called {short(name)}; {nearest_models(name)}"


def nearest_models(word: str) -> str:
    """`did you mean X?` of our names and timm's, or the list of ours."""
    ours, timms = close(word, model_names()), close(word, _timm_models().timm_names(), cutoff=0.7)
    found = list(dict.fromkeys([*ours, *timms]))
    likest = close(word, found, most=3, cutoff=0)
    return f"did you mean {' or '.join(map(repr, likest))}?" if likest else nearest(word, model_names())


def near_miss(label: str) -> str | None:
    """The model's name that `label` is probably a typo of; None for a model's name and for any other word."""
    if label in model_names():
        return None
    near = next(iter(close(label, model_names(), most=1, cutoff=0.8)), None)
    return None if near is None or is_model(label) else near


def _timm_models() -> ModuleType:
    """What asks timm, which brings torch: imported for a name that nobody else knows."""
    from vitq.tasks import own_models

    return own_models
