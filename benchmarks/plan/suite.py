"""Suites: what the YAML files that say what to run may hold, and reading them; a fault is named with its line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vitq import yaml_text
from vitq.benchmarks.plan.limits import MAX_IMAGES, MAX_SEED
from vitq.benchmarks.plan.option_words import MisplacedError, check_options
from vitq.benchmarks.plan.scopes import PATH
from vitq.benchmarks.runtimes.registry import RUNTIMES
from vitq.datasets.calibration import Calibration
from vitq.datasets.registry import DATASETS
from vitq.errors import BadInputError
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.subject import WHOLE
from vitq.tasks.names import is_model, model_entry, unknown_model
from vitq.tasks.registry import TASKS
from vitq.words import describe, location, nearest, short, unknown

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Images = Annotated[int, Field(ge=1, le=MAX_IMAGES)]
Measurement = Literal["accuracy", "counts", "latency"]
NO_DATA = "none"
"""The data set of cells that read no data: size and operations of an architecture need none."""


class _Strict(BaseModel):
    # strict: 1.0, true and "1" are not taken for the number 1
    model_config = ConfigDict(extra="forbid", strict=True)


def _known(word: str, names: Sequence[str], kind: str) -> str:
    if word not in names:
        raise ValueError(unknown(kind, word, names))
    return word


def _bits(words: list[str] | None) -> list[str] | None:
    return None if words is None else _once([str(Bits.parse(word)) for word in words])


def _models(words: list[str] | None) -> list[str] | None:
    return None if words is None else _once([_model(word) for word in words])


def _model(word: str) -> str:
    if not is_model(word):
        raise ValueError(unknown_model(word))
    return word


def _once(items: Any) -> Any:
    """The list as it is; ValueError where something is in it twice."""
    twice = next((item for i, item in enumerate(items or ()) if item in items[:i]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed twice")
    return items


class Latency(_Strict):
    """Latency of FP32 and quantized forms, measured in turn: `runs` batches of `batch` images on `threads` threads.

    `batch` is one size or several. `runtimes` are those that are timed beside torch: each has rows of its own, or a
    reason why it has none.
    """

    batch: Images | Annotated[list[Images], Field(min_length=1)] = 8
    runtimes: list[str] = []
    runs: int = Field(default=20, ge=3, le=1_000_000)
    warmup: int = Field(default=3, ge=0, le=1_000_000)
    threads: int | None = Field(default=None, ge=1)

    _sizes = field_validator("batch")(lambda sizes: _once(sizes) if isinstance(sizes, list) else sizes)

    @field_validator("runtimes")
    @classmethod
    def _runtimes(cls, names: list[str]) -> list[str]:
        known = [name for name in RUNTIMES.names() if name != "torch"]
        named: list[str] = _once([_known(name, known, "runtime beside torch") for name in names])
        return named

    @property
    def batches(self) -> list[int]:
        """Every batch size."""
        return self.batch if isinstance(self.batch, list) else [self.batch]


class TaskEntry(_Strict):
    """A task on a data set, with the models to run; `scope` is the path of the module to quantize, or the whole.

    `bits`, `calibration` and `latency` are used for its cells instead of the suite's, where they are given.
    """

    task: str = "classification"
    dataset: str
    models: list[str] = Field(min_length=1)
    limit: Images | None = None
    scope: str = Field(default=WHOLE, pattern=PATH, max_length=200)
    bits: list[str] | None = Field(default=None, min_length=1)
    calibration: Calibration | None = None
    latency: Latency | None = None

    _widths = field_validator("bits")(_bits)
    _task = field_validator("task")(lambda word: _known(word, TASKS.names(), "task"))
    _dataset = field_validator("dataset")(lambda word: _known(word, [*DATASETS.names(), NO_DATA], "data set"))
    _names = field_validator("models")(_models)


class MethodEntry(_Strict):
    """A method, or a named variant of it with its options; what is left out is taken from the task, or the suite.

    `tasks` and `models` are those it is run on, all of the suite's unless told; `scope` is instead of the task's.
    """

    method: str
    variant: str = Field(default="", pattern=r"^[A-Za-z0-9_.+=-]*$", max_length=80)
    options: dict[str, Any] = Field(default_factory=dict)
    bits: list[str] | None = Field(default=None, min_length=1)
    tasks: list[str] | None = Field(default=None, min_length=1)
    models: list[str] | None = Field(default=None, min_length=1)
    seeds: list[Seed] | None = Field(default=None, min_length=1)
    scope: str | None = Field(default=None, pattern=PATH, max_length=200)
    calibration: Calibration | None = None

    _method = field_validator("method")(lambda word: _known(word, list(all_cards()), "method"))
    _widths = field_validator("bits")(_bits)
    _names = field_validator("models")(_models)
    _seeds = field_validator("seeds")(_once)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    def runs_on(self, task: TaskEntry) -> bool:
        """Whether this is run on the models of a task entry."""
        return self.tasks is None or task.task in self.tasks

    @model_validator(mode="after")
    def _options(self) -> MethodEntry:
        check_options(all_cards()[self.method], self.options)
        return self


class Suite(_Strict):
    """What to run: the product of methods, tasks with their models, bits and seeds.

    `measure` says which measurements to make, all by default; latency is measured where its settings are given.
    `keep: none` drops each quantized model's file once its cell is done.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=80)
    description: str = ""
    measure: list[Measurement] = Field(default=["accuracy", "counts", "latency"], min_length=1)
    tasks: list[TaskEntry] = Field(min_length=1)
    methods: list[MethodEntry] = Field(min_length=1)
    bits: list[str] = Field(min_length=1)
    seeds: list[Seed] = Field(default=[0], min_length=1)
    calibration: Calibration = Calibration()
    latency: Latency | None = None
    threads: int | None = Field(default=None, ge=1)
    keep: Literal["all", "none"] = "all"

    _widths = field_validator("bits")(_bits)
    _seeds = field_validator("seeds")(_once)
    _measurements = field_validator("measure")(_once)

    def timed_on(self, runtimes: Sequence[str]) -> Suite:
        """The suite with these runtimes timed too, wherever it measures latency or could by the defaults."""
        if not runtimes:
            return self

        def more(spec: Latency | None) -> Latency:
            own = spec or Latency()
            every = dict.fromkeys([*own.runtimes, *runtimes])
            return Latency(**{**own.model_dump(), "runtimes": list(every)})

        tasks = [t.model_copy(update={"latency": more(t.latency)}) if t.latency else t for t in self.tasks]
        measures = list(dict.fromkeys([*self.measure, "latency"]))
        return self.model_copy(update={"tasks": tasks, "latency": more(self.latency), "measure": measures})

    def latency_of(self, task: str, dataset: str, model: str) -> Latency | None:
        """How the latency of a cell of these names is measured; None where it is not."""
        for entry in self.tasks:
            if (entry.task, entry.dataset) == (task, dataset) and model in entry.models and entry.latency:
                return entry.latency
        return self.latency

    @model_validator(mode="after")
    def _every_entry_runs(self) -> Suite:
        """Refuse what would vanish from the product, or have no data, without a word."""
        for i, entry in enumerate(self.methods):
            names = list(dict.fromkeys(task.task for task in self.tasks))
            for j, name in enumerate(entry.tasks or ()):
                if name not in names:
                    what = f"no entry of this suite is of the task {name!r}; {nearest(name, names)}"
                    raise MisplacedError(what, "methods", i, "tasks", j)
            run = list(dict.fromkeys(m for t in self.tasks if entry.runs_on(t) for m in t.models))
            for j, model in enumerate(entry.models or ()):
                if model not in run:
                    what = f"no task of this suite runs the model {model!r}; {nearest(model, run)}"
                    raise MisplacedError(what, "methods", i, "models", j)
        for i, task in enumerate(self.tasks):
            _fits(task, i)
            if task.dataset == NO_DATA and self.measure != ["counts"]:
                raise MisplacedError(f"data set {NO_DATA} serves measure: [counts] alone", "tasks", i, "dataset")
        return self


