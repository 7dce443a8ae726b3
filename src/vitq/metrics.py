"""What a metric is called where people read it, and which of a task's metrics its results are told by."""

from __future__ import annotations

from typing import NamedTuple


class Known(NamedTuple):
    """A metric of a task: the name in records, the words for it, and whether it stands for the task."""

    name: str
    label: str
    task: str
    main: bool = False
    unit: str = "%"


_AREAS = {
    "": "",
    "50": " at IoU 0.50",
    "75": " at IoU 0.75",
    "_s": ", small",
    "_m": ", medium",
    "_l": ", large",
}

METRICS = {
    known.name: known
    for known in (
        Known("top1", "top-1 accuracy", "classification", main=True),
        Known("top5", "top-5 accuracy", "classification"),
        *(Known(f"box_ap{end}", f"box AP{words}", "detection", main=not end) for end, words in _AREAS.items()),
        *(Known(f"mask_ap{end}", f"mask AP{words}", "detection", main=not end) for end, words in _AREAS.items()),
        Known("miou", "mIoU", "segmentation", main=True),
        Known("aacc", "pixel accuracy", "segmentation"),
        Known("macc", "mean class accuracy", "segmentation"),
    )
}
"""Every metric of every task, by its name in records; values are in percent."""


def main_metrics(task: str) -> tuple[str, ...]:
    """The metrics that a task's results are told by, the first one first; none of a task that is not known."""
    return tuple(known.name for known in METRICS.values() if known.task == task and known.main)


def label(metric: str) -> str:
    """Words for a metric; its own name where it is not known."""
    return METRICS[metric].label if metric in METRICS else metric
