"""Models that vitq has never named: any of timm's by name, of the hub, and a checkpoint of one's own.

An entry says what is built and how images become its input; where its weights lie is `Places.weights[name]`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from torch import nn

from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry, Timm, model_entries, unknown_model
from vitq.words import nearest

HUB = "hf-hub:"
"""What stands before the name of a model on the Hugging Face hub, as timm has it."""


def is_timm(name: str) -> bool:
    """Whether timm knows an architecture by this name, and its tag where one is given; true of every hub's name."""
    if name.startswith(HUB):
        return True
    try:
        return bool(timm.is_model(name)) and timm.get_pretrained_cfg(name, allow_unregistered=True) is not False
    except RuntimeError:  # timm's word for a tag that the architecture does not have
        return False


@cache
def timm_names() -> tuple[str, ...]:
    """timm's architectures, and its architectures with each of their tags."""
    return (*timm.list_models(), *timm.list_pretrained())


def timm_entry(name: str, **args: Any) -> ModelEntry:
    """An entry of any model of timm's, `architecture[.tag]` or `hf-hub:owner/name`, with timm's own preprocessing.

    `args` are those of `timm.create_model` (`num_classes`, `img_size`, ...). A model with another number of classes has
    no published weights. BadInputError for a name that timm does not know, and for arguments that its class refuses.
    """
    architecture, config, given = _hub_config(name) if name.startswith(HUB) else (name, _config(name), {})
    build = Timm(timm=architecture, args={**given, **args}) if given or args or architecture != name else None
    how = _preprocessing(config, args.get("img_size"))
    published = bool(config.url or config.hf_hub_id or config.file)
    entry = ModelEntry(
        name=name,
        preprocessing=how,
        build=_checked(build, name, config) if build else None,
        hub=published and args.get("num_classes", config.num_classes) == config.num_classes,
        note="preprocessing is timm's own",
    )
    return entry.model_copy(update={"not_papers": _unlike_papers(entry, config)})


def own_entry(
    name: str,
    architecture: str,
    *,
    num_classes: int | None = None,
    img_size: int | None = None,
    args: dict[str, Any] | None = None,
) -> ModelEntry:
    """An entry of a checkpoint of one's own: `architecture` is timm's name, from whose configuration images are read.

    `num_classes` and `img_size` are the architecture's own where they are None. The file is `Places.weights[name]`.
    """
    given = {"num_classes": num_classes, "img_size": img_size}
    made = timm_entry(architecture, **{key: value for key, value in given.items() if value is not None}, **(args or {}))
    build = made.build if isinstance(made.build, Timm) else Timm(timm=architecture)
    note = f"a checkpoint of one's own; preprocessing is that of {architecture}"
    return made.model_copy(update={"name": name, "build": build, "hub": False, "note": note, "not_papers": ""})


def build(entry: ModelEntry) -> nn.Module:
    """The architecture of an entry that timm makes, with random weights; BadInputError where its class refuses it."""
    made = entry.build if isinstance(entry.build, Timm) else Timm(timm=entry.name)
    return _created(made, entry.name)


def from_hub(entry: ModelEntry) -> nn.Module:
    """The model with the weights that are published under its name; whatever the hub's client raises."""
    changed = isinstance(entry.build, Timm) and not entry.name.startswith(HUB)
    args = entry.build.args if changed and isinstance(entry.build, Timm) else {}
    name = entry.build.timm if changed and isinstance(entry.build, Timm) else entry.name
    model: nn.Module = timm.create_model(name, pretrained=True, **args)
    return model


def _created(made: Timm, name: str) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(made.timm, pretrained=False, **made.args)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(f"timm cannot build {name} as {made.timm} with {made.args}: {reason}") from None
    return model


def _config(name: str) -> PretrainedCfg:
    """timm's configuration of the weights of a name, which says how images are read."""
    if not is_timm(name):
        raise BadInputError(_no_such(name))
    return timm.get_pretrained_cfg(name, allow_unregistered=True) or PretrainedCfg()


def _no_such(name: str) -> str:
    architecture, _, tag = name.partition(".")
    if tag and timm.is_model(architecture):
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
        return f"timm's {architecture} has no weights with the tag {tag!r}; {nearest(tag, tags)}"
    return unknown_model(name)


def _preprocessing(config: PretrainedCfg, img_size: int | None) -> Preprocessing:
    how = resolve_data_config(pretrained_cfg=config.to_dict())
    channels, height, width = how["input_size"]
    if img_size is not None:
        height = width = img_size
    try:
        return Preprocessing(
            (channels, height, width), how["mean"], how["std"], how["crop_pct"], how["interpolation"], how["crop_mode"]
        )
    except ValueError as error:
        raise BadInputError(f"timm's configuration of images is none that vitq can read: {error}") from None


def _checked(build: Timm, name: str, config: PretrainedCfg) -> Timm:
    """The build without an image size that its class does not take; BadInputError where it cannot be built."""
    args = dict(build.args)
    if not config.fixed_input_size:
        args.pop("img_size", None)  # such a network takes images of any size
    kept = Timm(timm=build.timm, args=args)
    with torch.device("meta"):
        _created(kept, name)
    return kept


def _unlike_papers(entry: ModelEntry, config: PretrainedCfg) -> str:
    """How the preprocessing differs from that of our entry of the same weights, which is the papers'; or nothing."""
    full = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
    ours = model_entries().get(full)
    if ours is None or ours.paper_name is None or ours.preprocessing == entry.preprocessing:
        return ""
    theirs = vars(ours.preprocessing)
    told = [f"{k} {v} (the papers' {theirs[k]})" for k, v in vars(entry.preprocessing).items() if theirs.get(k) != v]
    return f"{entry.name} has timm's preprocessing, which is not the papers': {', '.join(told)}"


def _hub_config(name: str) -> tuple[str, PretrainedCfg, dict[str, Any]]:
    """Architecture, configuration and arguments of a model on the hub; BadInputError where it cannot be asked."""
    from timm.models import load_model_config_from_hf

    try:
        config, architecture, args = load_model_config_from_hf(name.removeprefix(HUB))
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(f"{name} could not be read from the hub ({type(error).__name__}: {reason})") from None
    return architecture, PretrainedCfg(**config), {**(args or {}), "num_classes": config["num_classes"]}
