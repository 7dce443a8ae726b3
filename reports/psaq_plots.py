"""PSAQ-ViT's pictures: what was generated, how its losses fell, and whether it calibrates better than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from matplotlib import image as pixels
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from tabulate import tabulate

from vitq.details import psaq_vit, psaq_vit_v2
from vitq.details.psaq_vit import Images, LossCurves
from vitq.escape import markdown
from vitq.reports import style
from vitq.reports.files import inside
from vitq.reports.pictures import Picture
from vitq.rows import Row

SOURCES = ("generated", "gaussian", "real")
NAMES = {"generated": "generated", "gaussian": "Gaussian noise", "real": "real images"}
MARGIN = 10.0  # points by which generated images are expected to beat Gaussian noise at W4A8
_Key = tuple[str, str, str, str, str, str]
_Generated = tuple[Row, int | None, LossCurves]
_DETAILS: dict[str, type[Images]] = {"psaq_vit": psaq_vit.Details, "psaq_vit_v2": psaq_vit_v2.Details}
_NOT_A_VARIANT = {"calibration", "residual", "images_from", "images", "iterations"}


@dataclass(frozen=True)
class SourceRow:
    """Accuracy of one source of calibration images over its seeds, in percent; the error is one standard error."""

    dataset: str
    model: str
    bits: str
    residual: str
    variant: str
    source: str
    values: tuple[float, ...]
    sampling: float

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.values)

    @property
    def error(self) -> float:
        """The larger of the seeds' standard error of the mean and the validation set's sampling error."""
        seeds = stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else 0.0
        return max(seeds, self.sampling)

    @property
    def label(self) -> str:
        """Model, bits and what is not the paper's."""
        extra = ", residual FP" if self.residual == "fp" else ""
        return f"{self.model}, {self.bits}{extra}" + (f", {self.variant}" if self.variant else "")


def draw(records: Sequence[Row], results: Path, out: Path) -> list[Picture]:
    """A model's generated images, a method each, and all its losses; and the comparison of the calibration sources."""
    pictures: list[Picture] = []
    by_model: dict[tuple[str, str], list[_Generated]] = {}
    for each in _one_each(_generated(records)):
        by_model.setdefault((each[0].cell.dataset, each[0].cell.model), []).append(each)
    for _, group in sorted(by_model.items()):
        sheets = [each for each in _defaults(group) if "contact_sheet" in each[0].files]
        pictures += [_sheets(sheets, group, results, out)] if sheets else []
        pictures.append(_curves(group, out))
    rows = source_rows(records)
    if len({row.source for row in rows}) > 1:
        pictures.append(_comparison(rows, out))
    return pictures


def section(records: Sequence[Row]) -> tuple[str, str]:
    """What the report says of calibration sources."""
    return "Generated, real and Gaussian calibration images", source_table(records)


def _said(record: Row) -> Images | None:
    """What either version said of its images; None for other methods and for a row without a quantized model."""
    known = _DETAILS.get(record.cell.method)
    return known.model_validate(record.details) if known is not None and record.details else None


def _generated(records: Sequence[Row]) -> list[_Generated]:
    """The rows whose images were generated, with how many there were and their curves."""
    said = [(record, _said(record)) for record in records]
    return [(r, of.images, of.curves) for r, of in said if of is not None and of.curves is not None]


def source_rows(records: Sequence[Row]) -> list[SourceRow]:
    """PSAQ-ViT's top-1 by data set, model, bits, residual, variant and source, seeds together."""
    groups: dict[_Key, list[Row]] = {}
    finished = [(r, _said(r)) for r in records if r.status == "done" and "top1" in r.metrics]
    measured = [(record, said) for record, said in finished if isinstance(said, psaq_vit.Details)]
    varied = _varied([record for record, _ in measured])
    for record, said in measured:
        groups.setdefault(_key(record, said, varied), []).append(record)
    rows = []
    for key, same in sorted(groups.items(), key=lambda item: (item[0][:5], SOURCES.index(item[0][5]))):
        top1 = [record.metrics["top1"] for record in sorted(same, key=lambda r: r.cell.seed)]
        rows.append(SourceRow(*key, values=tuple(m.value for m in top1), sampling=max(m.stderr or 0.0 for m in top1)))
    return rows


def _varied(records: Sequence[Row]) -> set[str]:
    """Options that differ between these records; a record holds every option, and what all share names nothing."""
    options = [record.cell.options for record in records]
    names = {name for o in options for name in o} - _NOT_A_VARIANT
    return {name for name in names if len({str(o.get(name)) for o in options}) > 1}


