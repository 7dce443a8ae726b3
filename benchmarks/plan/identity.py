"""Identity by content: what decides each of a cell's measurements, part by part.

| part | model | accuracy | counts | latency |
|---|---|---|---|---|
| method, all its options, bits, scope | in | in | in | by the model |
| architecture and its arguments, input size | in | in | in | by the model |
| preprocessing | in | in | | by the model |
| weights (sha256) | in | in | | by the model |
| calibration images and their order, training images: where the method reads them | in | in | | by the model |
| seed | in | in | | by the model |
| code that is used, without comments and docstrings | in | in | in | in |
| versions of the packages that compute, Python's minor version | in | in | in | in |
| kind of device, settings of floating-point arithmetic | in | in | | in |
| validation images and labels, the subset taken | | in | | |
| runtime, batch, threads, rounds, device and machine | | | | in |

A method whose widths depend on data has its counts decided by the model too. Not in any: names of folders, cell ids and
variants, where results lie, `--jobs`, the executor, which cells ran before, and threads, which change no more than the
last bits of a sum and are in the record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vitq import mm
from vitq.benchmarks.plan.code_identity import code_sha256
from vitq.benchmarks.plan.suite import NO_DATA, Latency, Measurement
from vitq.benchmarks.run.provenance import machine_id
from vitq.benchmarks.runtimes.registry import RUNTIMES, packages_of
from vitq.datasets import registry as datasets
from vitq.datasets.identity import data_identity
from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.methods.cards import all_cards
from vitq.methods.registry import METHODS
from vitq.record import CellKey, Identity, Name, key_of
from vitq.registry import Registry
from vitq.subject import WHOLE
from vitq.tasks.names import Configured, ModelEntry, model_entry
from vitq.tasks.places import Places
from vitq.tasks.registry import TASKS
from vitq.tasks.weight_files import weights_identity

_MEASURE = "vitq.benchmarks.measure"
_QUANTIZING = tuple(f"{_MEASURE}.{name}" for name in ("model", "quantizing", "chosen"))
"""The code that has a method make the quantized model; what it imports is in other parts."""
MEASUREMENTS: tuple[Measurement, ...] = ("accuracy", "counts", "latency")
ARITHMETIC = "float32 without TF32, deterministic kernels"
"""What `methods.devices.make_deterministic` sets for every cell; records hold the settings one by one."""
FP32 = {"method": "fp32", "variant": "", "options": {}, "bits": "FP32", "seed": 0, "calibration": {}, "scope": WHOLE}
"""The cell whose accuracy every other is compared with."""


@dataclass(frozen=True)
class Identities:
    """What decides a cell's measurements, by name, and the FP32 accuracy on the same samples; None for counts alone."""

    own: dict[Name, Identity]
    fp32: Identity | None = None

    @property
    def keys(self) -> dict[Name, str]:
        """The key of each measurement."""
        return {name: key_of(identity) for name, identity in self.own.items()}

    @property
    def fp32_key(self) -> str | None:
        """The key of the FP32 accuracy."""
        return None if self.fp32 is None else key_of(self.fp32)


@dataclass(frozen=True)
class Surroundings:
    """What cells share: where things are, the device, latency's settings (None: nothing is timed) and its threads.

    `measure` names the measurements to make. Without `fetch`, weights that only the hub has and that were never read
    are named instead of fetched. `machine` is the kind of machine that latency is measured on, this one where empty.
    """

    places: Places
    device: str
    latency: Latency | None
    latency_threads: int
    fetch: bool = True
    measure: tuple[Measurement, ...] = MEASUREMENTS
    machine: str = ""


