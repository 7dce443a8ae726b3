"""Latency of a cell: FP32 and the quantized model's form in torch, and its form on every runtime that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.bench import Bench
from vitq.benchmarks.measure.forms import Form, forms_of
from vitq.benchmarks.measure.timing import BASELINE, time_in_turn
from vitq.benchmarks.runtimes.registry import load
from vitq.errors import UnsupportedError
from vitq.record import LatencyAround, LatencyRow, Name, Record, Status, kind_of
from vitq.subject import WHOLE

TORCH = "latency"


@dataclass
class Found:
    """Rows of all batch sizes, what the machine did by session, and why a runtime has none."""

    rows: list[LatencyRow] = field(default_factory=list)
    around: dict[str, LatencyAround] = field(default_factory=dict)
    reasons: dict[str, Exception] = field(default_factory=dict)


def measure(bench: Bench) -> Iterator[Record]:
    """A record for torch and one for each wanted runtime, all of one session a batch size, so that ratios are of it.

    Every record of a runtime holds the FP32 forms of its session beside its own rows. A runtime that has no form of the
    quantized model ends unsupported, with its reason and the row of its FP32 form; one that fails, fails alone.
    """
    wanted = [name for name in bench.order.wanted if kind_of(name) == "latency"]
    with bench.phase("latency"):
        found = _timed(bench, [name.partition(":")[2] for name in wanted if name != TORCH])
    seconds = dict(bench.notes.seconds)
    for name in wanted:
        bench.notes.seconds = {} if name != wanted[0] else seconds
        yield _record(bench, name, found)


def _timed(bench: Bench, runtimes: list[str]) -> Found:
    spec, found = bench.order.latency, Found()
    assert spec is not None
    for batch in spec.batches:
        example = bench.task.example(bench.loaded.preprocessing, batch, bench.device, bench.order.cell.seed)
        forms, reasons = _forms(bench, example, runtimes)
        found.reasons |= reasons
        with watched(bench.order.latency_threads) as session:
            rows = time_in_turn(
                {name: form.run for name, form in forms.items()}, example, batch=batch, runs=spec.runs,
                warmup=spec.warmup, threads=bench.order.latency_threads, device=bench.device,
            )  # fmt: skip
        found.rows += [forms[row.exec].described(row) for row in rows]
        found.around[rows[0].session] = session.found
    return found


def _forms(bench: Bench, example: object, runtimes: list[str]) -> tuple[Mapping[str, Form], dict[str, Exception]]:
    """The forms of torch, and of each runtime that gives its numbers; by name why another is not there."""
    fp32, quantized = bench.loaded.model, bench.quantized
    models = {BASELINE: fp32, quantized.exec: quantized.model}
    forms = {name: Form(name, bench.forward(model), name) for name, model in models.items()}
    if not runtimes:
        return forms, {}
    own = bench.task.compilable(quantized.model, example)
    others, reasons = forms_of(
        bench.task.compilable(fp32, example).module, own.module, quantized.exec, own.tensor,
        {name: load(name) for name in runtimes}, bench.order.latency_threads, bench.device, own.part == WHOLE,
    )  # fmt: skip
    for name, form in others.items():
        if name not in forms:
            forms[name] = form.whole(own)
    return forms, reasons


def _record(bench: Bench, name: Name, found: Found) -> Record:
    """The record of one runtime: its rows and those of FP32 beside them, or why there is none."""
    runtime = name.partition(":")[2] or "torch"
    own = [row for row in found.rows if row.runtime == runtime]
    sessions = {row.session for row in own}
    around = {key: value for key, value in found.around.items() if key in sessions}
    if runtime == "torch":
        return bench.record(name, latency=own, latency_around=around)
    beside = [row for row in found.rows if row.runtime != runtime and row.exec.startswith(BASELINE)] if own else []
    rows, reason = [*own, *beside], found.reasons.get(runtime)
    if reason is None:
        return bench.record(name, latency=rows, latency_around=around)
    unsupported = isinstance(reason, UnsupportedError)
    text = " ".join((str(reason) if unsupported else f"{type(reason).__name__}: {reason}").split())
    status: Status = "unsupported" if unsupported else "failed"
    return bench.record(name, status, error=text or "no reason was given", latency=rows, latency_around=around)