def _key(record: Row, said: psaq_vit.Details, varied: set[str]) -> _Key:
    variant = ", ".join(f"{k}={v}" for k, v in sorted(record.cell.options.items()) if k in varied)
    limit = "" if record.cell.limit is None else f", {record.cell.limit} images"
    return record.cell.dataset + limit, record.cell.model, record.cell.bits, said.residual, variant, said.calibration


def source_table(records: Sequence[Row]) -> str:
    """Markdown: a row a source, and below it in plain words what generated images are worth; empty without records."""
    rows = source_rows(records)
    if not rows:
        return ""
    head = ["data set", "model", "bits", "residual", "calibrated on", "seeds", "top1", "error", "lowest", "highest"]
    cells = [[markdown(cell) for cell in _cells(row)] for row in rows]
    table = tabulate(cells, headers=head, tablefmt="github", disable_numparse=True)
    note = "Error: the larger of the standard error over seeds and the validation set's sampling error."
    return "\n".join([table, "", note, "", *(f"- {markdown(line)}" for line in statements(rows))])


def _cells(row: SourceRow) -> list[str]:
    source = NAMES[row.source] + (f" ({row.variant})" if row.variant else "")
    figures = [f"{value:.2f}" for value in (row.mean, row.error, min(row.values), max(row.values))]
    return [row.dataset, row.model, row.bits, row.residual, source, str(len(row.values)), *figures]


def statements(rows: Sequence[SourceRow]) -> list[str]:
    """One sentence a group that has generated images and another source."""
    groups: dict[tuple[str, ...], dict[str, SourceRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.label), {})[row.source] = row
    lines = []
    for (dataset, label), by_source in groups.items():
        generated = by_source.get("generated")
        said = (
            [] if generated is None else [_against_gaussian(generated, by_source), _against_real(generated, by_source)]
        )
        if any(said):
            lines.append(f"{label} on {dataset}: " + "; ".join(s for s in said if s) + ".")
    return lines


def _difference(left: SourceRow, right: SourceRow) -> tuple[float, float]:
    return left.mean - right.mean, math.hypot(left.error, right.error)


def _against_gaussian(generated: SourceRow, by_source: dict[str, SourceRow]) -> str:
    if "gaussian" not in by_source:
        return ""
    gain, error = _difference(generated, by_source["gaussian"])
    verdict = "beat" if gain >= MARGIN else "do not beat"
    return f"generated images {verdict} Gaussian noise by {MARGIN:.0f} points or more ({gain:+.2f} ± {error:.2f})"


def _against_real(generated: SourceRow, by_source: dict[str, SourceRow]) -> str:
    if "real" not in by_source:
        return ""
    gain, error = _difference(generated, by_source["real"])
    verdict = "tie with" if abs(gain) <= 2 * error else "are better than" if gain > 0 else "are worse than"
    return f"they {verdict} real images ({gain:+.2f} ± {error:.2f}, a tie within 2 standard errors)"


def _one_each(generated: Sequence[_Generated]) -> list[_Generated]:
    """The first seed and width of every method, variant, data set and model: other widths share its images."""
    chosen: dict[tuple[str, ...], _Generated] = {}
    for each in sorted(generated, key=lambda g: (g[0].cell.seed, g[0].cell.bits)):
        cell = each[0].cell
        chosen.setdefault((cell.method, cell.variant, cell.dataset, cell.model), each)
    return list(chosen.values())


def _defaults(generated: Sequence[_Generated]) -> list[_Generated]:
    """One of each method: without a variant where there is one."""
    chosen: dict[str, _Generated] = {}
    for each in sorted(generated, key=lambda g: g[0].cell.variant):
        chosen.setdefault(each[0].cell.method, each)
    return list(chosen.values())


def _named(record: Row) -> str:
    return record.cell.method + (f"[{record.cell.variant}]" if record.cell.variant else "")


def _path(record: Row, what: str, out: Path) -> Path:
    return out / f"psaq_plots_{what}_{style.file_name(record.cell.dataset, record.cell.model)}.png"