def identify(cell: CellKey, around: Surroundings) -> Identities:
    """The measurements of a cell; BadInputError where weights, a data set or a list is missing."""
    if cell.dataset == NO_DATA:
        return identify_counts(cell)
    counted_on_model = "counts" in around.measure and all_cards()[cell.method].widths_depend_on_data
    timed = around.latency if "latency" in around.measure else None
    if around.measure == ("counts",) and not counted_on_model:
        return identify_counts(cell)
    model, fp32 = _model(cell, around), None
    own: dict[Name, Identity] = {"model": model}
    if "accuracy" in around.measure:
        own["accuracy"] = _accuracy(cell, model, around)
        fp32 = _accuracy(cell, _model(cell.asked(**FP32), around), around)
    if "counts" in around.measure:
        own["counts"] = _counts(cell, model)
    if timed is not None:
        own["latency"] = _latency(model, timed, around)
        own |= {f"latency:{name}": _on_runtime(name, own["latency"]) for name in timed.runtimes}
    return Identities(own, fp32)


def identify_counts(cell: CellKey) -> Identities:
    """Counts alone, which need neither data nor weights."""
    return Identities({"counts": _counts(cell, None)})


def _model(cell: CellKey, around: Surroundings) -> Identity:
    entry, card = model_entry(cell.model), all_cards()[cell.method]
    reads = [what for what in ("calibration", "training") if card.reads_data(what, cell.options)]
    data = _data(cell, around, tuple(reads))
    return {
        **_asked(cell),
        **_architecture(entry),
        "preprocessing": _text(asdict(entry.preprocessing)),
        "weights": weights_of(cell.model, around.places, around.fetch),
        **{what: data.get(what, "not read") for what in ("calibration", "training")},
        "seed": str(cell.seed),
        "code of the method": method_code(cell.method),
        "code of the task": code_sha256(TASKS.offer(cell.task).module, alone=_QUANTIZING),
        "code of the data": data_code(cell.dataset) if reads else "not read",
        "packages": packages(cell.model, cell.dataset if reads else None),
        "device": around.device.partition(":")[0],
        "arithmetic": ARITHMETIC,
    }


def _asked(cell: CellKey) -> Identity:
    options = _text(_with_content(cell))
    return {"method": cell.method, "options": options, "bits": cell.bits, "scope": cell.scope}


def _with_content(cell: CellKey) -> dict[str, Any]:
    """The options, a file's name replaced by the sha256 of what is in it."""
    named = [name for name, known in all_cards()[cell.method].options.items() if known.file]
    files = {name: Path(str(cell.options[name])) for name in named if cell.options.get(name) is not None}
    for name, path in files.items():
        if not path.is_file():
            raise BadInputError(f"{cell.method}.{name} is {path}, and no file is there: correct the suite")
    return {**cell.options, **{name: f"sha256 {file_sha256(path)}" for name, path in files.items()}}


def _architecture(entry: ModelEntry) -> Identity:
    built = entry.build.model_dump(by_alias=True) if entry.build else {"timm": entry.name}
    if isinstance(entry.build, Configured):
        built["content"] = entry.build.content()
    return {"architecture": _text(built), "input": _text(entry.preprocessing.size)}


def _accuracy(cell: CellKey, model: Identity, around: Surroundings) -> Identity:
    data = _data(cell, around, ())
    return {
        **model,
        "validation": data["validation"],
        "subset": data["subset"],
        "code of the data": data_code(cell.dataset),
        "code of the accuracy": code_sha256(alone=(f"{_MEASURE}.accuracy",)),
        "packages": packages(cell.model, cell.dataset),
    }


def _counts(cell: CellKey, model: Identity | None) -> Identity:
    entry, card = model_entry(cell.model), all_cards()[cell.method]
    parts = {
        **_asked(cell),
        **_architecture(entry),
        "code of the method": method_code(cell.method),
        "code of the counts": code_sha256(f"{_MEASURE}.accounting", alone=(f"{_MEASURE}.counts", f"{_MEASURE}.chosen")),
        "packages": packages(cell.model),
    }
    if card.widths_depend_on_data and model is not None:
        parts["model"] = key_of(model)
    return parts


def _latency(model: Identity, spec: Latency, around: Surroundings) -> Identity:
    return {
        "model": key_of(model),
        "runtime": f"torch {version('torch')}",
        "batch": ", ".join(map(str, spec.batches)),
        "threads": str(around.latency_threads),
        "rounds": f"{spec.runs} after {spec.warmup}",
        "precision": "fp32",
        "arithmetic": ARITHMETIC,
        "device": around.device,
        "machine": around.machine or machine_id(),
        "code of the latency": code_sha256(alone=(f"{_MEASURE}.latency", f"{_MEASURE}.timing")),
    }


