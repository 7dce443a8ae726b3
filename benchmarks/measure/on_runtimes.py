"""A stored quantized model on every runtime that has a form of it: compiled, checked against torch, timed in turn."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.timing import time_in_turn
from vitq.benchmarks.runtimes.base import Compiled, Runtime
from vitq.errors import UnsupportedError
from vitq.record import LatencyAround, LatencyRow

EAGER = "fp32"
"""Eager torch in FP32: every table has it, whatever else is measured."""


TOLERANCE = 1e-3
"""How far a form may be from torch's own output, in parts of the largest."""
BF16_TOLERANCE = 2.0**-5
"""The same of `bf16:` forms: 8 of the steps, 2^-8, by which bfloat16 rounds everything on its way (DeiT-S is 3 off)."""
EXACT = ("integer-only:", "xnor:")
"""Forms that give torch's numbers bit for bit, whichever runtime computes them."""


@dataclass(frozen=True)
class Form:
    """One way to compute a model: how its row is called, what runs it, and how far from torch's own output it is.

    `reference` is the form whose numbers it must give, `difference` the largest of the outputs' differences over the
    largest output, `agreement` the percentage of samples with the same first class.
    """

    exec: str
    run: Callable[[Any], Any]
    reference: str
    difference: float = 0.0
    agreement: float | None = None
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    runtime: str = "torch"
    version: str = torch.__version__

    def described(self, row: LatencyRow) -> LatencyRow:
        """A row of this form's times with what is known of the form."""
        own = self.exec == self.reference
        return row.model_copy(
            update={
                "runtime": self.runtime, "version": self.version, "reference": self.reference,
                "difference": None if own else self.difference, "agreement": None if own else self.agreement,
                "operators": {kind: dict(widths) for kind, widths in self.operators.items()},
            }
        )  # fmt: skip

    def on(self, tensor: Callable[[Any], Tensor]) -> Form:
        """The form for a task's batches, of which `tensor` takes what it computes on."""
        run = self.run
        return replace(self, run=lambda batch: run(tensor(batch)))


@dataclass
class Timed:
    """Rows of one batch size, the forms they are of, and what has no row, with the reason."""

    rows: list[LatencyRow]
    forms: dict[str, Form]
    left_out: dict[str, Exception]
    around: LatencyAround

    def strongest(self) -> LatencyRow:
        """The fastest FP32 form that was measured: what a speed-up is stated against."""
        return min((row for row in self.rows if row.exec.startswith("fp32")), key=lambda row: row.median_ms)

    def eager(self) -> LatencyRow:
        """Eager torch in FP32."""
        return next(row for row in self.rows if row.exec == EAGER)


def forms_of(
    fp32: nn.Module,
    quantized: nn.Module,
    exec: str,
    example: Tensor,
    runtimes: Mapping[str, Runtime],
    threads: int,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, Form], dict[str, Exception]]:
    """Every form that could be compiled and gives torch's numbers, and by name why another is not there.

    UnsupportedError is why a runtime has no form of the model; any other exception is a failure of the runtime.

    FP32 and bf16 forms are held to the FP32 model, the others to the quantized one: exactly where a runtime promises it
    or the form is of integers or bits alone, else to a thousandth of the largest output, bf16 to `BF16_TOLERANCE`.
    """
    found: dict[str, Form] = {}
    left_out: dict[str, Exception] = {}
    with torch.inference_mode():
        outputs = {EAGER: fp32(example), exec: quantized(example)}
    models = {EAGER: fp32, exec: quantized}
    for name, model in models.items():
        found[name] = Form(name, _eager(model), name)
    for name, runtime in runtimes.items():
        for of, model in models.items() if name != "torch" else ():
            try:
                form = _form(name, runtime, model, of, outputs[of], example, threads, torch.device(device))
                found[form.exec] = form
            except Exception as error:  # (whatever a compiler raises: it is told, and the others go on)
                if of == exec:
                    left_out[name] = error
    return found, left_out


def _form(
    name: str,
    runtime: Runtime,
    model: nn.Module,
    of: str,
    wanted: Tensor,
    example: Tensor,
    threads: int,
    device: torch.device,
) -> Form:
    """A model compiled by a runtime and checked; UnsupportedError where it has no form of it."""
    reason = runtime.missing() or runtime.unsupported(model, of)
    if reason is not None:
        raise UnsupportedError(reason)
    compiled = _compiled(runtime, model, example, threads, device)
    checked = _checked(compiled, wanted, of, example, runtime.exact)
    return replace(checked, runtime=name, version=runtime.version())


def measure(
    forms: Mapping[str, Form],
    left_out: Mapping[str, Exception],
    example: Tensor,
    *,
    threads: int,
    runs: int,
    warmup: int,
    device: torch.device | str = "cpu",
) -> Timed:
    """Time forms in turn on an example batch; see `time_in_turn`."""
    calls = {name: form.run for name, form in forms.items()}
    with watched(threads) as session:
        rows = time_in_turn(
            calls, example, batch=len(example), runs=runs, warmup=warmup, threads=threads, device=device
        )
    rows = [forms[row.exec].described(row) for row in rows]
    return Timed(rows, dict(forms), dict(left_out), session.found)


def table_rows(timed: Timed) -> list[dict[str, str]]:
    """The rows of a table: milliseconds a batch, and how many times as fast as both FP32 baselines."""
    strongest, eager = timed.strongest(), timed.eager()
    rows = [_row(row, timed, strongest, eager) for row in timed.rows]
    return rows + [{"exec": f"none on {name}", "checked": told(why)} for name, why in timed.left_out.items()]


def told(why: Exception) -> str:
    """Why there is no row, in one line: a reason, or that a runtime failed."""
    line = " ".join(str(why).split())
    return line if isinstance(why, UnsupportedError) else f"failed: {type(why).__name__}: {line}"


def around_text(around: LatencyAround) -> str:
    """What else the machine did, in a line."""
    load = "unknown" if around.load_before is None else f"{around.load_before:.2f}"
    held = "no" if around.affinity is None else ", ".join(map(str, around.affinity))
    clock = "" if around.mhz_after is None else f", {around.mhz_after:.0f} MHz"
    said = (
        f"other work took {around.other_cores or 0:.2f} cores; load before {load}, {around.switches or 0} involuntary "
        f"switches, cores {held}{clock}"
    )
    return said + ("; other work disturbed these times" if around.disturbed else "")


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
        "call MB": "" if row.memory_mb is None else f"{row.memory_mb:.1f}",
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


def _eager(model: nn.Module) -> Callable[[Tensor], Any]:
    return lambda images: model(images)


def _compiled(runtime: Runtime, model: nn.Module, example: Tensor, threads: int, device: torch.device) -> Compiled:
    with warnings.catch_warnings():  # tracers warn of every shape that they take for a constant
        warnings.simplefilter("ignore")
        return runtime.compile(model, example, threads=threads, device=device)


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
    agreement = 100 * float((got.argmax(-1) == wanted.argmax(-1)).float().mean())
    return Form(compiled.exec, compiled, of, difference, agreement, compiled.executed())