def _sheets(shown: Sequence[_Generated], group: Sequence[_Generated], results: Path, out: Path) -> Picture:
    """The contact sheets of a model's methods, side by side."""
    images = [pixels.imread(inside(results, record.files["contact_sheet"])) for record, _, _ in shown]
    high = max(image.shape[0] / image.shape[1] for image in images)
    canvas, panels = plt.subplots(
        1, len(shown), figsize=(5.6 * len(shown), 5.6 * high + 0.4), squeeze=False, layout="constrained"
    )
    for axes, image, (record, _, _) in zip(panels[0], images, shown, strict=True):
        axes.imshow(image, interpolation="none")
        axes.set_axis_off()
        axes.set_title(_named(record), fontsize=10, loc="left")
    first = shown[0][0]
    left_out = [_named(record) for record, _, _ in group if record not in [each for each, _, _ in shown]]
    caption = (
        f"Generated images above Gaussian noise and, where there is a calibration set, real images. "
        f"{'; '.join(f'{record.cell.id}, {count} images' for record, count, _ in shown)}."
        + (f" Images of variants are among the artifacts: {', '.join(left_out)}." if left_out else "")
    )
    return Picture(style.save(canvas, _path(first, "images", out)), f"Generated images, {first.cell.model}", caption)


def _curves(group: Sequence[_Generated], out: Path) -> Picture:
    """Every loss term of a model's methods and variants, a panel a term."""
    names = sorted(
        {name for _, _, curves in group for name in curves.terms()}, key=lambda name: (name == "total", name)
    )
    canvas, panels = plt.subplots(1, len(names), figsize=(3.3 * len(names), 3.0), squeeze=False, layout="constrained")
    for place, (record, _, curves) in enumerate(group):
        for axes, name in zip(panels[0], names, strict=True):
            values = [math.nan if v is None else v for v in curves.terms().get(name, [])]
            axes.plot(
                curves.iteration[: len(values)], values, label=_named(record), linewidth=1.2, color=f"C{place % 10}"
            )
    for axes, name in zip(panels[0], names, strict=True):
        axes.set(title=name.replace("_", " "), xlabel="iteration")
        style.clean(axes)
    handles, labels = panels[0][-1].get_legend_handles_labels()
    canvas.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    first = group[0][0]
    words = tuple({"run": _named(record), **_last(curves)} for record, _, curves in group)
    caption = (
        f"Loss terms before weighting, by iteration of image generation, of {first.cell.model} on "
        f"{first.cell.dataset}; a line a method and variant, of its first seed and width."
    )
    return Picture(
        style.save(canvas, _path(first, "losses", out)), f"Losses of generation, {first.cell.model}", caption, words
    )


def _last(curves: LossCurves) -> dict[str, str]:
    """Where every term ended."""
    ends = {name: next((v for v in reversed(values) if v is not None), None) for name, values in curves.terms().items()}
    return {f"last {name.replace('_', ' ')}": f"{end:.4g}" for name, end in ends.items() if end is not None}


def _comparison(rows: Sequence[SourceRow], out: Path) -> Picture:
    labels = list(dict.fromkeys(f"{row.label}\n{row.dataset}" for row in rows))
    canvas, axes = plt.subplots(figsize=(7, 1.2 + 0.6 * len(labels)))
    for i, source in enumerate(SOURCES):
        _bars(axes, [r for r in rows if r.source == source], labels, i)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="top-1 (%), mean over seeds, one standard error; a dot a seed", xlim=(0, 100))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    style.clean(axes)
    caption = "What sets the activation ranges. " + " ".join(f"{line}" for line in statements(rows))
    file = style.save(canvas, out / "psaq_plots_sources.png")
    words = tuple(
        {"run": row.label, "data": row.dataset, "calibrated on": NAMES[row.source], "seeds": str(len(row.values)),
         "top-1 %": f"{row.mean:.2f} ± {row.error:.2f}"}
        for row in rows
    )  # fmt: skip
    return Picture(file, "Generated against real images and Gaussian noise", caption, words)


def _bars(axes: Axes, rows: Sequence[SourceRow], labels: Sequence[str], offset: int) -> None:
    if not rows:
        return
    source = rows[0].source
    colour = dict(zip(SOURCES, (style.COLOURS["psaq_vit"], style.COLOURS["minmax"], style.COLOURS["pmq"]), strict=True))
    at = [labels.index(f"{row.label}\n{row.dataset}") + 0.25 * (offset - 1) for row in rows]
    axes.barh(at, [r.mean for r in rows], height=0.22, color=colour[source], label=NAMES[source], alpha=0.7)
    axes.errorbar([r.mean for r in rows], at, xerr=[r.error for r in rows], fmt="none", color="black", capsize=2)
    for y, row in zip(at, rows, strict=True):
        axes.plot(row.values, [y] * len(row.values), ".", color="black", markersize=3)
