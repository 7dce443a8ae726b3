"""PMQ: patch-wise mixed-precision quantization of vision transformers (arXiv 2305.06559), a reconstruction.

1. Global sensitivity: one backward pass over one calibration batch (`pmq_sensitivity`).
2. Pareto frontier by dynamic programming, and the point under the budget (`pmq_pareto`, `pmq_allocation`).
3. Patch-wise activation widths (`pmq_patches`).

Only the abstract is public; the card says which choices are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.pmq import allocation, patch_widths
from vitq.methods.pmq.allocation import Kind, Problem, problem, widths_of
from vitq.methods.pmq.components import Component, Widths, apply, bitops, build, components, give_widths, measure
from vitq.methods.pmq.details import describe
from vitq.methods.pmq.directional import directional
from vitq.methods.pmq.pareto import Frontier
from vitq.methods.pmq.sensitivity import LossOf, Perturbation, Table, connection, leave_one_out, table
from vitq.methods.toolkit import devices
from vitq.methods.toolkit.layers import HasPacked, set_mode
from vitq.methods.toolkit.quantizers import UniformQuantizer
from vitq.subject import Subject


@dataclass(frozen=True)
class Options:
    """Options of PMQ; the card says where each default comes from."""

    allocation: Literal["pareto", "uniform", "random", "leave_one_out"] = "pareto"
    cost: Literal["size", "bitops"] = "size"
    budget_kind: Literal["average_bits", "mb", "gbitops"] = "average_bits"
    budget: float | None = None
    widths: tuple[int, ...] = (2, 3, 4, 6, 8)
    labels: Literal["task", "random"] = "random"
    perturbation: Perturbation = "directional"
    patch_wise: bool = False
    patch_saving: float = 0.1
    frontier_points: int = 8192
    draw: int = 0
    compare_search: bool = False


def unsupported(bits: Bits, options: Options) -> str | None:
    """Widths that no allocation averages to, and a budget that does not fit the cost."""
    low, high = min(options.widths), max(options.widths)
    if not (2 <= low <= high <= 8):
        return f"PMQ's candidate widths lie in 2..8, these do not: {sorted(options.widths)}"
    if not (low <= bits.w <= high and low <= bits.a <= high):
        return f"PMQ allocates widths from {low} to {high} bits; {bits} is no average of them"
    wrong = {("size", "gbitops"), ("bitops", "mb")}
    if (options.cost, options.budget_kind) in wrong:
        return f"PMQ's cost {options.cost!r} has no budget in {options.budget_kind}; change `cost` or `budget_kind`"
    if options.budget_kind != "average_bits" and options.budget is None:
        return f"PMQ's budget in {options.budget_kind} needs a number: set `budget`"
    return None


def prepare(model: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """The uniform allocation at the cell's widths, which is all that is known without data."""
    return build(model, bits)


