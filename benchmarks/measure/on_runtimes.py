"""A stored quantized model's forms timed in turn, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.measure.around import watched
from vitq.benchmarks.measure.forms import EAGER, Form, forms_of
from vitq.benchmarks.measure.noise_floor import NOISE
from vitq.benchmarks.measure.timing import time_in_turn
from vitq.benchmarks.runtimes.base import Runtime
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.scene_preprocessing import ScenePreprocessing
from vitq.errors import UnsupportedError
from vitq.record import LatencyAround, LatencyRow
from vitq.saved import load_quantized
from vitq.subject import WHOLE
from vitq.tasks.base import Compilable, Task
from vitq.tasks.names import ModelEntry
from vitq.tasks.registry import load as load_task


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


def measure(
    forms: Mapping[str, Form],
    left_out: Mapping[str, Exception],
    example: Sequence[Any] | Tensor,
    *,
    threads: int,
    runs: int,
    warmup: int,
    device: torch.device | str = "cpu",
) -> Timed:
    """Time forms in turn on an example batch, a tensor or a list of scenes; see `time_in_turn`."""
    calls = {name: form.run for name, form in forms.items()}
    with watched(threads) as session:
        rows = time_in_turn(
            calls, example, batch=len(example), runs=runs, warmup=warmup, threads=threads, device=device
        )
    rows = [forms[row.exec].described(row) for row in rows]
    return Timed(rows, dict(forms), dict(left_out), session.found)


@dataclass(frozen=True)
class Pair:
    """A stored quantized model and its architecture in FP32 with random weights, and what is known of both."""

    task: Task
    preprocessing: Preprocessing | ScenePreprocessing
    fp32: nn.Module
    quantized: nn.Module
    exec: str
    device: torch.device | str

    def timed(
        self, runtimes: Mapping[str, Runtime], batch: int, *, threads: int, runs: int
    ) -> Iterator[tuple[str, Timed]]:
        """A title and times: of the model, or of its backbone alone and then of the whole with it on each runtime."""
        example = self.task.example(self.preprocessing, batch, self.device)
        own = self.task.compilable(self.quantized, example)
        fp32 = self.task.compilable(self.fp32, example)
        time = partial(measure, threads=threads, runs=runs, warmup=3, device=self.device)
        forms, left_out = forms_of(
            fp32.module, own.module, self.exec, own.tensor, runtimes, threads, self.device, own.part == WHOLE
        )
        size = "x".join(map(str, own.tensor.shape[2:]))
        title = "" if own.part == WHOLE else f"{own.part} alone, {size} pixels"
        yield title, time(forms, left_out, own.tensor)
        if own.part != WHOLE:
            whole = f"the whole model, its {own.part} on the runtime and the rest in torch"
            yield whole, time(self._whole(forms, own), left_out, example)

    def _whole(self, forms: Mapping[str, Form], own: Compilable) -> dict[str, Form]:
        """The whole model in torch, and with each runtime's form of its part."""
        models = {EAGER: self.fp32, self.exec: self.quantized}
        torchs = {name: Form(name, partial(self.task.forward, model), name) for name, model in models.items()}
        return torchs | {name: form.whole(own) for name, form in forms.items() if name not in models}


def stored(path: Path, device: torch.device | str) -> Pair:
    """The stored model of a file; BadInputError where it holds none."""
    loaded = load_quantized(path, device)
    known = loaded.header["architecture"]
    entry, task = ModelEntry.model_validate(known["model"]), load_task(known["task"])
    fp32 = task.build_entry(entry).to(device).eval()
    return Pair(task, entry.preprocessing, fp32, loaded.model, loaded.exec, device)


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
        "checked": "the reference itself" if own else nearness_of(form),
        "operators": operators_of(form),
    }


def operators_of(form: Form) -> str:
    """How many operators ran at which width, in words."""
    kinds = ((kind, " + ".join(f"{n} {width}" for width, n in found.items())) for kind, found in form.operators.items())
    return "; ".join(f"{kind} {widths}" for kind, widths in kinds)


def nearness_of(form: Form) -> str:
    """How near a form is to its reference."""
    if form.difference == 0:
        return f"equals {form.reference} bit for bit"
    if form.near is None:
        return f"equals {form.reference} to {form.difference:.1e} of the largest output"
    return f"{form.reference} within {form.near}; itself under noise of {NOISE:.0e}: {form.floor}"


def _ratio(baseline: LatencyRow, row: LatencyRow) -> float:
    """The median of baseline over row, round by round."""
    return statistics.median(b / own for b, own in zip(baseline.samples_ms, row.samples_ms, strict=True))
