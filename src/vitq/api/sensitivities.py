"""`vitq.sensitivity`: what each component of a model costs in accuracy when it is quantized, measured and estimated."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitq.api.errors import one_line
from vitq.api.given_data import Reading, given_data, reading_of
from vitq.api.given_model import Given, Wishes, given_model, size_of
from vitq.api.tables import Table
from vitq.errors import BadInputError
from vitq.subject import silent
from vitq.words import nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.benchmarks.measure.sensitivity import Cost, Costs
    from vitq.benchmarks.plan.site import Site
    from vitq.datasets.base import Data
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.methods.bits import Bits
    from vitq.record import Metric
    from vitq.subject import Progress
    from vitq.tasks.described import Architecture

By = Literal["block", "layer"]
Mode = Literal["alone", "leave-one-out"]
_CHOICES = {"by": ("block", "layer"), "mode": ("alone", "leave-one-out")}


@dataclass(frozen=True)
class Sensitivity:
    """What each component costs, measured and estimated; print it, or draw it with `plot`.

    Attributes:
        bits: the widths that components were quantized at.
        mode: `alone`: FP32 against one component quantized; `leave-one-out`: everything quantized against all but one.
        metric: the metric that is lost, `top1` of a classifier, in percentage points.
        fp32: that metric in FP32, `quantized` with every component quantized; each with `value`, `n`, `stderr`.
        rows: a component each: `component`, `layers`, `params`, `macs`, `lost`, `change` (the paired difference),
            `estimated`.
    """

    bits: str
    mode: Mode
    metric: str
    fp32: Metric
    quantized: Metric
    rows: tuple[Cost, ...] = field(repr=False)

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of what was measured and estimated; None where either is all the same."""
        from scipy.stats import spearmanr

        lost, estimated = [row.lost for row in self.rows], [row.estimated for row in self.rows]
        if len(set(lost)) < 2 or len(set(estimated)) < 2:
            return None
        return float(spearmanr(lost, estimated).statistic)

    def table(self) -> Table:
        """A row a component, in the order of the model.

        `lost` is in percentage points with its paired standard error, `changed` how many samples' outcomes changed,
        `estimated` PMQ's sensitivity, the expected squared change of the loss.
        """
        rows = tuple(
            {
                "component": row.component,
                "layers": row.layers,
                "params": row.params,
                "MACs": row.macs,
                "lost": row.lost,
                "±": row.change.stderr,
                "changed": row.change.changed,
                "estimated": row.estimated,
            }
            for row in self.rows
        )
        right = tuple(name for name in rows[0] if name != "component") if rows else ()
        return Table(rows, right=right, places={"lost": 2, "±": 2})

    def plot(self, path: str | Path) -> Path:
        """Draw the table: what each component loses with its error, and the estimate beside it; PNG, SVG or PDF.

        BadInputError where the file cannot be written.
        """
        from vitq.reports.sensitivity_plot import draw

        out = Path(path)
        if out.suffix.lower() not in (".png", ".svg", ".pdf"):
            raise BadInputError(f"a picture is PNG, SVG or PDF by its name, and {out.name} is none")
        try:
            return draw(self.table().rows, self.title, self.metric, out)
        except OSError as error:
            raise BadInputError(f"{out} cannot be written: {error.strerror or error}") from error

    @property
    def title(self) -> str:
        """What was done, in one line."""
        how = "quantized alone" if self.mode == "alone" else "left out of a quantized model"
        rank = "" if self.correlation is None else f"; rank correlation with the estimate {self.correlation:.2f}"
        return (
            f"{self.bits}, each component {how}: {self.metric} {self.fp32.value:.2f} in FP32, "
            f"{self.quantized.value:.2f} with all quantized, {self.fp32.n} samples{rank}"
        )

    def __str__(self) -> str:
        return f"{self.title}\n\n{self.table()}"


