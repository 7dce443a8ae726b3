"""Pictures of BinaryViT: what the paper argues from, drawn from what the method says of its work.

Rows of the ablation (baseline, +GRS, +ASM, both) are told apart by the records' options; seeds of a row are drawn
together, mean and range.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitq.details.binary_vit import Details, Epoch, Weights
from vitq.metrics import METRICS
from vitq.reports.pictures import Picture
from vitq.reports.style import clean, file_name, save
from vitq.rows import Row

COLOURS = {"baseline": "#7F7F7F", "+GRS": "#D55E00", "+ASM": "#009E73", "+GRS +ASM": "#0072B2"}
_PALE = "#B0B0B0"


class Run(NamedTuple):
    """A record's seed and what the method said of that training run."""

    seed: int
    details: Details


Rows = dict[str, list[Run]]
"""Runs by the row of the ablation."""


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:  # noqa: ARG001
    """Per model: latent weights, flips and training curve, channel means; nothing for records without training."""
    pictures = []
    for model in dict.fromkeys(r.cell.model for r in records):
        rows = _trained([r for r in records if r.cell.model == model])
        if rows:
            pictures += [_weights(model, rows, out), _training(model, rows, out), _means(model, rows, out)]
    return pictures


def _trained(records: Sequence[Row]) -> Rows:
    """The runs that trained, by the row of the ablation, in its order."""
    found: Rows = {name: [] for name in COLOURS}
    for record in records:
        if isinstance(record.details, Details) and record.details.training:
            found[row_name(record)].append(Run(record.cell.seed, record.details))
    return {name: runs for name, runs in found.items() if runs}


def row_name(record: Row) -> str:
    """Which row of the ablation a record is; GRS and ASM are on unless its options say otherwise."""
    options = record.cell.options
    parts = [name for name, key in (("+GRS", "grs"), ("+ASM", "asm")) if options.get(key, True)]
    return " ".join(parts) or "baseline"


def _cells(rows: Rows) -> str:
    return ", ".join(f"{name}: {len(found)} seed{'s' if len(found) > 1 else ''}" for name, found in rows.items())


def _file(out: Path, model: str, kind: str) -> Path:
    return out / f"binary_vit_plots_{file_name(model, kind)}.png"


def _curve(axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], name: str) -> None:
    values = np.array(curves)
    axes.plot(x, values.mean(0), color=COLOURS[name], label=name)
    axes.fill_between(x, values.min(0), values.max(0), color=COLOURS[name], alpha=0.2, linewidth=0)


def _weights(model: str, rows: Rows, out: Path) -> Picture:
    figure, grid = plt.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.2), sharey=True, layout="constrained")
    for axes, (name, found) in zip(np.atleast_1d(grid), rows.items(), strict=True):
        _histograms(axes, name, [run.details.weights for run in found])
    np.atleast_1d(grid)[0].set_ylabel("weights in a bin, %")
    caption = (
        f"Latent weights of {model} before (grey) and after training, in units of each row's scale, so that the two "
        f"binary values are -1 and +1 and the boundary is 0; the end bins hold what lies beyond. {_cells(rows)}."
    )
    return Picture(save(figure, _file(out, model, "weights")), f"BinaryViT, latent weights, {model}", caption)


def _histograms(axes: Axes, name: str, runs: Sequence[Weights]) -> None:
    """Latent weights of a row of the ablation, mean of its seeds."""
    first = runs[0].before
    edges = np.linspace(-first.reach, first.reach, len(first.shares) + 1)
    before = 100 * np.mean([weights.before.shares for weights in runs], axis=0)
    after = 100 * np.mean([weights.after.shares for weights in runs], axis=0)
    axes.stairs(before, edges, color=_PALE, fill=True, label="before training")
    axes.stairs(after, edges, color=COLOURS[name], label="after training", linewidth=1.4)
    axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
    axes.set_title(name)
    clean(axes)
    axes.set_xlabel("(latent weight - row mean) / row scale")
    axes.legend(fontsize=7)


