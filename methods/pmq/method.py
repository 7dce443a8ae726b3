"""PMQ: patch-wise mixed-precision quantization of vision transformers (arXiv 2305.06559), a reconstruction.

1. Global sensitivity: one backward pass over one calibration batch (`sensitivity`, `directional`).
2. Pareto frontier by dynamic programming, and the point under the budget (`pareto`, `allocation`).
3. Patch-wise activation widths (`patch_widths`).

Only the abstract is public; the card says which choices are ours.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vitq.errors import MethodInputError
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.pmq import patch_widths
from vitq.methods.pmq.budgets import allocate, problems
from vitq.methods.pmq.components import Widths, apply, bitops, build, components, give_widths
from vitq.methods.pmq.details import describe
from vitq.methods.pmq.options import Options
from vitq.methods.pmq.search import Search, calibrate, search
from vitq.methods.toolkit.modules import set_mode
from vitq.subject import Subject


def unsupported(bits: Bits, options: Options) -> str | None:
    """Widths that no allocation averages to, and a budget that does not fit the cost."""
    refused = all_cards()["pmq"].supports.refuses(bits)
    if refused:
        return refused
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


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:  # noqa: ARG001
    """The uniform allocation at the cell's widths, which is all that is known without data."""
    return build(part, bits)


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The modules at the widths that were allocated, patch-wise where they were; grids to come from `saving.fill`."""
    found = components(build(part, bits))
    widths: Widths = {name: (int(w), int(a)) for name, (w, a) in facts["widths"].items()}
    if widths.keys() != {component.name for component in found}:
        raise MethodInputError("the saved widths belong to another architecture: its layers have other names")
    give_widths(found, widths)
    if facts["patches"] is not None:
        patch_widths.restore(part, found, sorted(options.widths), facts["patches"])
    return set_mode(part, "on")


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Calibrate, search, allocate; raises MethodInputError for a budget out of reach, UnsupportedError for a model."""
    reason = unsupported(bits, options)
    if reason:
        raise MethodInputError(reason)
    part = prepare(subject.part, bits, options)
    run = Search(subject, bits, options, part, components(part))
    calibrate(run)
    asked = problems(run)
    tables = search(run)
    with run.timed("frontier"):
        widths, fronts = allocate(run, asked, tables)
    apply(run.components, widths)
    patches, ranked = patch_widths.assign(run, widths) if options.patch_wise else (None, None)
    details = describe(run, widths, asked, tables, fronts, patches, bitops(run.components, widths))
    facts = {"widths": {name: list(pair) for name, pair in widths.items()}, "patches": ranked}
    return Quantized(subject.put(part), details, facts=facts)
