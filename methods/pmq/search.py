"""PMQ's search: what is known of a run, calibration of its quantizers, and the sensitivity tables it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.bits import Bits
from vitq.methods.pmq.components import Component, count_costs
from vitq.methods.pmq.directional import directional
from vitq.methods.pmq.options import Options
from vitq.methods.pmq.sensitivity import LossOf, Table, connection, leave_one_out, table
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.modules import set_mode
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.subject import Subject


@dataclass
class Search:
    """One run: what it was given, the part and its components, wall seconds by phase, images of the first batch."""

    subject: Subject
    bits: Bits
    options: Options
    part: nn.Module
    components: list[Component]
    seconds: dict[str, float] = field(default_factory=dict)
    images: int = 0

    @property
    def ladder(self) -> list[int]:
        """Candidate widths, from the lowest."""
        return sorted(self.options.widths)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Wall seconds of a phase on its device, whose queue is empty at both ends."""
        start = devices.clock(self.subject.device)
        yield
        self.seconds[name] = devices.clock(self.subject.device) - start


def calibrate(run: Search) -> None:
    """Show every quantizer its tensor of the FP model over all batches, then search the clipping of each."""
    with run.timed("calibration"), torch.no_grad():
        set_mode(run.part, "observe")
        _observe(run)
        for done, component in enumerate(run.components):
            weight = component.weight()
            if weight is not None:
                weight.observe(component.module.weight.detach())  # type: ignore[operator]
            for quantizer in [*component.activations(), *([weight] if weight else [])]:
                _search_clipping(component, quantizer, _grids_needed(run))
            run.subject.progress("search clipping", done + 1, len(run.components))
        set_mode(run.part, "off")


def _observe(run: Search) -> None:
    subject = run.subject
    for done, batch in enumerate(subject.calibration()):
        if done:
            subject.forward(subject.model, batch)
        else:
            run.images = count_costs(run.components, lambda b=batch: subject.forward(subject.model, b))  # type: ignore[misc]
        subject.progress("calibrate", done + 1, 0)
    if not run.images:
        raise MethodInputError("PMQ needs at least one calibration batch; there was none")


def _grids_needed(run: Search) -> list[int]:
    """Widths whose grids are needed: the candidates, and the cell's own for a uniform allocation."""
    own = {run.bits.w, run.bits.a} if run.options.allocation == "uniform" else set()
    return sorted(set(run.options.widths) | own)


def _search_clipping(component: Component, quantizer: UniformQuantizer, ladder: list[int]) -> None:
    try:
        for bits in ladder:
            quantizer.grid.grid(bits)
    except MethodInputError as error:
        raise MethodInputError(f"{component.name}: {error}") from error


def search(run: Search) -> dict[str, Table]:
    """The sensitivity tables that the allocation and the comparison need, each timed."""
    loss, options, progress = _loss(run), run.options, run.subject.progress
    found: dict[str, Table] = {}
    if options.allocation == "pareto" or options.compare_search:
        with run.timed("pareto"):
            found["pareto"] = _sensitivity(run, loss)
    if options.allocation == "leave_one_out" or options.compare_search:
        with run.timed("leave_one_out"):
            found["leave_one_out"], passes = leave_one_out(
                run.components, loss, run.ladder, lambda done, total: progress("leave one out", done, total)
            )
        run.seconds["leave_one_out_passes"] = passes
    return found


def _loss(run: Search) -> Callable[[], Tensor]:
    """The loss of the first calibration batch against the task's labels, or against random ones where it draws any.

    A model that fits its calibration images has no gradient left; against random labels the loss is the margin
    between the predicted and another class, and every image counts.
    """
    subject = run.subject
    batch = next(subject.calibration())
    target = batch
    if run.options.labels == "random" and subject.draws_labels:
        generator = torch.Generator().manual_seed(subject.seed)
        blank = torch.zeros(run.images, *subject.input.size, device=subject.device)
        target = subject.synthesize(blank, generator)
    return lambda: _seeded(subject, lambda: subject.loss(subject.forward(subject.model, batch), target))


def _seeded(subject: Subject, loss: Callable[[], Tensor]) -> Tensor:
    """The loss with the same random choices each time: a detector's loss samples its proposals."""
    devices_too = [subject.device] if subject.device.type == "cuda" else []
    with torch.random.fork_rng(devices_too):
        torch.manual_seed(subject.seed)
        return loss()


def _sensitivity(run: Search, loss: LossOf) -> Table:
    """PMQ's table, from one backward pass."""
    kind = run.options.perturbation
    if kind == "directional":
        return directional(run.components, loss, run.images, run.ladder)
    sizes = connection(run.components, loss, run.images, order=1 if kind == "absolute" else 2)
    return table(run.components, sizes, run.ladder, kind)
