"""`vitq.evaluate`: what a model's accuracy is, with its standard error and every sample's outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitq.api.errors import one_line
from vitq.api.given_data import given_data, reading_of
from vitq.api.given_model import Given, Wishes, device_of, given_model, size_of
from vitq.api.meanings import refuse_name_and_file
from vitq.api.tables import Table
from vitq.errors import BadInputError
from vitq.metrics import main_metrics
from vitq.paired import Paired, paired
from vitq.subject import silent
from vitq.words import nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.api.quantized import QuantizedModel
    from vitq.benchmarks.foreign.inputs import Wanted
    from vitq.benchmarks.plan.site import Site
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.outcomes import Outcome
    from vitq.record import Metric
    from vitq.subject import Progress
    from vitq.tasks.described import Architecture


@dataclass(frozen=True)
class Evaluation:
    """A model's metrics on n samples, in percent, with standard errors in percentage points.

    Attributes:
        task: the task that the metrics are of.
        metrics: each metric's `value`, `n` and `stderr`, by name: `top1` and `top5` of a classifier.
        outcomes: every sample's outcome by metric, from which two evaluations on the same samples are compared.
        samples: names of the samples, in the order of the outcomes.
        output_sha256: of the outputs on the first batch: two runs that agree in it agree bit for bit there.
    """

    task: str
    metrics: dict[str, Metric]
    outcomes: dict[str, Outcome] = field(repr=False)
    samples: tuple[str, ...] = field(repr=False)
    output_sha256: str = ""

    @property
    def top1(self) -> float:
        """Share of the samples whose first class is right, in percent."""
        return self._metric("top1").value

    @property
    def top5(self) -> float:
        """Share of the samples whose class is among the first five, in percent."""
        return self._metric("top5").value

    @property
    def stderr(self) -> float | None:
        """Standard error of the task's first metric (`top1`), in percentage points."""
        return self._metric(main_metrics(self.task)[0]).stderr

    @property
    def n(self) -> int:
        """How many samples."""
        return self._metric(main_metrics(self.task)[0]).n

    def against(self, other: Evaluation, metric: str | None = None) -> Paired:
        """This evaluation less another one on the same samples: `difference`, its paired `stderr`, and `p`.

        Most of the sampling error cancels: what is right or wrong in both says nothing of the difference. BadInputError
        where the samples are not the same.
        """
        name = metric or main_metrics(self.task)[0]
        self._metric(name), other._metric(name)
        if self.samples != other.samples:
            raise BadInputError("the two evaluations are not of the same samples: evaluate both on the same data")
        found = paired(other.outcomes[name], self.outcomes[name], name)
        if isinstance(found, str):
            raise BadInputError(f"the two evaluations cannot be paired: {found}")
        return found

    def table(self) -> Table:
        """A row a metric: its value, standard error and number of samples."""
        rows = tuple(
            {"metric": name, "value": m.value, "stderr": m.stderr, "n": m.n} for name, m in self.metrics.items()
        )
        return Table(rows, right=("value", "stderr", "n"), places={"value": 2, "stderr": 2})

    def __str__(self) -> str:
        return str(self.table())

    def _metric(self, name: str) -> Metric:
        if name not in self.metrics:
            raise BadInputError(f"no metric is called {name!r}; {nearest(name, self.metrics)}")
        return self.metrics[name]


