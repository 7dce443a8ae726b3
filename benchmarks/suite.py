"""Suites: YAML files that say what to run, validated by line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vitq.benchmarks.words import describe, nearest, worst
from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.tasks.names import dataset_names, model_names, task_names


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _known(word: str, names: Sequence[str], kind: str) -> str:
    if word not in names:
        raise ValueError(f"no {kind} is called {word!r}; {nearest(word, names)}")
    return word


def _bits(words: list[str] | None) -> list[str] | None:
    return None if words is None else [str(Bits.parse(word)) for word in words]


class Calibration(_Strict):
    """The calibration set: `images` drawn from the training split in batches of `batch`.

    `list`: `seeded` draws by `seed`; `attribution` takes the order of the data set's ATTRIBUTION.csv; else a text file
    of relative paths.
    """

    images: int = Field(default=32, ge=1)
    batch: int = Field(default=32, ge=1)
    seed: int = 0
    list: str = "seeded"
    split: str | None = None
    train_batch: int = Field(default=64, ge=1)
    augment: Literal["none", "light", "full"] = "light"


class Latency(_Strict):
    """Latency of FP32 and quantized forms, measured in turn: `runs` batches of `batch` images on `threads` threads."""

    batch: int = Field(default=8, ge=1)
    runs: int = Field(default=20, ge=3)
    warmup: int = Field(default=3, ge=0)
    threads: int | None = Field(default=None, ge=1)


class TaskEntry(_Strict):
    """A task on a data set, with the models to run."""

    task: str = "classification"
    dataset: str
    models: list[str] = Field(min_length=1)
    limit: int | None = Field(default=None, ge=1)

    _task = field_validator("task")(lambda word: _known(word, task_names(), "task"))
    _dataset = field_validator("dataset")(lambda word: _known(word, [*dataset_names(), "none"], "data set"))
    _models = field_validator("models")(lambda words: [_known(w, model_names(), "model") for w in words])


class MethodEntry(_Strict):
    """A method, or a named variant of it with its options; what is left out is taken from the suite."""

    method: str
    variant: str = Field(default="", pattern=r"^[A-Za-z0-9_.+=-]*$")
    options: dict[str, Any] = Field(default_factory=dict)
    bits: list[str] | None = None
    models: list[str] | None = None
    seeds: list[int] | None = None
    calibration: Calibration | None = None

    _method = field_validator("method")(lambda word: _known(word, list(all_cards()), "method"))
    _widths = field_validator("bits")(_bits)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options(self) -> MethodEntry:
        known = {h.name: h for h in all_cards()[self.method].hyperparameters}
        for name, value in self.options.items():
            _known(name, list(known), f"option of {self.method}")
            choices = known[name].choices
            if choices is not None and value not in choices:
                raise ValueError(f"{self.method}.{name} is {value!r}; {nearest(value, [str(c) for c in choices])}")
        return self


class Suite(_Strict):
    """What to run: the product of methods, tasks with their models, bits and seeds.

    `mode: accounting` counts size and operations without data or weights. `keep: none` drops each quantized model's
    file once its cell is done.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    description: str = ""
    mode: Literal["measure", "accounting"] = "measure"
    tasks: list[TaskEntry] = Field(min_length=1)
    methods: list[MethodEntry] = Field(min_length=1)
    bits: list[str] = Field(min_length=1)
    seeds: list[int] = Field(default=[0], min_length=1)
    calibration: Calibration = Calibration()
    latency: Latency | None = None
    threads: int | None = Field(default=None, ge=1)
    keep: Literal["all", "none"] = "all"

    _widths = field_validator("bits")(_bits)


def shipped_suites() -> list[str]:
    """Names of the suites that come with vitq."""
    folder = resources.files("vitq.benchmarks") / "suites"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or a YAML file by path; raises BadInputError that names the line at fault."""
    path = Path(name)
    if name in shipped_suites():
        text, shown = (
            (resources.files("vitq.benchmarks") / "suites" / f"{name}.yaml").read_text("utf-8"),
            f"suite {name}",
        )
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        text, shown = path.read_text(encoding="utf-8"), name
    else:
        raise BadInputError(
            f"no suite is called {name!r}; {nearest(name, shipped_suites())} A suite file ends in .yaml"
        )
    return parse_suite(text, shown)


def parse_suite(text: str, shown: str) -> Suite:
    """Validate a suite's text; `shown` names it in errors."""
    try:
        raw, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise BadInputError(f"{shown}{line} is not YAML: {getattr(error, 'problem', error)}") from None
    all_cards()  # a broken card must not be taken for a fault of the suite
    if not isinstance(raw, dict):
        raise BadInputError(f"{shown} is not a suite: it must be a mapping with name, tasks, methods and bits")
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        line_number = _line_of(node, worst(error)["loc"])
        raise BadInputError(f"{shown} line {line_number}: {describe(error, Suite)}") from None


def _line_of(node: Any, path: Sequence[Any]) -> int:
    """Line (from 1) of the deepest node that `path` reaches; a missing key is reported at its parent."""
    line = node.start_mark.line
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                continue
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return int(line) + 1
