"""A record: one JSON line a measurement, and one a cell that says which measurements are its own.

Imported by `reports` too, so it needs pydantic alone. A line is told apart by `kind`:

    cell       who asked: a cell's names, and the keys of its measurements
    model      the quantized model: how long it took, what the method says of it, its file
    accuracy   the task's metrics of a model on validation data
    counts     size and operations of an architecture
    latency    times of a model's execution forms

A cell has one measurement of each kind, but for latency: `latency` is that of torch, `latency:openvino` that of the
runtime of this name. A measurement is known by its key, the sha256 of its identity; a cell by what was asked for. Two
cells that ask for the same measurement share it, and `rows` joins them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from vitq.details import Details, with_details
from vitq.subject import WHOLE

SCHEMA_VERSION = 2

Status = Literal["done", "failed", "oom", "unsupported"]
Kind = Literal["model", "accuracy", "counts", "latency"]
KINDS: tuple[Kind, ...] = ("model", "accuracy", "counts", "latency")
Name = str
"""What a cell calls one of its measurements: a kind, or `latency:` and the name of a runtime."""
Identity = dict[str, str]
"""What decides a measurement, by the name of the part: a short text as it is, or the sha256 of a long one."""
Share = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    # Without constants NaN is written as null, and a line with null cannot be read back as a number.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def key_of(identity: Identity) -> str:
    """sha256 of the parts, in the order of their names."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def kind_of(name: Name) -> Kind:
    """The kind of a cell's measurement by its name; ValueError where it is none."""
    found = next((kind for kind in KINDS if name == kind or (kind == "latency" and name.startswith("latency:"))), None)
    if found is None:
        raise ValueError(f"{name!r} names no measurement")
    return found


def in_order(names: Iterable[Name]) -> list[Name]:
    """Names of measurements by kind, torch's latency before that of runtimes."""
    return sorted(names, key=lambda name: (KINDS.index(kind_of(name)), name))


class CellKey(_Strict):
    """What is asked for, in names alone: what `-k` picks, what a gate matches by.

    `id` is readable and unique: method[variant]/task/dataset/model/bits/seed, then the limit and the scope where they
    are not the whole (`asked` makes it). `limit` evaluates a seeded, class-stratified subset of that many images.
    """

    id: str
    method: str
    variant: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    task: str
    dataset: str
    model: str
    bits: str
    seed: int = 0
    scope: str = WHOLE
    limit: int | None = None
    calibration: dict[str, Any] = Field(default_factory=dict)

    def asked(self, **changes: Any) -> CellKey:
        """The same cell with other fields, under the id that follows from them."""
        cell = self.model_copy(update=changes)
        named = cell.method + (f"[{cell.variant}]" if cell.variant else "")
        parts = [named, cell.task, cell.dataset, cell.model, cell.bits, f"seed{cell.seed}"]
        parts += [f"limit{cell.limit}"] if cell.limit is not None else []
        parts += [f"scope-{cell.scope}"] if cell.scope != WHOLE else []
        return cell.model_copy(update={"id": "/".join(parts)})