def evaluate(
    model: nn.Module | str | Path,
    data: Any,
    *,
    limit: int | None = None,
    batch: int = 64,
    device: str | torch.device | None = None,
    labels: str | Path | None = None,
    classes: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    architecture: Architecture | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    site: str | Path | Site | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy of a model on labelled data.

    Args:
        model: What `vitq.quantize` or `vitq.load` gave, the file of one, any model as `vitq.quantize` takes it, or the
            file of a model that others quantized: ONNX, OpenVINO, TorchScript, torch.export, torchao's state dict.
        data: A pair of images [N, 3, H, W] and labels [N], a loader of such batches, the path of a folder of a folder a
            class, or the name of a data set. A word that is the name of a data set and of a folder too is refused:
            './NAME' (or a `Path`) is the folder, 'dataset:NAME' the data set. Tensors and loaders are taken as already
            normalized.
        limit: Evaluate so many samples: of a data set or a folder a seeded subset, stratified by class, else the first.
        batch: Of how many images a batch of a pair consists.
        device: Where to compute; by default where the model is, else `cpu`.
        labels: A CSV of the columns image and label, for a folder that is not sorted by class.
        classes: A file of the names of a folder's classes in the order of the model's numbers: a line each, or JSON
            (`class_to_idx`, `id2label`); by default they are sorted.
        preprocessing: How a folder's images become inputs, where it is not as the model's own configuration says.
        architecture: Of a checkpoint: timm's name of it.
        num_classes: Of a checkpoint; read from it by default.
        img_size: Side of the images, where it is not the architecture's own.
        site: The site file that says where data sets and weights are, or one that was read; by default as for the
            command line.
        progress: Called as `progress(phase, done, total)`.

    Raises:
        BadInputError: what was given cannot be used; one line says what to give.

    Examples:
        >>> before, after = vitq.evaluate("digits_vit", "digits"), vitq.evaluate(small, "digits")
        >>> print(after.against(before))
        paired -0.167 ± 0.373, p = 1 (2 gained, 3 lost)
    """
    from vitq.datasets.identity import check_limit

    check_limit(limit)
    wishes = Wishes(preprocessing, architecture, num_classes, img_size, size_of(data))
    with one_line():
        given = ready(model, wishes, device, site)
        reading = reading_of({}, labels, classes, limit, batch=batch)
        return evaluated(given, given_data(data, given, reading, "evaluation"), progress or silent)


def ready(model: Any, wishes: Wishes, device: Any, site: Any) -> Given:
    """Any model that a caller gives, quantized ones and their files included, ready to be evaluated."""
    from vitq.api.loading import load
    from vitq.api.quantized import QuantizedModel
    from vitq.methods.toolkit.saved_file import is_saved

    refuse_name_and_file(model)
    if isinstance(model, (str, Path)) and Path(model).is_file() and is_saved(Path(model)):
        model = load(model, "cpu" if device is None else device)
    if isinstance(model, QuantizedModel):
        return of_quantized(model, wishes, device, site)
    if isinstance(model, (str, Path)) and Path(model).is_file() and is_foreign(Path(model), wishes):
        return of_others(Path(model), wishes, device, site)
    return given_model(model, wishes, device, site)


def is_foreign(path: Path, wishes: Wishes) -> bool:
    """Whether a file is a whole model of others' (ONNX, OpenVINO, TorchScript, torch.export), or torchao's tensors."""
    from vitq.benchmarks.foreign.opening import kind_of
    from vitq.tasks.checkpoints import read

    kind = kind_of(path)
    if kind != "pickle" or wishes.architecture is None:
        return kind not in ("pickle", "safetensors")
    try:
        read(path)
    except BadInputError:  # more than plain tensors: torchao's are, and whoever opens it says what else they may be
        return True
    return False


def of_others(path: Path, wishes: Wishes, device: Any, site: Any) -> Given:
    """A model that others quantized, as its own runtime computes it on the CPU."""
    import torch

    from vitq.api.given_model import places_of
    from vitq.benchmarks.foreign.opening import open_foreign
    from vitq.tasks.base import LoadedModel
    from vitq.tasks.registry import load as load_task

    if device is not None and torch.device(device).type != "cpu":
        raise BadInputError(f"{path.name} is computed by its own runtime on the CPU: leave device out")
    places = places_of(site)
    opened = open_foreign(path, wanted_of(wishes), trust=places.trust)
    loaded = LoadedModel(path.name, opened.model, opened.preprocessing, opened.model.facts.sha256)
    why = f"{path.name} was quantized by others"
    return Given(load_task("classification"), loaded, None, torch.device("cpu"), why, places)


def wanted_of(wishes: Wishes) -> Wanted:
    """What a caller says of the input of a model of others'; of tensors, which are normalized, the size alone."""
    from vitq.benchmarks.foreign.inputs import Wanted
    from vitq.datasets.preprocessing import Preprocessing

    how, like = wishes.how, wishes.architecture if isinstance(wishes.architecture, str) else None
    if how is None and like is None and wishes.size is not None:
        how = Preprocessing(wishes.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if how is None:
        return Wanted(like, size=wishes.img_size)
    return Wanted(like, how.mean, how.std, how.size[1], how.crop_pct, how.interpolation)


def of_quantized(model: QuantizedModel, wishes: Wishes, device: Any, site: Any) -> Given:
    """A quantized model with the data preparation of the one that it was made of; on another device a copy of it."""
    import copy

    import torch

    from vitq.api.given_model import places_of
    from vitq.tasks.base import LoadedModel

    origin, where = model.origin, device_of(model) if device is None else torch.device(device)
    module = model.model if where == device_of(model) else copy.deepcopy(model.model).to(where)
    how = wishes.how or origin.how
    loaded = LoadedModel(model.method, module, how, None)
    return Given(origin.task, loaded, origin.entry, where, origin.why, places_of(site))


def evaluated(given: Given, data: Any, progress: Progress) -> Evaluation:
    """The task's metrics of a model on opened data, as a cell of a suite measures them."""
    from vitq.benchmarks.measure.accuracy import measured
    from vitq.methods.toolkit import devices

    with devices.deterministic():
        found = measured(given.task, given.loaded.model, data, progress)
    return Evaluation(given.task.name, found.metrics, found.outcomes, tuple(data.names), found.output_sha256)
