"""What a caller gives as a model, made ready: a module, the name of a model, or the path of a checkpoint."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vitq.api.meanings import refuse_name_and_file
from vitq.errors import BadInputError
from vitq.words import short

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitq.benchmarks.plan.site import Site
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.tasks.base import LoadedModel, Task
    from vitq.tasks.names import ModelEntry
    from vitq.tasks.places import Places

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""How the file of a checkpoint ends; a name of timm's never does."""


@dataclass(frozen=True)
class Wishes:
    """What a caller says of a model beside the model itself; see `vitq.quantize`."""

    preprocessing: Any = None
    architecture: Any = None
    num_classes: int | None = None
    img_size: int | None = None
    size: tuple[int, int, int] | None = None
    """[C, H, W] of images that are given as tensors, which says how large images are where nothing else does."""

    @property
    def how(self) -> Preprocessing | None:
        """The preprocessing, made of a mapping where one is given; BadInputError where it is none."""
        from pydantic import ValidationError

        from vitq.datasets.preprocessing import Preprocessing

        if self.preprocessing is None or isinstance(self.preprocessing, Preprocessing):
            return self.preprocessing
        try:
            return Preprocessing(**dict(self.preprocessing))
        except (ValidationError, TypeError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BadInputError(
                f"preprocessing is {short(self.preprocessing)} ({reason}): give size [3, H, W], mean and std of the "
                "channels, and crop_pct and interpolation where they differ"
            ) from None


@dataclass(frozen=True)
class Given:
    """A model that is ready to be quantized or evaluated.

    `entry` builds the architecture anew; None, and `why` says it, where nothing known does. `how` is what `loaded`
    says, None where nobody said how images are prepared. `device` is where the caller has, or wants, the model.
    """

    task: Task
    loaded: LoadedModel
    entry: ModelEntry | None
    device: torch.device
    why: str = ""
    places: Places = field(default_factory=lambda: places_of(None))

    @property
    def classes(self) -> int | None:
        """How many classes the model tells apart, where it says so."""
        count = getattr(self.loaded.model, "num_classes", None)
        return count if isinstance(count, int) else None


def given_model(
    model: Any, wishes: Wishes, device: str | torch.device | None = None, site: str | Path | Site | None = None
) -> Given:
    """The model as the caller gives it, a copy in eval mode on its device; BadInputError for what is no model."""
    from torch import nn

    from vitq.methods.toolkit.saved_file import is_saved

    places = places_of(site)
    refuse_name_and_file(model)
    if hasattr(model, "origin") or (_is_file(model) and is_saved(Path(model))):
        raise BadInputError("the model is quantized already: give the one that it was made of")
    if isinstance(model, nn.Module):
        return _of_module(model, wishes, device, places)
    if not isinstance(model, (str, Path)):
        raise BadInputError(f"model is a {type(model).__name__}: give a module, the name of a model, or a checkpoint")
    if _is_path(model):
        return _of_checkpoint(Path(model), wishes, device, places)
    return _of_name(str(model), wishes, device, places)


def places_of(site: str | Path | Site | None) -> Places:
    """Where data sets and weights are, as the site file says it, or one that was read already."""
    from vitq.benchmarks.plan.site import Site, load_site

    read = site if isinstance(site, Site) else load_site(None if site is None else Path(site))
    return read.places()


def _is_file(model: Any) -> bool:
    return isinstance(model, (str, Path)) and Path(model).is_file()


def _is_path(model: str | Path) -> bool:
    if isinstance(model, Path) or model.endswith(SUFFIXES):
        return True
    return not model.startswith("hf-hub:") and Path(model).is_file()


def _of_module(model: nn.Module, wishes: Wishes, device: Any, places: Places) -> Given:
    from vitq.datasets.preprocessing import Preprocessing
    from vitq.tasks.base import LoadedModel
    from vitq.tasks.described import describe
    from vitq.tasks.registry import load

    found = describe(model, wishes.architecture)
    how = wishes.how or found.preprocessing
    if how is None and wishes.size is not None:
        how = Preprocessing(wishes.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    if how is None:
        raise BadInputError(
            f"how images are prepared for a {type(model).__name__} is not known: give "
            "preprocessing={'size': [3, H, W], 'mean': [...], 'std': [...]}"
        )
    where = device_of(model) if device is None else _tried(device)
    entry = None if found.entry is None else found.entry.model_copy(update={"preprocessing": how})
    name = type(model).__name__ if entry is None else entry.name
    task = load("classification" if entry is None else entry.task)
    return Given(task, LoadedModel(name, _float(_copy(model), where), how, None), entry, where, found.why, places)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInputError(
            f"the {type(model).__name__} cannot be copied, and a model is never changed: {reason}"
        ) from error


def _float(model: nn.Module, where: torch.device) -> nn.Module:
    """On the device in float32, which methods compute in; warns where it was of another kind."""
    import torch

    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if kinds:
        words = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        warnings.warn(f"the model's {words} weights are taken as float32", UserWarning, stacklevel=4)
        model = model.float()
    return model.to(where)


def _of_checkpoint(path: Path, wishes: Wishes, device: Any, places: Places) -> Given:
    from vitq.tasks.own_models import own_entry

    if not path.is_file():
        raise BadInputError(f"there is no checkpoint {path}: correct the path")
    if wishes.architecture is None:
        raise BadInputError(
            f"what {path} is a checkpoint of is not known: give architecture= (--architecture in a shell), as "
            "'vit_tiny_patch16_224'"
        )
    if isinstance(wishes.architecture, str):
        entry = own_entry(
            path.stem, wishes.architecture, num_classes=wishes.num_classes, img_size=wishes.img_size, weights=path
        )  # fmt: skip
    else:
        from vitq.tasks.described import named_entry

        entry = named_entry(wishes.architecture, wishes.num_classes).model_copy(update={"name": path.stem})
    return _loaded(entry, wishes, device, replace(places, weights={**places.weights, entry.name: path}))


def _of_name(name: str, wishes: Wishes, device: Any, places: Places) -> Given:
    from vitq.tasks.names import model_entry
    from vitq.tasks.own_models import timm_entry

    if wishes.architecture is not None:
        raise BadInputError(f"architecture is of a checkpoint or a module, and {name!r} is a name: leave it out")
    args = {"num_classes": wishes.num_classes, "img_size": wishes.img_size}
    changed = {key: value for key, value in args.items() if value is not None}
    return _loaded(timm_entry(name, **changed) if changed else model_entry(name), wishes, device, places)


def _loaded(entry: ModelEntry, wishes: Wishes, device: Any, places: Places) -> Given:
    from vitq.tasks.registry import load

    task = load(entry.task)
    absent = task.unsupported()
    if absent:
        raise BadInputError(f"model {entry.name}: {absent}")
    loaded, where = task.load_entry(entry, places), _tried("cpu" if device is None else device)
    if wishes.preprocessing is not None:
        loaded = replace(loaded, preprocessing=cast("Preprocessing", wishes.how))
        entry = entry.model_copy(update={"preprocessing": loaded.preprocessing})
    loaded.model.to(where).eval()
    return Given(task, loaded, entry, where, "", places)


def device_of(model: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU where it has none."""
    from itertools import chain

    import torch

    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _tried(device: str | torch.device) -> torch.device:
    from vitq.saved import tried_device

    return tried_device(device)


def size_of(data: Any) -> tuple[int, int, int] | None:
    """[C, H, W] of images given as a tensor, or as a pair of which it is the first; None where that cannot be seen."""
    first = data[0] if isinstance(data, (tuple, list)) and data else data
    shape = getattr(first, "shape", None)
    if shape is None or len(shape) != 4:
        return None
    return cast("tuple[int, int, int]", tuple(int(n) for n in shape[1:]))


def as_mapping(given: Any, what: str) -> dict[str, Any]:
    """A mapping that a caller gives, as a plain one; BadInputError where it is none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise BadInputError(f"{what} is {short(given)}: give a mapping of names to values")
    return dict(given)