def restore(model: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The modules at the widths that were allocated, patch-wise where they were; grids to come from `saving.fill`."""
    parts = components(build(model, bits))
    widths: Widths = {name: (int(w), int(a)) for name, (w, a) in facts["widths"].items()}
    if widths.keys() != {part.name for part in parts}:
        raise MethodInputError("the saved widths belong to another architecture: its layers have other names")
    give_widths(parts, widths)
    if facts["patches"] is not None:
        patch_widths.restore(model, parts, sorted(options.widths), facts["patches"])
    return set_mode(model, "on")


def quantize(job: Subject, options: Options) -> Quantized:
    """Calibrate, search, allocate; raises MethodInputError for a budget out of reach, UnsupportedError for a model."""
    reason = unsupported(job.bits, options)
    if reason:
        raise MethodInputError(reason)
    seconds: dict[str, float] = {}
    model = prepare(job.model, job.bits, options)
    parts = components(model)
    with _timed(seconds, "calibration", job.device):
        images = _calibrate(job, model, parts, _ladder(job.bits, options))
    tasks = _problems(job, options, model, parts)
    tables = _search(job, options, model, parts, images, seconds)
    with _timed(seconds, "frontier", job.device):
        widths, fronts = _allocate(job, options, parts, tasks, tables)
    apply(parts, widths)
    total = bitops(parts, widths)
    patches, ranked = _patch_wise(job, options, model, parts, widths) if options.patch_wise else (None, None)
    details = describe(parts, widths, tasks, tables, fronts, total, seconds, patches, options)
    facts = {"widths": {name: list(pair) for name, pair in widths.items()}, "patches": ranked}
    return Quantized(model, details, facts=facts)


def _ladder(bits: Bits, options: Options) -> list[int]:
    """Widths whose grids are needed: the candidates, and the cell's own for a uniform allocation."""
    own = {bits.w, bits.a} if options.allocation == "uniform" else set()
    return sorted(set(options.widths) | own)


@torch.no_grad()
def _calibrate(job: Subject, model: nn.Module, parts: list[Component], ladder: list[int]) -> int:
    """Show every quantizer its tensor of the FP model, search the clipping; returns the images of the first batch."""
    images = 0
    set_mode(model, "observe")
    for done, batch in enumerate(job.calibration()):
        if done:
            job.forward(model, batch)
        else:
            images = measure(parts, lambda b=batch: job.forward(model, b))  # type: ignore[misc]
        job.progress("calibrate", done + 1, 0)
    if not images:
        raise MethodInputError("PMQ needs at least one calibration batch; there was none")
    for done, part in enumerate(parts):
        weight = part.weight()
        if weight is not None:
            weight.observe(part.module.weight.detach())  # type: ignore[operator]
        for quantizer in [*part.activations(), *([weight] if weight else [])]:
            _search_clipping(part, quantizer, ladder)
        job.progress("search clipping", done + 1, len(parts))
    set_mode(model, "off")
    return images


def _search_clipping(part: Component, quantizer: UniformQuantizer, ladder: list[int]) -> None:
    try:
        for bits in ladder:
            quantizer.grid.grid(bits)
    except MethodInputError as error:
        raise MethodInputError(f"{part.name}: {error}") from error


def _loss(job: Subject, options: Options, model: nn.Module, images: int) -> Callable[[], Tensor]:
    """The loss of the first calibration batch against the task's labels, or against random ones.

    A model that fits its calibration images has no gradient left; against random labels the loss is the margin
    between the predicted and another class, and every image counts.
    """
    batch = next(job.calibration())
    target = batch
    if options.labels == "random":
        generator = torch.Generator().manual_seed(job.seed)
        target = job.synthesize(torch.zeros(images, *job.input.size, device=job.device), generator)
    return lambda: job.loss(job.forward(model, batch), target)


def _search(job: Subject, options: Options, model: nn.Module, parts: list[Component], images: int,
            seconds: dict[str, float]) -> dict[str, Table]:  # fmt: skip
    """The sensitivity tables that the allocation and the comparison need, each timed."""
    loss = _loss(job, options, model, images)
    ladder = sorted(options.widths)
    found: dict[str, Table] = {}
    if options.allocation == "pareto" or options.compare_search:
        with _timed(seconds, "pareto", job.device):
            found["pareto"] = _sensitivity(options, parts, loss, images)
    if options.allocation == "leave_one_out" or options.compare_search:
        with _timed(seconds, "leave_one_out", job.device):
            found["leave_one_out"], passes = leave_one_out(
                parts, loss, ladder, lambda done, total: job.progress("leave one out", done, total)
            )
        seconds["leave_one_out_passes"] = passes
    return found


def _sensitivity(options: Options, parts: list[Component], loss: LossOf, images: int) -> Table:
    """PMQ's table, from one backward pass."""
    ladder = sorted(options.widths)
    if options.perturbation == "directional":
        return directional(parts, loss, images, ladder)
    sizes = connection(parts, loss, images, order=1 if options.perturbation == "absolute" else 2)
    return table(parts, sizes, ladder, options.perturbation)


def _problems(job: Subject, options: Options, model: nn.Module, parts: list[Component]) -> list[Problem]:
    """The knapsack problems of the cost, each with its budget checked."""

    def one(kind: Kind, budget: float) -> Problem:
        return problem(kind, parts, options.widths, budget)

    weights, macs = sum(p.weights for p in parts), sum(p.macs for p in parts)
    w, a = (job.bits.w, job.bits.a) if options.budget is None else (options.budget, options.budget)
    if options.cost == "size" and options.budget_kind == "average_bits":
        tasks = [one("weights", w * weights), one("activations", a * macs)]
    elif options.cost == "size":
        tasks = [one("weights", w * 8e6 - _fixed_bits(model)), one("activations", job.bits.a * macs)]
    else:
        asked = (
            w * 1e9 if options.budget_kind == "gbitops" else sum(p.macs * (w if p.weights else a) * a for p in parts)
        )
        tasks = [one("bitops", asked / (1 - options.patch_saving) if options.patch_wise else asked)]
    for task in tasks:
        task.check()
    return tasks


def _fixed_bits(model: nn.Module) -> int:
    """What a shipped model holds beside its quantized weights: grids, biases, norms and embeddings in FP32."""
    packed = [m for m in model.modules() if isinstance(m, HasPacked)]
    inside = {id(p) for m in packed for p in m.parameters()}
    rest = sum(p.numel() for p in model.parameters() if id(p) not in inside)
    return 32 * rest + sum(row.numel * row.bits for m in packed for row in m.packed_tensors() if row.name != "weight")


def _allocate(job: Subject, options: Options, parts: list[Component], tasks: list[Problem],
              tables: dict[str, Table]) -> tuple[Widths, dict[Kind, Frontier]]:  # fmt: skip
    """Widths by the option's allocation, and the frontiers where there is a table for one."""
    source = options.allocation if options.allocation in tables else "pareto"
    fronts: dict[Kind, Frontier] = {}
    choices = []
    generator = torch.Generator().manual_seed(job.seed * 100_003 + options.draw)
    for task in tasks:
        if source in tables:
            choice, fronts[task.kind] = allocation.pareto(task, tables[source], options.frontier_points)
        if options.allocation == "random":
            choice = allocation.random(task, generator)
        if options.allocation == "uniform" and options.budget is not None:
            choice = allocation.uniform(task)
        if options.allocation != "uniform" or options.budget is not None:
            choices.append((task, choice))
    if not choices:
        return {p.name: (job.bits.w if p.weights else job.bits.a, job.bits.a) for p in parts}, fronts
    return widths_of(parts, choices), fronts


def _patch_wise(job: Subject, options: Options, model: nn.Module, parts: list[Component],
                widths: Widths) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Move the less important patches to lower widths until the saving is met.

    Returns share and BitOPs for the record, and the facts that `restore` needs.
    """
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    ranking = patch_widths.Ranking(0.0, prefix, class_token=getattr(model, "cls_token", None) is not None)
    places = patch_widths.sites(model, parts)
    before = bitops(parts, widths)
    tokens = _tokens(job, model, places)
    ladder = sorted(options.widths)
    target = before * (1 - options.patch_saving)
    ranking.share = patch_widths.find_share(parts, places, widths, ladder, tokens, ranking, target)
    after = patch_widths.bitops(parts, places, widths, ladder, tokens, ranking)
    patch_widths.install(model, places, ladder, tokens, ranking)
    record = {
        "share": ranking.share,
        "gbitops_before": before / 1e9,
        "gbitops": after / 1e9,
        "components": len(places),
        "importance": "class token" if ranking.class_token else "mean attention",
    }
    return record, patch_widths.facts(ranking, tokens)


@torch.no_grad()
def _tokens(job: Subject, model: nn.Module, places: list[patch_widths.Site]) -> int:
    """Tokens of an image where they lie in no windows, seen in one forward pass; 0 where all lie in windows."""
    if all(site.tokens for site in places):
        return 0
    seen: list[int] = []
    module = next(s.component.module for s in places if s.component.name.endswith(".av"))
    handle = module.register_forward_hook(lambda _m, inputs, _o: seen.append(int(inputs[0].shape[-1])))
    job.forward(model, next(job.calibration()))
    handle.remove()
    return seen[0]


@contextmanager
def _timed(seconds: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Wall seconds of a phase on its device, whose queue is empty at both ends."""
    start = devices.clock(device)
    yield
    seconds[name] = devices.clock(device) - start
