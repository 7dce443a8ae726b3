"""Forms of a stored quantized model: what every runtime makes of it, compiled and checked against torch.

| form | is held to | how near |
|---|---|---|
| what a runtime promises exactly, integer-only, xnor | the quantized model | bit for bit |
| fp32 | the FP32 model | `TOLERANCE` |
| bf16 | the FP32 model | `BF16_TOLERANCE` |
| what a runtime makes of a fake-quantized model | the quantized model | what noise makes of it, see `noise_floor` |
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitq.benchmarks.measure.noise_floor import FACTOR, NOISE, Nearness, batches_of, nearness, noise_floor
from vitq.benchmarks.runtimes.base import Compiled, Runtime
from vitq.errors import BadInputError, UnsupportedError
from vitq.record import LatencyRow
from vitq.subject import WHOLE
from vitq.tasks.base import Compilable
from vitq.tasks.names import ModelEntry

EAGER = "fp32"
"""Eager torch in FP32: every table has it, whatever else is measured."""
TOLERANCE = 1e-3
"""How far a form may be from torch's own output, in parts of the largest."""
BF16_TOLERANCE = 2.0**-5
"""The same of `bf16:` forms: 8 of the steps, 2^-8, by which bfloat16 rounds everything on its way (DeiT-S is 3 off)."""
EXACT = ("integer-only:", "xnor:")
"""Forms that give torch's numbers bit for bit, whichever runtime computes them."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Form:
    """One way to compute a model: how its row is called, what runs it, and how far from torch's own output it is.

    `reference` is the form whose numbers it must give, `difference` the largest of the outputs' differences over the
    largest output, `agreement` the percentage of samples with the same first class. `near` and `floor` are there where
    rounding decides codes: how near its logits are, and how near noise leaves ours.
    """

    exec: str
    run: Callable[[Any], Any]
    reference: str
    difference: float = 0.0
    agreement: float | None = None
    operators: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    near: Nearness | None = None
    floor: Nearness | None = None
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

    def whole(self, part: Compilable) -> Form:
        """The form for a task's batches; where it computes a part of the model, its operators say that they are that's.

        What is not compiled runs in torch, as the model that `part` was taken of does.
        """
        if part.part == WHOLE:
            return replace(self, run=part.whole(self.run))
        operators = {f"{part.part} {kind}": widths for kind, widths in self.operators.items()}
        return replace(self, run=part.whole(self.run), operators={**operators, "the rest": {"in torch": 1}})


def forms_of(
    fp32: nn.Module,
    quantized: nn.Module,
    exec: str,
    example: Tensor,
    runtimes: Mapping[str, Runtime],
    threads: int,
    device: torch.device | str = CPU,
    logits: bool = True,
) -> tuple[dict[str, Form], dict[str, Exception]]:
    """Every form that could be compiled and gives the numbers that it must, and by name why another is not there.

    `logits`: whether the models' output is logits, which have a first class, or feature maps, which have none.
    UnsupportedError is why a runtime has no form of the quantized model; any other exception is its failure.
    """
    with torch.inference_mode():
        outputs = {EAGER: fp32(example), exec: quantized(example)}
    models = {EAGER: fp32, exec: quantized}
    found = {name: Form(name, _eager(model), name) for name, model in models.items()}
    left_out: dict[str, Exception] = {}
    floor = _Floor(quantized, example, logits)
    for name, runtime in runtimes.items():
        for of, model in models.items() if name != "torch" else ():
            try:
                compiled = _compiled(runtime, model, of, example, threads, torch.device(device))
                form = _checked(compiled, outputs[of], of, example, runtime.exact, floor)
                found[form.exec] = replace(form, runtime=name, version=runtime.version())
            except Exception as error:  # whatever a compiler raises: it is told, and the others go on
                if of == exec:
                    left_out[name] = error
    return found, left_out


def checked(model: nn.Module, exec: str, compiled: Compiled, example: Tensor) -> Form:
    """A compiled form of one model, held to it as `forms_of` does; UnsupportedError where it is too far away."""
    with torch.inference_mode():
        ours = model(example)
    return _checked(compiled, ours, exec, example, False, _Floor(model, example))


def example_of(header: Mapping[str, Any], batch: int) -> Tensor:
    """Noise of the shape that a stored classifier takes, `batch` images; BadInputError for another task's model."""
    architecture = header["architecture"]
    if architecture["task"] != "classification":
        raise BadInputError(f"this model is of {architecture['task']}: an exported file is a classifier's")
    entry = ModelEntry.model_validate(architecture["model"])
    return noise(entry.preprocessing.size, batch)


def noise(size: tuple[int, int, int], batch: int) -> Tensor:
    """The same noise [batch, C, H, W] at every call."""
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(0))


def _eager(model: nn.Module) -> Callable[[Tensor], Any]:
    return lambda images: model(images)


def _compiled(
    runtime: Runtime, model: nn.Module, of: str, example: Tensor, threads: int, device: torch.device
) -> Compiled:
    """A model compiled by a runtime; UnsupportedError where it has no form of it."""
    reason = runtime.missing() or runtime.unsupported(model, of)
    if reason is not None:
        raise UnsupportedError(reason)
    with warnings.catch_warnings():  # tracers warn of every shape that they take for a constant
        warnings.simplefilter("ignore")
        return runtime.compile(model, example, threads=threads, device=device)


class _Floor:
    """How near noise leaves the quantized model to itself, computed when it is first asked for."""

    def __init__(self, model: nn.Module, example: Tensor, logits: bool = True) -> None:
        self._model, self._batches, self.logits = model, batches_of(example, logits), logits
        self._found: tuple[Tensor, Nearness] | None = None

    def compare(self, run: Callable[[Tensor], Tensor]) -> tuple[Nearness, Nearness]:
        """How near a form's logits are to the model's, and how near the model's own are under noise."""
        if self._found is None:
            with torch.inference_mode():
                ours = torch.cat([self._model(batch) for batch in self._batches])
            self._found = ours, noise_floor(self._model, self._batches, ours, logits=self.logits)
        ours, floor = self._found
        got = torch.cat([run(batch).clone() for batch in self._batches])
        return nearness(got, ours, self.logits), floor


def _checked(compiled: Compiled, wanted: Tensor, of: str, example: Tensor, exact: bool, floor: _Floor) -> Form:
    """The form, if its output is what it must be; UnsupportedError where it is not."""
    got = compiled(example).clone()
    if got.shape != wanted.shape:
        raise UnsupportedError(f"its output has shape {list(got.shape)}, not {list(wanted.shape)}")
    difference = float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
    agreement = 100 * float((got.argmax(-1) == wanted.argmax(-1)).float().mean()) if floor.logits else None
    form = Form(compiled.exec, compiled, of, difference, agreement, compiled.executed())
    exact = exact or compiled.exec.startswith(EXACT)
    tolerance = BF16_TOLERANCE if compiled.exec.startswith("bf16:") else TOLERANCE
    if not difference if exact else difference < tolerance:
        return form
    if exact or of != "fake-quant":
        raise UnsupportedError(f"its output is {difference:.1e} of the largest off, so that it is not timed")
    near, own = floor.compare(compiled)
    if not near.within(own):
        raise UnsupportedError(
            f"its logits are off by {near}, more than {FACTOR:g} times what noise of {NOISE:.0e} makes of ours "
            f"({own}), so that it is not timed"
        )
    return replace(form, near=near, floor=own)
