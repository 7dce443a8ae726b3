"""A quantized model as the Python interface gives it: it runs, says what it weighs and costs, is saved and exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vitq.api.errors import one_line
from vitq.api.placing import on_cpu
from vitq.api.tables import Table
from vitq.errors import BadInputError

if TYPE_CHECKING:
    from vitq.benchmarks.measure.accounting import Account
    from vitq.benchmarks.measure.chosen import Chosen
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.datasets.scene_preprocessing import ScenePreprocessing
    from vitq.details import Details
    from vitq.record import Operations, Size
    from vitq.tasks.base import Task
    from vitq.tasks.described import Architecture
    from vitq.tasks.names import ModelEntry

SKELETON = "skeleton"
"""What `save` is told where a file need not say how its architecture is built."""


@dataclass
class Origin:
    """Where a quantized model comes from: what it was made by, of which architecture, and what decided it.

    `fp` makes the FP architecture on the meta device; `entry` builds it, None where nothing known does (`why` says it).
    """

    chosen: Chosen
    task: Task
    fp: Callable[[], nn.Module]
    how: Preprocessing | ScenePreprocessing
    exec: str
    entry: ModelEntry | None = None
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    details: Details | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        """Itself: copies of a model come from the same place."""
        return self


@dataclass(frozen=True)
class Exported:
    """What `QuantizedModel.export` wrote, and how near it is to the model.

    Attributes:
        path: the ONNX file.
        bytes: its size.
        shape: of the images [N, C, H, W] that it takes.
        runtime: the runtime that it was written for and checked on.
        exec: how that runtime computes it: `int8-kernel:onnxruntime`, `fake-quant-fp32:onnxruntime`, `fp32:...`.
        difference: the largest difference of the logits, in parts of the largest.
        agreement: percentage of the images that get the same first class.
        operators: how many operators run at which width, by kind, as the runtime's executed graph says.
        nearness: the same in words, beside what noise makes of the model itself where rounding decides.
    """

    path: Path
    bytes: int
    shape: tuple[int, ...]
    runtime: str
    exec: str
    difference: float
    agreement: float | None
    operators: dict[str, dict[str, int]]
    nearness: str


class QuantizedModel(nn.Module):
    """A quantized model: call it as the model it was made of.

    It is made by `vitq.quantize` and `vitq.load`. What it does not have itself is asked of `model`, so that
    `small.num_classes` or `small.blocks` work as on the model it was made of.

    Attributes:
        model: the module that computes.
    """

    model: nn.Module

    def __init__(self, model: nn.Module, origin: Origin) -> None:
        super().__init__()
        self.model = model
        self._origin = origin
        self._account: Account | None = None
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model gives: logits [B, classes] of images [B, 3, H, W], normalized, for a classifier."""
        return self.model(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own state, by its own names."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Fill the model from a state of its own names."""
        return self.model.load_state_dict(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("model", "_origin", "_account"):  # not there yet, as in a copy that is being made
                raise
            if hasattr(type(self), name):  # a property of ours that failed: its own error is the one to tell
                return object.__getattribute__(self, name)
            return getattr(super().__getattr__("model"), name)

    @property
    def origin(self) -> Origin:
        """What it was made by and of; for other parts of vitq."""
        return self._origin

    @property
    def method(self) -> str:
        """Name of the method."""
        return self._origin.chosen.method

    @property
    def bits(self) -> str:
        """Widths of weights and activations, as `W4A4`."""
        return self._origin.chosen.bits

    @property
    def scope(self) -> str:
        """The part that is quantized: `model` for the whole."""
        return self._origin.chosen.scope

    @property
    def options(self) -> dict[str, Any]:
        """Every option of the method, as it was."""
        return dict(self._origin.chosen.options)

    @property
    def exec(self) -> str:
        """How it computes: `fp32`, `fake-quant`, `integer-only:torch` or `xnor:torch`."""
        return self._origin.exec

    @property
    def details(self) -> Details | None:
        """What the method says of its work; None of a model that was loaded."""
        return self._origin.details

    @property
    def files(self) -> dict[str, Path]:
        """What the method left in the folder `artifacts`, by name."""
        return dict(self._origin.files)

    @property
    def preprocessing(self) -> Preprocessing | ScenePreprocessing:
        """How images become its inputs."""
        return self._origin.how

    @property
    def size(self) -> Size:
        """What it weighs: `params`, `packed_mb` as it ships, `fp32_mb` (10^6 bytes), and their `ratio`.

        Weights count at their own width, with scales, zero points, biases and what stays in floating point.
        """
        return self._counted().size

    @property
    def operations(self) -> Operations:
        """Operations of one image: `macs` (attention products included), `bitops` (MACs x bits x bits), `ops`."""
        return self._counted().operations

    def layers(self) -> Table:
        """A row a layer: path, kind, MACs, widths of both operands, parameters and packed bytes.

        Rows without MACs hold what ships beside the products: norms, positions, grids. MACs and bytes add up to
        `operations.macs` and `size.packed_mb`.
        """
        rows = tuple(row._asdict() for row in self._counted().layers)
        return Table(rows, right=("macs", "left_bits", "right_bits", "weight_params", "packed_bytes"))

    def _counted(self) -> Account:
        if self._account is None:
            origin = self._origin
            made = self.model if origin.chosen.card.widths_depend_on_data else None
            with one_line(), torch.inference_mode(False):
                self._account = origin.chosen.account(origin.task, origin.fp(), origin.how, made)
        return self._account

    def save(self, path: str | Path, *, architecture: Architecture | None = None) -> Path:
        """Write the model to a file that `vitq.load` reads: codes at their own width, grids, and a header.

        Args:
            path: The file, `.safetensors`; one that is there is replaced, whole or not at all.
            architecture: How the FP model is built, where that is not known: timm's name of it, {"timm": name, "args":
                {...}} as for `timm.create_model`, or "skeleton" to leave it out; `vitq.load` is then given a module.

        Raises:
            BadInputError: the architecture is none that a file can name, or the file cannot be written.
        """
        from vitq.benchmarks.measure.quantizing import save
        from vitq.methods.base import Quantized

        origin = self._origin
        done = Quantized(self.model, facts=origin.facts, exec=origin.exec)
        with one_line():
            known = {"task": origin.task.name, **self._described(architecture)}
            header = origin.chosen.header(done, known, origin.identity)
            try:
                return save(done, Path(path), header).path
            except OSError as error:
                raise BadInputError(f"{path} cannot be written: {error.strerror or error}") from error

    def _described(self, architecture: Architecture | None) -> dict[str, Any]:
        """The header's words for the architecture."""
        from dataclasses import asdict

        origin = self._origin
        if architecture == SKELETON:
            of = type(origin.fp())
            return {SKELETON: f"{of.__module__}.{of.__qualname__}", "preprocessing": asdict(origin.how)}
        entry = origin.entry
        if architecture is not None:
            from vitq.tasks.described import describe

            entry = describe(origin.fp(), architecture).entry
        if entry is None:
            raise BadInputError(
                f"the file could not say how the model is built, for {origin.why}: give architecture= (timm's name, or "
                "{'timm': name, 'args': {...}}), or architecture='skeleton' and give vitq.load a module"
            )
        return {"model": entry.model_copy(update={"preprocessing": origin.how}).model_dump(mode="json", by_alias=True)}

    def export(
        self,
        path: str | Path,
        runtime: str = "onnxruntime",
        *,
        batch: int = 1,
        threads: int = 1,
        overwrite: bool = False,
    ) -> Exported:
        """Write the model as ONNX in QDQ form for a runtime, load it there, and hold its logits to the model's.

        Args:
            path: The file, `.onnx`.
            runtime: `onnxruntime` or `openvino`.
            batch: How many images a call takes.
            threads: With how many threads the runtime is tried.
            overwrite: Whether a file that is there may be replaced.

        Raises:
            UnsupportedError: the model has no such form, or the runtime's logits are not the model's.
            BadInputError: the runtime is not installed, or the file cannot be written.
        """
        from vitq.benchmarks.measure import exporting
        from vitq.benchmarks.measure.forms import noise
        from vitq.benchmarks.measure.on_runtimes import nearness_of
        from vitq.datasets.preprocessing import Preprocessing

        out, how = Path(path), self._origin.how
        if not isinstance(how, Preprocessing):
            raise BadInputError(f"this model is for {self._origin.task.name}: classifiers are exported")
        if not isinstance(batch, int) or batch < 1:
            raise BadInputError(f"batch is {batch!r}: at least 1 image is needed")
        exporting.refuse(out, runtime, overwrite=overwrite)
        with one_line(), on_cpu(self.model) as model:
            made = exporting.write(model, self.exec, noise(how.size, batch), out, runtime, threads, how, self.bits)
        form = made.form
        operators = {kind: dict(widths) for kind, widths in form.operators.items()}
        return Exported(
            made.path, made.bytes, made.shape, runtime, form.exec, form.difference, form.agreement, operators,
            nearness_of(form),
        )  # fmt: skip

    def extra_repr(self) -> str:
        """What it was made by."""
        scope = "" if self.scope == "model" else f", scope={self.scope}"
        return f"{self.method} {self.bits}{scope}, {self.exec}"