def _fits(task: TaskEntry, number: int) -> None:
    """MisplacedError where the data set or a model of a task entry is another task's."""
    if task.dataset != NO_DATA and DATASETS.load(task.dataset).task != task.task:
        what = f"data set {task.dataset} is for {DATASETS.load(task.dataset).task}, not for {task.task}"
        raise MisplacedError(what, "tasks", number, "dataset")
    for j, model in enumerate(task.models):
        if model_entry(model).task != task.task:
            what = f"model {model} is for {model_entry(model).task}, not for {task.task}"
            raise MisplacedError(what, "tasks", number, "models", j)


def shipped_suites() -> list[str]:
    """Names of the suites that come with vitq."""
    folder = resources.files("vitq.benchmarks") / "suites"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_suite(name: str) -> Suite:
    """A shipped suite by name, or a YAML file by path; raises BadInputError that names the line at fault."""
    path = Path(name)
    if name in shipped_suites():
        text = (resources.files("vitq.benchmarks") / "suites" / f"{name}.yaml").read_text("utf-8")
        return parse_suite(text, f"suite {name}")
    if path.suffix not in (".yaml", ".yml"):
        raise BadInputError(
            f"no suite is called {short(name)} (a suite file ends in .yaml); {nearest(name, shipped_suites())}"
        )
    try:
        text = yaml_text.read_text(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise BadInputError(f"suite file {name} cannot be read: {error.__class__.__name__}: {error}") from None
    return parse_suite(text, name)


def parse_suite(text: str, shown: str) -> Suite:
    """Validate a suite's text; `shown` names it in errors."""
    all_cards()  # a broken card must not be taken for a fault of the suite
    raw, node = yaml_text.parse(text, shown)
    if not isinstance(raw, dict):
        raise BadInputError(f"{shown} is not a suite: it must be a mapping with name, tasks, methods and bits")
    try:
        return Suite.model_validate(raw)
    except ValidationError as error:
        line = yaml_text.line_of(node, location(error))
        raise BadInputError(f"{shown} line {line}: {describe(error, Suite)}") from None
