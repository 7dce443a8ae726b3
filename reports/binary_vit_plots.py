"""Pictures of BinaryViT: what the paper argues from, drawn from the records' details.

Rows of the ablation (baseline, +GRS, +ASM, both) are told apart by the records' options; seeds of a row are drawn
together, mean and range.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from vitq.reports.pictures import Picture
from vitq.reports.style import clean, save
from vitq.rows import Row

COLOURS = {"baseline": "#7F7F7F", "+GRS": "#D55E00", "+ASM": "#009E73", "+GRS +ASM": "#0072B2"}
_PALE = "#B0B0B0"
Rows = dict[str, list[Row]]


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:  # noqa: ARG001
    """Per model: latent weights, flips and training curve, channel means; nothing for records without training."""
    pictures = []
    for model in dict.fromkeys(r.cell.model for r in records):
        trained = [r for r in records if r.cell.model == model and r.details.get("training")]
        rows = {name: found for name in COLOURS if (found := [r for r in trained if row_name(r) == name])}
        if rows:
            pictures += [_weights(model, rows, out), _training(model, rows, out), _means(model, rows, out)]
    return pictures


def row_name(record: Row) -> str:
    """Which row of the ablation a record is; GRS and ASM are on unless its options say otherwise."""
    options = record.cell.options
    parts = [name for name, key in (("+GRS", "grs"), ("+ASM", "asm")) if options.get(key, True)]
    return " ".join(parts) or "baseline"


def _cells(rows: Rows) -> str:
    return ", ".join(f"{name}: {len(found)} seed{'s' if len(found) > 1 else ''}" for name, found in rows.items())


def _file(out: Path, model: str, kind: str) -> Path:
    return out / f"binary_vit_plots_{model.replace('/', '_')}_{kind}.png"


def _curve(axes: Axes, x: Sequence[float], curves: Sequence[Sequence[float]], name: str) -> None:
    values = np.array(curves)
    axes.plot(x, values.mean(0), color=COLOURS[name], label=name)
    axes.fill_between(x, values.min(0), values.max(0), color=COLOURS[name], alpha=0.2, linewidth=0)


def _weights(model: str, rows: Rows, out: Path) -> Picture:
    figure, grid = plt.subplots(1, len(rows), figsize=(3.4 * len(rows), 3.2), sharey=True, layout="constrained")
    for axes, (name, found) in zip(np.atleast_1d(grid), rows.items(), strict=True):
        sides = [record.details["weights"] for record in found]
        edges = np.linspace(
            -sides[0]["before"]["reach"], sides[0]["before"]["reach"], len(sides[0]["before"]["shares"]) + 1
        )
        before, after = (100 * np.mean([s[side]["shares"] for s in sides], axis=0) for side in ("before", "after"))
        axes.stairs(before, edges, color=_PALE, fill=True, label="before training")
        axes.stairs(after, edges, color=COLOURS[name], label="after training", linewidth=1.4)
        axes.axvline(0, color="black", linewidth=0.6, linestyle=":")
        axes.set_title(name)
        clean(axes)
        axes.set_xlabel("(latent weight - row mean) / row scale")
        axes.legend(fontsize=7)
    np.atleast_1d(grid)[0].set_ylabel("weights in a bin, %")
    caption = (
        f"Latent weights of {model} before (grey) and after training, in units of each row's scale, so that the two "
        f"binary values are -1 and +1 and the boundary is 0; the end bins hold what lies beyond. {_cells(rows)}."
    )
    return Picture(save(figure, _file(out, model, "weights")), f"BinaryViT, latent weights, {model}", caption)


def _training(model: str, rows: Rows, out: Path) -> Picture:
    figure, (flips, loss, top) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    metric = next((k for k in ("top1", "miou", "box_ap") if k in _history(rows)[-1]), None)
    for name, found in rows.items():
        epochs = [row["epoch"] + 1 for row in found[0].details["training"]]
        same = [r for r in found if len(r.details["training"]) == len(epochs)]
        _curve(flips, epochs, [[100 * row["flipped_share"] for row in r.details["training"]] for r in same], name)
        _curve(loss, epochs, [[row["loss"] for row in r.details["training"]] for r in same], name)
        if metric is not None:
            due = [i for i, row in enumerate(found[0].details["training"]) if metric in row]
            values = [[r.details["training"][i][metric] for i in due] for r in same]
            _curve(top, [epochs[i] for i in due], values, name)
            top.plot([epochs[i] for i in due], np.mean(values, axis=0), "o", color=COLOURS[name], markersize=3)
    for axes, label in ((flips, "weights whose sign flipped, %"), (loss, "training loss"), (top, f"{metric}, %")):
        clean(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
    flips.legend(fontsize=8)
    if metric is None:
        top.set_axis_off()
    caption = (
        f"{model}: share of binary weights whose sign at the end of an epoch differs from its start, loss, and "
        f"validation metric where it was taken. Line: mean of the seeds, band: their range. {_cells(rows)}."
    )
    return Picture(save(figure, _file(out, model, "training")), f"BinaryViT, training, {model}", caption)


def _history(rows: Rows) -> list[dict[str, float]]:
    history: list[dict[str, float]] = next(iter(rows.values()))[0].details["training"]
    return history


def _means(model: str, rows: Rows, out: Path) -> Picture:
    name, found = next(((n, f) for n, f in reversed(rows.items()) if "ASM" in n), next(iter(rows.items())))
    means = found[0].details["activation_means"]
    figure, (spread, channels) = plt.subplots(
        1, 2, figsize=(12, 3.6), layout="constrained", gridspec_kw={"width_ratios": [2, 1]}
    )
    inputs = list(means["spread"])
    for side, colour in (("before", _PALE), ("after", COLOURS[name])):
        values = [means["spread"][i][side] for i in inputs]
        spread.plot(
            range(len(inputs)), values, "o-", color=colour, markersize=3, linewidth=0.8, label=f"{side} the shift"
        )
        channels.plot(sorted(means["widest"][side]), color=colour, label=f"{side} the shift")
    clean(spread)
    clean(channels)
    step = max(1, len(inputs) // 24)
    spread.set_xticks(range(0, len(inputs), step), inputs[::step], rotation=90, fontsize=5)
    spread.set_ylabel("spread of channel means")
    spread.legend(fontsize=8)
    channels.set_xlabel("channel, sorted by its mean")
    channels.set_ylabel("channel mean")
    channels.set_title(means["widest"]["input"], fontsize=8)
    caption = (
        f"{model}, {name}, seed {found[0].cell.seed}, one calibration batch. Left: standard deviation over channels of "
        "the mean of each binarized input, before and after the activation shift; right: all channel means of the "
        "input where they differ most."
    )
    return Picture(save(figure, _file(out, model, "means")), f"BinaryViT, channel means, {model}", caption)