class Metric(_Strict):
    """A metric with what it was measured on: value in percent, n samples, standard error in percentage points."""

    value: Share
    n: int = Field(ge=1)
    stderr: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Size(_Strict):
    """Model size. `packed_mb`: as it would ship (weights at their width, scales, biases, what stays in FP), 10^6 bytes.

    `conventions` holds the size by each paper's own convention, by name.
    """

    params: int = Field(ge=1)
    fp32_mb: Positive
    packed_mb: Positive
    conventions: dict[str, float] = Field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times smaller the model ships than in FP32."""
        return self.fp32_mb / self.packed_mb


class Operations(_Strict):
    """Operations of one forward pass of one image: MACs with attention products, BitOPs, OPs = BOPs/64 + FLOPs."""

    macs: int = Field(ge=0)
    bitops: int = Field(ge=0)
    ops: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    conventions: dict[str, float] = Field(default_factory=dict)


class LatencyRow(_Strict):
    """Latency of one execution form.

    `exec`: fp32, fp32:<runtime>, bf16:<runtime>, fake-quant, int8-kernel:<runtime>, integer-only:<runtime> or
    xnor:<runtime>. A fake-quant row says what an evaluation costs; it is never a speed-up. Samples are milliseconds a
    batch, measured in turn with the FP32 model's: sample i of every form of one `session` is of the same round.

    Attributes:
        runtime, version: what computes, and its version.
        reference: the form whose numbers this one was held to before it was timed; `difference` is the largest of the
            outputs' differences over the largest output, `agreement` the percentage of equal first classes.
        operators: how many run at which width, by kind, as the runtime's own executed graph says.
        memory_mb: what a call takes above what is resident before it, 10^6 bytes; None where that cannot be told.
        session: names the rounds; rows of two sessions were not timed in turn.
    """

    exec: str
    batch: int = Field(ge=1)
    threads: int = Field(ge=1)
    device: str
    median_ms: Positive
    p90_ms: Positive
    samples_ms: list[Positive] = Field(min_length=1)
    runtime: str = "torch"
    version: str | None = None
    reference: str | None = None
    difference: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    agreement: Share | None = None
    operators: dict[str, dict[str, int]] = Field(default_factory=dict)
    memory_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    session: str = ""

    @property
    def place(self) -> tuple[str, int, int, str]:
        """What rows must share to be divided by one another: the rounds, batch, threads and device."""
        return (self.session, self.batch, self.threads, self.device)


class LatencyAround(_Strict):
    """What the machine did around a session of timing.

    Attributes:
        load_before: processes that wanted a core, the mean of the minute before; None where the system does not tell.
        other_cores: cores that other work took during the session, what a hypervisor gave to others included.
        switches: involuntary switches of this process during the session.
        mhz_before, mhz_after: clock of the processor as the system tells it.
        affinity: cores that the process was held to; None where it could not be.
        instruction_sets: those that integer and binary kernels are chosen by, of the processor.
        disturbed: whether so much other work was there that the times are not the model's alone.
    """

    load_before: float | None = None
    other_cores: float | None = None
    switches: int | None = None
    mhz_before: float | None = None
    mhz_after: float | None = None
    affinity: list[int] | None = None
    instruction_sets: list[str] = Field(default_factory=list)
    disturbed: bool = False


class ModelFile(_Strict):
    """A quantized model as a file: relative path, sha256 and bytes, of which `header_bytes` are no payload."""

    path: str
    sha256: str
    bytes: int = Field(ge=1)
    header_bytes: int = Field(ge=0)
    kept: bool = True


class Calibrated(_Strict):
    """Calibration images that a method really read, of how many it was given; `evaluated` of them are evaluated too."""

    read: int = Field(ge=0)
    given: int = Field(ge=0)
    evaluated: int = Field(default=0, ge=0)


class Provenance(_Strict):
    """Where a record comes from; `threads` of torch, `settings` of its arithmetic (TF32, determinism)."""

    vitq: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    python: str = ""
    cpu: str = ""
    gpu: str | None = None
    machine: str = ""
    device: str = "cpu"
    threads: int | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    command: str = ""
    finished: str = ""


Fidelity = Literal["released-code", "paper", "reconstruction", "baseline", "elsewhere"]
ELSEWHERE = "elsewhere"
"""The method of a cell whose model was quantized by others and is only measured here; the variant says by whom."""


class Record(_Strict):
    """One measurement of a cell. Fields that its kind does not measure are empty.

    Attributes:
        key: sha256 of `identity`; a record whose key does not fit is refused when it is read.
        cell: the cell that asked first.
        outcomes: file of every sample's outcome, relative to the results folder (see `outcomes`).
        latency_around: what the machine did meanwhile, by session.
        calibrated: calibration images that were read.
        details: what the method says of its work, in the method's own type; None where it says nothing.
        files: artifacts by name, relative to the results folder.
        seconds: by phase, the device waited for.
        traceback: where an error that nobody foresaw was raised.
    """

    schema_version: Literal[2] = 2
    kind: Kind
    key: str
    identity: Identity
    cell: CellKey
    status: Status
    fidelity: Fidelity = "baseline"
    metrics: dict[str, Metric] = Field(default_factory=dict)
    outcomes: str | None = None
    output_sha256: str | None = None
    size: Size | None = None
    operations: Operations | None = None
    latency: list[LatencyRow] = Field(default_factory=list)
    latency_around: dict[str, LatencyAround] = Field(default_factory=dict)
    model_file: ModelFile | None = None
    calibrated: Calibrated | None = None
    details: SerializeAsAny[Details] | None = None
    files: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_mb: float | None = None
    error: str | None = None
    traceback: str | None = None
    warnings: list[str] = Field(default_factory=list)
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, fields: Any) -> Any:
        return with_details(fields)

    @model_validator(mode="after")
    def _keyed(self) -> Record:
        if self.key != key_of(self.identity):
            raise ValueError("its key is not that of its identity: the line was edited")
        if self.status == "done" and not self._measured():
            raise ValueError(f"a finished {self.kind} record without what it measured")
        if self.status != "done" and not self.error:
            raise ValueError(f"a record that is {self.status} without a reason")
        return self

    def _measured(self) -> bool:
        held = {
            "model": True,
            "accuracy": bool(self.metrics),
            "counts": self.size is not None and (self.operations is not None or self.fidelity == ELSEWHERE),
            "latency": bool(self.latency),
        }
        return held[self.kind]

    @property
    def finished(self) -> bool:
        """Whether this need not be done again: failures are tried again, done and unsupported are not."""
        return self.status in ("done", "unsupported")


class Asked(_Strict):
    """A cell was asked for: the keys of its measurements, and of the FP32 accuracy that it is compared with."""

    schema_version: Literal[2] = 2
    kind: Literal["cell"] = "cell"
    cell: CellKey
    keys: dict[Name, str]
    fp32_key: str | None = None
    paper_name: str | None = None
    provenance: Provenance

    @model_validator(mode="after")
    def _named(self) -> Asked:
        for name in self.keys:
            kind_of(name)
        return self


Line = Record | Asked


def parse_line(content: Mapping[str, Any]) -> Line:
    """A record from a line's JSON; pydantic's ValidationError where it is none."""
    return Asked.model_validate(content) if content.get("kind") == "cell" else Record.model_validate(content)
