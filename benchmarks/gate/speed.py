"""Latency: the ratio of a form to FP32 in the same rounds, on the same CPU or GPU model.

Milliseconds are never compared: what else a machine does makes every form slower, FP32 too. Each round runs every form
once, so the ratio r_i = form_i / fp32_i cancels what lasts a round, and the median over rounds what lasts less. Slower:
the two-sided Mann-Whitney test on log r rejects at `alpha`, and the median ratio grew by more than `slowdown`; both,
since a certain change may be small, and a large one chance. Where chance is so large that the bootstrap interval of
the growth reaches beyond slowdown^2, nothing is called the same: the verdict is `noisy`, and more rounds tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from vitq.benchmarks.gate.policy import GateRow, Policy
from vitq.record import LatencyRow, Provenance
from vitq.rows import Row

FP32, FAKE_QUANT = "fp32", "fake-quant"
_DRAWS = 2000
Form = tuple[str, int, int, str]
Ratios = NDArray[np.float64]


def judge_speed(old: Row, new: Row, policy: Policy) -> Iterator[GateRow]:
    """A row a form of the old row; FP32 itself is shown, and is what the others are divided by."""
    if not old.latency:
        return
    before, after = _forms(old), _forms(new)
    elsewhere = _elsewhere(old, new)
    for form in before:
        yield _judge(old.cell.id, form, before, after, elsewhere, policy)


class _Timed(NamedTuple):
    """A form's times, and FP32's of the same rounds; None where it was not timed beside it."""

    row: LatencyRow
    fp32: LatencyRow | None


def _forms(row: Row) -> dict[Form, _Timed]:
    """Of a form that several sessions timed, the last."""
    fp32 = {each.place: each for each in row.latency if each.exec == FP32}
    return {
        (each.exec, each.batch, each.threads, each.device): _Timed(each, fp32.get(each.place)) for each in row.latency
    }


def _elsewhere(old: Row, new: Row) -> str:
    """Why times cannot be compared; empty where both come from one model of CPU or GPU."""
    left, right = (row.latency_provenance or row.provenance for row in (old, new))
    what = "GPU" if old.latency[0].device.startswith("cuda") else "CPU"
    names = _processor(left, what), _processor(right, what)
    if not all(names):
        return f"the {what} is not known"
    return "" if names[0] == names[1] else f"other {what}"


def _processor(provenance: Provenance, what: str) -> str | None:
    return provenance.gpu if what == "GPU" else provenance.cpu


def _judge(
    cell: str,
    form: Form,
    before: dict[Form, _Timed],
    after: dict[Form, _Timed],
    elsewhere: str,
    policy: Policy,
) -> GateRow:
    name, batch, threads, device = form
    gated = name != FP32 and (name != FAKE_QUANT or policy.cost)
    old, new = before[form], after.get(form)
    quantity = f"{name}, batch {batch}, {threads} threads, {device}"
    row = GateRow(cell, quantity, f"{old.row.median_ms:.3f} ms", "absent", "", "not-compared")
    if new is None:
        return row._replace(verdict="missing") if gated and not elsewhere else row._replace(note="not timed now")
    row = row._replace(current=f"{new.row.median_ms:.3f} ms")
    if name == FP32:
        return row._replace(verdict="shown")
    ratios = _ratios(old), _ratios(new)
    why = elsewhere or next((text for text in ratios if isinstance(text, str)), "")
    if why or isinstance(ratios[0], str) or isinstance(ratios[1], str):
        return row._replace(note=why)
    return _compared(row, ratios[0], ratios[1], gated, policy)


def _ratios(timed: _Timed) -> Ratios | str:
    """log(form / FP32) of each round, [rounds]; or why there is none."""
    if timed.fp32 is None:
        return "FP32 was not timed beside it"
    samples = np.asarray(timed.row.samples_ms), np.asarray(timed.fp32.samples_ms)
    if len(samples[0]) != len(samples[1]):
        return "FP32 was timed in other rounds"
    return np.asarray(np.log(samples[0] / samples[1]), dtype=np.float64)


def _compared(row: GateRow, old: Ratios, new: Ratios, gated: bool, policy: Policy) -> GateRow:
    medians = float(np.exp(np.median(old))), float(np.exp(np.median(new)))
    growth, rounds = medians[1] / medians[0], f"{len(old)} and {len(new)} rounds"
    row = row._replace(baseline=f"{medians[0]:.3f} x FP32", current=f"{medians[1]:.3f} x FP32")
    if 2 / math.comb(len(old) + len(new), len(old)) >= policy.alpha:
        return row._replace(note=f"{rounds} can never be certain at {policy.alpha:g}: time more")
    p = float(mannwhitneyu(old, new, alternative="two-sided").pvalue)
    low, high = _interval(old, new, policy.alpha)
    row = row._replace(note=f"x{growth:.2f} ({low:.2f} to {high:.2f}), p = {p:.2g}, {rounds}")
    if not gated:
        return row._replace(verdict="shown")
    return row._replace(allowed=f"x{policy.slowdown:g}", verdict=_verdict(growth, p, high, policy))


def _interval(old: Ratios, new: Ratios, alpha: float) -> tuple[float, float]:
    """Bootstrap interval of the growth of the median ratio, rounds drawn anew in each run; the same at every call."""
    dice = np.random.default_rng(0)
    draws = [np.median(dice.choice(each, (_DRAWS, len(each))), axis=1) for each in (old, new)]
    low, high = np.exp(np.quantile(draws[1] - draws[0], (alpha / 2, 1 - alpha / 2)))
    return float(low), float(high)


def _verdict(growth: float, p: float, high: float, policy: Policy) -> str:
    if p < policy.alpha and growth > policy.slowdown:
        return "slower"
    if p < policy.alpha and growth < 1 / policy.slowdown:
        return "faster"
    return "noisy" if high > policy.slowdown**2 else "same"


def evaluation_costs(pairs: Iterable[tuple[Row, Row]]) -> list[str]:
    """What FP32 and fake-quant evaluations cost in both runs, over all cells that timed them on one processor."""
    growth: dict[str, list[float]] = {}
    for old, new in pairs:
        if not old.latency or _elsewhere(old, new):
            continue
        before, after = _forms(old), _forms(new)
        for form in before.keys() & after.keys():
            if form[0] in (FP32, FAKE_QUANT):
                growth.setdefault(form[0], []).append(after[form].row.median_ms / before[form].row.median_ms)
    return [
        f"evaluation cost of {name}, shown and not judged in milliseconds: x{np.median(found):.2f} in the median of "
        f"{len(found)} cell{'s' if len(found) > 1 else ''} (x{min(found):.2f} to x{max(found):.2f})"
        for name, found in sorted(growth.items())
    ]