def _training(model: str, rows: Rows, out: Path) -> Picture:
    figure, (flips, loss, top) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    last = next(iter(rows.values()))[0].details.training[-1]
    metric = next((k for k, known in METRICS.items() if known.main and k in last.metrics), None)
    for name, found in rows.items():
        curves = [run.details.training for run in found]
        curves = [curve for curve in curves if len(curve) == len(curves[0])]
        epochs = [row.epoch + 1 for row in curves[0]]
        _curve(flips, epochs, [[100 * row.flipped_share for row in curve] for curve in curves], name)
        _curve(loss, epochs, [[row.loss for row in curve] for curve in curves], name)
        if metric is not None:
            _metric(top, curves, metric, name)
    for axes, label in ((flips, "weights whose sign flipped, %"), (loss, "training loss"), (top, f"{metric}, %")):
        clean(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylabel(label)
    flips.legend(fontsize=8)
    if metric is None:
        top.set_axis_off()
    caption = (
        f"{model}: share of binary weights whose sign at the end of an epoch differs from its start, loss, and "
        f"validation metric where it was taken. Line: mean of the seeds, band: their range. {_cells(rows)}."
    )
    title = f"BinaryViT, training, {model}"
    return Picture(save(figure, _file(out, model, "training")), title, caption, _last_epochs(rows))


def _last_epochs(rows: Rows) -> tuple[dict[str, str], ...]:
    """How every run's training ended."""
    return tuple(
        {
            "run": name,
            "seed": str(run.seed),
            "epochs": str(len(run.details.training)),
            "signs flipped in the last, %": f"{100 * run.details.training[-1].flipped_share:.3g}",
            "last loss": f"{run.details.training[-1].loss:.4g}",
            **{metric: f"{value:.2f}" for metric, value in run.details.training[-1].metrics.items()},
        }
        for name, found in rows.items()
        for run in found
    )


def _metric(axes: Axes, curves: Sequence[Sequence[Epoch]], metric: str, name: str) -> None:
    """The metric in the epochs in which it was taken."""
    due = [i for i, row in enumerate(curves[0]) if metric in row.metrics]
    epochs = [curves[0][i].epoch + 1 for i in due]
    values = [[curve[i].metrics[metric] for i in due] for curve in curves]
    _curve(axes, epochs, values, name)
    axes.plot(epochs, np.mean(values, axis=0), "o", color=COLOURS[name], markersize=3)


def _means(model: str, rows: Rows, out: Path) -> Picture:
    name, found = next(((n, f) for n, f in reversed(rows.items()) if "ASM" in n), next(iter(rows.items())))
    means = found[0].details.activation_means
    figure, (spread, channels) = plt.subplots(
        1, 2, figsize=(12, 3.6), layout="constrained", gridspec_kw={"width_ratios": [2, 1]}
    )
    pairs, widest = means.spread.values(), means.widest
    _sides(spread, [p.before for p in pairs], [p.after for p in pairs], name, "o-", markersize=3, linewidth=0.8)
    _sides(channels, sorted(widest.before), sorted(widest.after), name, "-")
    inputs = list(means.spread)
    step = max(1, len(inputs) // 24)
    spread.set_xticks(range(0, len(inputs), step), inputs[::step], rotation=90, fontsize=7)
    spread.set_ylabel("spread of channel means")
    spread.legend(fontsize=8)
    channels.set_xlabel("channel, sorted by its mean")
    channels.set_ylabel("channel mean")
    channels.set_title(widest.input, fontsize=8)
    caption = (
        f"{model}, {name}, seed {found[0].seed}, one calibration batch. Left: standard deviation over channels of "
        "the mean of each binarized input, before and after the activation shift; right: all channel means of the "
        "input where they differ most."
    )
    return Picture(save(figure, _file(out, model, "means")), f"BinaryViT, channel means, {model}", caption)


def _sides(axes: Axes, before: Sequence[float], after: Sequence[float], name: str, form: str, **look: Any) -> None:
    """Values before and after the shift."""
    axes.plot(before, form, color=_PALE, label="before the shift", **look)
    axes.plot(after, form, color=COLOURS[name], label="after the shift", **look)
    clean(axes)