def sensitivity(
    model: nn.Module | str | Path,
    data: Any,
    *,
    bits: str = "W4A4",
    calibration_data: Any = None,
    by: By = "block",
    mode: Mode = "alone",
    scope: str = "model",
    limit: int | None = None,
    images: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    labels: str | Path | None = None,
    classes: str | Path | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    architecture: Architecture | None = None,
    num_classes: int | None = None,
    img_size: int | None = None,
    site: str | Path | Site | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """What each component of a model costs in accuracy when it is quantized: one evaluation a component.

    Components are quantized on PMQ's base quantizer (uniform grids, clipping searched for the least squared error).
    Measured is the accuracy on `data` with one component quantized alone, or with all but one; the error is that of the
    paired difference on the same samples. Estimated is PMQ's sensitivity, from one backward pass over the first
    calibration batch.

    Args:
        model: As `vitq.quantize` takes it; it is never changed.
        data: Labelled data as `vitq.evaluate` takes it.
        bits: Widths of weights and activations, 2 to 8 bits each.
        calibration_data: What ranges are calibrated on, as `vitq.quantize` takes it; by default images of `data`.
        by: `block`: a transformer block is one component, and so is each layer outside; `layer`: every layer and
            attention product by itself.
        mode: `alone`: one component quantized against none; `leave-one-out`: all quantized against all but one.
        scope: The part of the model that is looked at: `model` for the whole, or the path of a module in it.
        limit: Evaluate so many samples.
        images: How many images calibrate; 32 by default.
        batch: Of how many images a calibration batch consists; 32 by default.
        seed: Of the random choices.
        device: This and all that follow are as for `vitq.evaluate`.
        labels: See there.
        classes: See there.
        preprocessing: See there.
        architecture: See there.
        num_classes: See there.
        img_size: See there.
        site: See there.
        progress: See there.

    Raises:
        BadInputError: what was given cannot be used; one line says what to give.
        UnsupportedError: no adapter knows the model's attention.

    Examples:
        >>> found = vitq.sensitivity("digits_vit", "digits", bits="W4A4", limit=200)
        >>> print(found.table().render("md"))
        >>> found.plot("sensitivity.png")
    """
    from vitq.datasets.identity import check_limit

    for name, value in (("by", by), ("mode", mode)):
        if value not in _CHOICES[name]:
            raise BadInputError(f"{name} is {value!r}; {nearest(str(value), _CHOICES[name])}")
    check_limit(limit)
    settings = {name: value for name, value in (("images", images), ("batch", batch)) if value is not None}
    with one_line():
        widths = _widths(bits)
        given = given_model(
            model, Wishes(preprocessing, architecture, num_classes, img_size, size_of(data)), device, site
        )
        reading = reading_of(settings, labels, classes, limit, seed=seed)
        opened = _opened(data, calibration_data, given, reading)
        found = _costs(given, opened, widths, by, mode, scope, seed, progress or silent)
    return Sensitivity(
        str(widths), mode, found.metric, found.fp32.metrics[found.metric], found.quantized.metrics[found.metric],
        found.rows,
    )  # fmt: skip


def _widths(bits: str) -> Bits:
    from vitq.methods.bits import Bits

    try:
        return Bits.parse(bits)
    except (ValueError, TypeError) as error:
        raise BadInputError(str(error)) from None


def _opened(data: Any, calibration_data: Any, given: Given, reading: Reading) -> Data:
    """Data to evaluate with images to calibrate on, its own or others."""
    from dataclasses import replace

    if calibration_data is None:
        return given_data(data, given, reading, "training")
    calibrating = given_data(calibration_data, given, reading, "calibration", strict=False)
    return replace(given_data(data, given, reading, "evaluation"), calibration=calibrating.calibration)


def _costs(
    given: Given, data: Data, bits: Bits, by: By, mode: Mode, scope: str, seed: int, progress: Progress
) -> Costs:
    from vitq.benchmarks.measure.sensitivity import costs
    from vitq.datasets.batches import seeded
    from vitq.methods.toolkit import devices

    with tempfile.TemporaryDirectory() as folder, devices.deterministic(), seeded(seed):
        devices.use(given.device)
        subject = given.task.subject(
            given.loaded, data, scope=scope, seed=seed, device=given.device, artifacts=Path(folder), progress=progress
        )
        return costs(given.task, subject, data, bits, by, mode, progress)
