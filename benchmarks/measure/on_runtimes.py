"""A stored quantized model on every runtime that has a form of it: compiled, checked against torch, timed in turn."""

from __future__ import annotations

import os
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from vitq.benchmarks.measure.latency import time_in_turn
from vitq.benchmarks.run.provenance import cpu_flags
from vitq.benchmarks.runtimes.base import Compiled, Runtime
from vitq.errors import UnsupportedError
from vitq.record import LatencyRow

EAGER = "fp32"
"""Eager torch in FP32: every table has it, whatever else is measured."""
SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_vpopcntdq", "amx_int8", "asimd", "asimddp", "sve")
"""Instruction sets that integer and binary kernels are chosen by, as Linux names them."""


TOLERANCE = 1e-3
"""How far a form may be from torch's own output, in parts of the largest."""
BF16_TOLERANCE = 2.0**-5
"""The same of `bf16:` forms: 8 of the steps, 2^-8, by which bfloat16 rounds everything on its way (DeiT-S is 3 off)."""
EXACT = ("integer-only:", "xnor:")
"""Forms that give torch's numbers bit for bit, whichever runtime computes them."""


@dataclass(frozen=True)
class Form:
    """One way to compute a model: how its row is called, what runs it, and how far from torch's own output it is.

    `reference` is the form whose numbers it must give; `exact`: bit for bit.
    """

    exec: str
    run: Callable[[Tensor], Tensor]
    reference: str
    difference: float
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass
class Around:
    """What else the machine did meanwhile: load over the last minute before, and involuntary switches during."""

    load_before: float
    switches: int = 0

    @property
    def disturbed(self) -> bool:
        """Whether other work was there: a core's worth of load before, or a switch every few milliseconds."""
        return self.load_before > 0.5


@dataclass
class Timed:
    """Rows of one batch size, the forms they are of, and what has no row, with the reason."""

    rows: list[LatencyRow]
    forms: dict[str, Form]
    left_out: dict[str, str]
    around: Around

    def strongest(self) -> LatencyRow:
        """The fastest FP32 form that was measured: what a speed-up is stated against."""
        return min((row for row in self.rows if row.exec.startswith("fp32")), key=lambda row: row.median_ms)

    def eager(self) -> LatencyRow:
        """Eager torch in FP32."""
        return next(row for row in self.rows if row.exec == EAGER)


def forms_of(
    fp32: nn.Module, quantized: nn.Module, exec: str, example: Tensor, runtimes: Mapping[str, Runtime], threads: int
) -> tuple[dict[str, Form], dict[str, str]]:
    """Every form that could be compiled and gives torch's numbers, and by name why another is not there.

    FP32 and bf16 forms are held to the FP32 model, the others to the quantized one: exactly where a runtime promises it
    or the form is of integers or bits alone, else to a thousandth of the largest output, bf16 to `BF16_TOLERANCE`.
    """
    found: dict[str, Form] = {}
    left_out: dict[str, str] = {}
    with torch.inference_mode():
        outputs = {EAGER: fp32(example), exec: quantized(example)}
    models = {EAGER: fp32, exec: quantized}
    for name, model in models.items():
        found[name] = Form(name, _eager(model), name, 0.0)
    for name, runtime in runtimes.items():
        for of, model in models.items():
            reason = (
                "it is the reference itself" if name == "torch" else runtime.missing() or runtime.unsupported(model, of)
            )
            try:
                if reason is None:
                    form = _checked(
                        _compiled(runtime, model, example, threads), outputs[of], of, example, runtime.exact
                    )
                    found[form.exec] = form
            except UnsupportedError as error:
                reason = str(error)
            if reason is not None and name != "torch" and of == exec:
                left_out[name] = reason
    return found, left_out


def measure(
    forms: Mapping[str, Form], left_out: Mapping[str, str], example: Tensor, *, threads: int, runs: int, warmup: int
) -> Timed:
    """Time forms in turn on an example batch; see `time_in_turn`."""
    process = psutil.Process()
    around = Around(os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)
    before = process.num_ctx_switches().involuntary
    calls = {name: form.run for name, form in forms.items()}
    rows = time_in_turn(calls, example, batch=len(example), runs=runs, warmup=warmup, threads=threads)
    around.switches = process.num_ctx_switches().involuntary - before
    return Timed(rows, dict(forms), dict(left_out), around)


def table_rows(timed: Timed) -> list[dict[str, str]]:
    """The rows of a table: milliseconds a batch, and how many times as fast as both FP32 baselines."""
    strongest, eager = timed.strongest(), timed.eager()
    rows = [_row(row, timed, strongest, eager) for row in timed.rows]
    return rows + [{"exec": f"none on {name}", "checked": reason} for name, reason in timed.left_out.items()]


def _row(row: LatencyRow, timed: Timed, strongest: LatencyRow, eager: LatencyRow) -> dict[str, str]:
    form = timed.forms[row.exec]
    quarters = statistics.quantiles(row.samples_ms, n=4) if len(row.samples_ms) > 1 else [row.median_ms] * 3
    same = "bit for bit" if form.difference == 0 else f"to {form.difference:.1e} of the largest output"
    own = row.exec == form.reference
    return {
        "exec": row.exec,
        "batch": str(row.batch),
        "threads": str(row.threads),
        "median ms": f"{row.median_ms:.1f}",
        "p90 ms": f"{row.p90_ms:.1f}",
        "quartiles ms": f"{quarters[0]:.1f} to {quarters[2]:.1f}",
        "x best fp32": f"{_ratio(strongest, row):.2f}",
        "x eager fp32": f"{_ratio(eager, row):.2f}",
        "checked": "the reference itself" if own else f"equals {form.reference} {same}",
        "operators": "; ".join(
            f"{kind} {' + '.join(f'{n} {width}' for width, n in widths.items())}"
            for kind, widths in form.operators.items()
        ),
    }


def _ratio(baseline: LatencyRow, row: LatencyRow) -> float:
    """The median of baseline over row, round by round."""
    return statistics.median(b / own for b, own in zip(baseline.samples_ms, row.samples_ms, strict=True))


def instruction_sets() -> list[str]:
    """Of `SETS`, what this CPU has, as far as the system says."""
    has = set(cpu_flags().split())
    return [name for name in SETS if name in has]


def _eager(model: nn.Module) -> Callable[[Tensor], Any]:
    return lambda images: model(images)


def _compiled(runtime: Runtime, model: nn.Module, example: Tensor, threads: int) -> Compiled:
    with warnings.catch_warnings():  # tracers warn of every shape that they take for a constant
        warnings.simplefilter("ignore")
        return runtime.compile(model, example, threads=threads, device=torch.device("cpu"))


def _checked(compiled: Compiled, wanted: Tensor, of: str, example: Tensor, exact: bool) -> Form:
    """The form, if its output is what it must be; UnsupportedError where it is not."""
    got = compiled(example).clone()
    if got.shape != wanted.shape:
        raise UnsupportedError(f"its output has shape {list(got.shape)}, not {list(wanted.shape)}")
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
    exact = exact or compiled.exec.startswith(EXACT)
    tolerance = BF16_TOLERANCE if compiled.exec.startswith("bf16:") else TOLERANCE
    if (exact and difference) or not difference < tolerance:
        raise UnsupportedError(f"its output is {difference:.1e} of the largest off, so that it is not timed")
    return Form(compiled.exec, compiled, of, difference, compiled.executed())
