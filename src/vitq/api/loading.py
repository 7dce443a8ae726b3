"""Loading a saved quantized model, with what its file says of how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitq.api.errors import one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.api.quantized import Origin, QuantizedModel


def load(
    path: str | Path, device: str | torch.device = "cpu", *, architecture: nn.Module | None = None
) -> QuantizedModel:
    """The quantized model that a file holds, in eval mode, on `device`; nothing of the file is executed.

    On the same machine, versions, threads and batch it gives the logits of the model that was saved, bit for bit. With
    other threads or batches the codes of weights are the same, and an image's logits differ by 1e-5 of their norm, as
    sums are taken in another order; where that moves an activation over a rounding boundary, by what one step of that
    activation makes.

    Args:
        path: What `QuantizedModel.save`, `vitq quantize` or a run of a suite wrote.
        device: Where to put it.
        architecture: The FP module, with any weights, for a file that was saved without a description of it; it is
            copied and filled.

    Raises:
        BadInputError: in one line, for a file that is no saved model, is damaged, or is of another version or
            architecture, and for a device that is not there.

    Examples:
        >>> small = vitq.load("small.safetensors")
        >>> logits = small(images)
    """
    from vitq.api.quantized import QuantizedModel
    from vitq.saved import load_quantized

    loaded = load_quantized(path, device, architecture)
    with one_line():
        return QuantizedModel(loaded.model, _origin(Path(path), loaded.exec, loaded.header, architecture))


def _origin(path: Path, exec: str, header: dict[str, Any], architecture: nn.Module | None) -> Origin:
    import torch

    from vitq.api.placing import on_meta
    from vitq.api.quantized import Origin
    from vitq.benchmarks.measure.chosen import Chosen
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.saved import built
    from vitq.tasks.names import ModelEntry
    from vitq.tasks.registry import load as load_task

    known = header["architecture"]
    entry = ModelEntry.model_validate(known["model"]) if "model" in known else None
    given = None if architecture is None else on_meta(architecture)

    def fp() -> nn.Module:
        if given is not None:
            return given
        with torch.device("meta"):
            return built(known).eval()

    return Origin(
        Chosen(header["method"], header["options"], header["bits"], str(header["scope"])),
        load_task(known["task"]), fp, Preprocessing(**known["preprocessing"]) if entry is None else entry.preprocessing,
        exec, entry, f"{path.name} does not say it", dict(header["facts"]), dict(header.get("identity") or {}),
    )  # fmt: skip
