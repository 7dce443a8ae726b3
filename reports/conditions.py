"""What must hold before a record and a figure may be compared; each condition that fails is a printed reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitq.record import CellKey
from vitq.reports.effects import MethodOptions, defaults, recipe_of
from vitq.reports.figure import ACCURACY, FULL_SIZE, TIMED, Figure
from vitq.rows import Row
from vitq.subject import WHOLE

EVALUATED_SPLITS = ("val", "val2017", "validation")
"""Where a figure's own recipe calibrates on images that it is judged by, so must a cell that is compared with it."""


def paper_model(record: Row) -> str:
    """The papers' name of the record's model; its own where no paper has one."""
    return str(record.paper_name or record.cell.model)


def row_of(figure: Figure, record: Row, options: MethodOptions) -> bool:
    """Whether the record is of the figure's row: method, task, model, widths, and every option that makes a row.

    A count depends on the options that the figure names alone: how a softmax is computed moves no byte. Data, weights,
    recipe and hardware are not looked at: where they differ the figure is not comparable, and says so.
    """
    return measured_by(figure, record.cell, paper_model(record), options)


def measured_by(figure: Figure, cell: CellKey, model: str, options: MethodOptions) -> bool:
    """Whether a cell, of a model that papers call `model`, is of the figure's row; see `row_of`."""
    if (figure.cell_method, figure.task, figure.bits) != (cell.method, cell.task, cell.bits):
        return False
    if figure.model and figure.model != model:
        return False
    known = defaults(options.get(cell.method, {}), "row")
    names = set(figure.options) if figure.counted else {*known, *figure.options}
    return all(cell.options.get(name, known.get(name)) == figure.options.get(name, known.get(name)) for name in names)


def why_not_comparable(figure: Figure, run: Sequence[Row], options: MethodOptions) -> list[str]:
    """The reasons, in one order; none means that numbers may be compared.

    Counts (size, operations) need nothing but the architecture, all of it quantized. Latency is bound to its hardware
    too. Accuracy needs the figure's whole data set, the same weights and preprocessing (seen in the FP32 metric of the
    same run), the same scope, and the figure's recipe.
    """
    if figure.counted:
        return _scope(run[0])
    if figure.metric in TIMED:
        return [*_scope(run[0]), *_hardware(figure, run[0])]
    reasons = [*_data(figure, run[0]), *_scope(run[0]), *_recipe(figure, run[0], options)]
    for record in run:
        reasons += [reason for reason in _calibration(figure, record) if reason not in reasons]
        reasons += [reason for reason in _samples_and_weights(figure, record) if reason not in reasons]
    return reasons


def _data(figure: Figure, record: Row) -> list[str]:
    cell = record.cell
    reasons = []
    if cell.dataset != figure.dataset:
        reasons.append(f"other data: {cell.dataset}, the figure is of {figure.dataset}")
    if cell.limit is not None:
        reasons.append(f"a subset: --limit {cell.limit}")
    return reasons


def _scope(record: Row) -> list[str]:
    """A part of a model is no model: its accuracy, size, operations and times are others."""
    return [] if record.cell.scope == WHOLE else [f"only the {record.cell.scope} is quantized"]


def _samples_and_weights(figure: Figure, record: Row) -> list[str]:
    metric = figure.metric if figure.metric in ACCURACY else "top1"
    measured, fp32 = record.metrics.get(metric), record.fp32.get(metric)
    if measured is None:
        return [f"the record has no {metric}"]
    reasons = []
    full = FULL_SIZE[figure.dataset]
    if record.cell.dataset == figure.dataset and measured.n != full:
        reasons.append(f"a subset: {measured.n:,} of {full:,} images")
    if fp32 is None or figure.fp_value is None:
        which = "record" if fp32 is None else "figure"
        reasons.append(f"the {which} has no FP32 {metric}, so weights and preprocessing cannot be checked")
    elif round(abs(fp32.value - figure.fp_value), 4) > figure.fp_tolerance and record.cell.dataset == figure.dataset:
        reasons.append(
            f"other weights or preprocessing: FP32 {metric} is {fp32.value:.2f}, the figure's is {figure.fp_value:g}"
        )
    return reasons


def _calibration(figure: Figure, record: Row) -> list[str]:
    """What was read, not what was asked for; a model calibrated on what it is judged by can reproduce nothing."""
    read = record.calibrated
    if read is None:
        return []
    reasons = []
    if read.evaluated and figure.settings.get("calibration.split") not in EVALUATED_SPLITS:
        reasons.append(f"calibrated on {read.evaluated} of the images that are evaluated")
    want = figure.settings.get("calibration.images")
    asked = record.cell.calibration.get("images")
    if want is not None and _allowed(want, asked) and not _allowed(want, read.read):
        reasons.append(f"{read.read} of {read.given} calibration images were read, the figure is of {_words(want)}")
    return reasons


def _recipe(figure: Figure, record: Row, options: MethodOptions) -> list[str]:
    """Every setting of the figure, every option that is recipe, and every option that the method does not declare."""
    cell = record.cell
    known = options.get(cell.method, {})
    wanted = {**recipe_of(known, cell.options), **figure.settings}
    calibration = {f"calibration.{name}": value for name, value in cell.calibration.items()}
    has = {**defaults(known, "recipe"), **cell.options, **calibration}
    reasons = [_unlike(name, want, has) for name, want in wanted.items() if not _allowed(want, has.get(name))]
    strange = sorted(set(cell.options) - set(known) - set(figure.options) - set(figure.settings))
    if strange:
        reasons.append(f"options {', '.join(strange)} are not declared by this vitq")
    return reasons


def _allowed(want: Any, value: Any) -> bool:
    return value in want if isinstance(want, list) else bool(value == want)


def _unlike(name: str, want: Any, has: Mapping[str, Any]) -> str:
    if name == "epochs" and has.get(name) == 0:
        return "a post-training run (epochs 0), the figure is after training"
    if name not in has:
        return f"the record does not say {name}, the figure's is {_words(want)}"
    return f"other settings: {name} {_words(has[name])}, the figure's is {_words(want)}"


def _words(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _hardware(figure: Figure, record: Row) -> list[str]:
    origin = record.latency_provenance or record.provenance
    here = origin.gpu or origin.cpu or origin.machine or "unknown hardware"
    if figure.hardware.lower() in (origin.gpu or "").lower():
        return []
    return [f"other hardware: {here}, the figure is of {figure.hardware}"]