def _on_runtime(name: str, torch_latency: Identity) -> Identity:
    """What decides the rows of a runtime: what decides torch's, the runtime, its packages and its code.

    Which other runtimes are timed beside it does not: one can be added to a finished run.
    """
    computing = ", ".join(f"{package} {version(package)}" for package in packages_of(name))
    return {
        **torch_latency,
        "runtime": f"{name}: {computing}",
        "torch": torch_latency["runtime"],
        "code of the runtime": _code_of(RUNTIMES, name, f"{_MEASURE}.forms", RUNTIMES.offer(name).module),
    }


def _data(cell: CellKey, around: Surroundings, wants: tuple[str, ...]) -> Identity:
    folders = tuple(sorted(around.places.datasets.items()))
    return _read_data(cell.dataset, folders, cell.limit, _text(cell.calibration) if wants else "{}", wants)


@cache
def _read_data(
    name: str, folders: tuple[tuple[str, Path], ...], limit: int | None, calibration: str, wants: tuple[str, ...]
) -> Identity:
    return data_identity(name, dict(folders), limit=limit, calibration=json.loads(calibration), wants=wants)


def forget() -> None:
    """Read data and weights again the next time: files may have changed since."""
    _read_data.cache_clear()
    _read_weights.cache_clear()


def weights_of(model: str, places: Places, fetch: bool = True) -> str:
    """sha256 of a model's weights, read once."""
    return _read_weights(model, tuple(sorted(places.weights.items())), places.hub, places.trust, fetch)


@cache
def _read_weights(model: str, folders: tuple[tuple[str, Path], ...], hub: bool, trust: bool, fetch: bool) -> str:
    return weights_identity(model_entry(model), Places(weights=dict(folders), hub=hub, trust=trust), fetch=fetch)


@cache
def method_code(method: str) -> str:
    """The code of a method and all it imports."""
    return _code_of(METHODS, method, f"{METHODS.offer(method).module}.method")


@cache
def data_code(dataset: str) -> str:
    """The code of a data set and all it imports."""
    return _code_of(datasets.DATASETS, dataset, *datasets.load(dataset).modules)


def _code_of(known: Registry[Any], name: str, *roots: str) -> str:
    """The code of a thing and all it imports; BadInputError says whose it is where it cannot be read."""
    try:
        return code_sha256(*roots)
    except BadInputError as error:
        raise BadInputError(f"the code of {known.described(name)} cannot be read: {error}") from None


@cache
def packages(model: str, dataset: str | None = None) -> str:
    """Versions of what computes a model and, for a data set, of what reads it."""
    names = ["torch", "timm", "numpy", *(datasets.load(dataset).packages if dataset else ())]
    if isinstance(model_entry(model).build, Configured):
        names += mm.installed()
    versions = [f"{name} {version(name)}" for name in sorted(set(names))]
    return ", ".join([f"python {sys.version_info.major}.{sys.version_info.minor}", *versions])


@cache
def version(package: str) -> str:
    """The installed version of a package, or that it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def changed_parts(before: Identity, after: Identity) -> list[str]:
    """Names of the parts that differ, in the order of the new identity."""
    return [name for name in {**after, **before} if before.get(name) != after.get(name)]


def describe_change(before: Identity, after: Identity, parts: Sequence[str] | None = None) -> str:
    """`weights 3f1f07da1c2b -> 88aa..., options layernorm: reparam -> channel`: what is different, short."""
    names = changed_parts(before, after) if parts is None else parts
    return ", ".join(_change(name, before.get(name), after.get(name)) for name in names)


def _change(name: str, before: str | None, after: str | None) -> str:
    left, right = (_short(value) for value in (before, after))
    return f"{name} ({left} -> {right})" if left != right else name


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= 60 else f"{value[:12]}..."


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
