"""Models that vitq has never named: any of timm's by name, of the hub, and a checkpoint of one's own.

An entry says what is built and how images become its input; where its weights lie is `Places.weights[name]`.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg, load_model_config_from_hf
from torch import nn

from vitq.datasets.preprocessing import Preprocessing
from vitq.errors import BadInputError
from vitq.tasks import checkpoints, hub, own_weights
from vitq.tasks.names import ModelEntry, Timm, model_entries, unknown_model
from vitq.words import nearest


def is_timm(name: str) -> bool:
    """Whether timm knows an architecture by this name, and its tag where one is given; true of every hub's name."""
    if name.startswith(hub.PREFIX):
        return True
    try:
        timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # timm's word for a tag that the architecture does not have
        return False
    return bool(timm.is_model(name))


@cache
def timm_names() -> tuple[str, ...]:
    """timm's architectures, and its architectures with each of their tags."""
    return (*timm.list_models(), *timm.list_pretrained())


def timm_entry(name: str, **args: Any) -> ModelEntry:
    """An entry of any model of timm's, `architecture[.tag]` or `hf-hub:owner/name`, with timm's own preprocessing.

    `args` are those of `timm.create_model` (`num_classes`, `img_size`, ...). A model with another number of classes has
    no published weights. BadInputError for a name that timm does not know, and for arguments that its class refuses.
    """
    architecture, config, given = _hub_config(name) if name.startswith(hub.PREFIX) else (name, _config(name), {})
    build = Timm(timm=architecture, args={**given, **args}) if given or args or architecture != name else None
    how = _preprocessing(config, args.get("img_size"))
    published = bool(config.url or config.hf_hub_id or config.file)
    entry = ModelEntry(
        name=name,
        preprocessing=how,
        build=_checked(build, name) if build else None,
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
    weights: Path | None = None,
    args: dict[str, Any] | None = None,
) -> ModelEntry:
    """An entry of a checkpoint of one's own: `architecture` is timm's name, from whose configuration images are read.

    Where `weights`, the checkpoint's file, is given, what is None is taken from the shapes of its tensors, as far as
    they tell it; else it is the architecture's own. The file itself is not kept: it is `Places.weights[name]`.
    BadInputError for an architecture that timm does not know or cannot build so, and a file that cannot be read.
    """
    given: dict[str, Any] = {"num_classes": num_classes, "img_size": img_size}
    if weights is not None and None in given.values():
        with torch.device("meta"):
            usual = build(timm_entry(architecture, **(args or {})))
        told = own_weights.told_by(checkpoints.read(weights), usual)
        given = {key: told.get(key) if value is None else value for key, value in given.items()}
    made = timm_entry(architecture, **{key: value for key, value in given.items() if value is not None}, **(args or {}))
    whole = made.build if isinstance(made.build, Timm) else Timm(timm=architecture)
    note = f"a checkpoint of one's own; preprocessing is that of {architecture}"
    return made.model_copy(update={"name": name, "build": whole, "hub": False, "note": note, "not_papers": ""})


def build(entry: ModelEntry) -> nn.Module:
    """The architecture of an entry that timm makes, with random weights; BadInputError where its class refuses it."""
    made = entry.build if isinstance(entry.build, Timm) else Timm(timm=entry.name)
    return _created(made, entry.name)


def from_hub(entry: ModelEntry) -> nn.Module:
    """The model with the weights that are published under its name; whatever the hub's client raises."""
    of_hub = entry.name.startswith(hub.PREFIX)
    made = entry.build if isinstance(entry.build, Timm) and not of_hub else Timm(timm=entry.name)
    repository = entry.name.removeprefix(hub.PREFIX) if of_hub else _config(made.timm).hf_hub_id
    if repository:
        hub.reach(str(repository), "model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
    model: nn.Module = timm.create_model(made.timm, pretrained=True, **made.args)
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
    how: Any = resolve_data_config(pretrained_cfg=config.to_dict())  # type: ignore[no-untyped-call]
    channels, height, width = how["input_size"]
    if img_size is not None:
        height = width = img_size
    try:
        return Preprocessing(
            (channels, height, width), how["mean"], how["std"], how["crop_pct"], how["interpolation"], how["crop_mode"]
        )
    except ValueError as error:
        raise BadInputError(f"timm's configuration of images is none that vitq can read: {error}") from None


def _checked(build: Timm, name: str) -> Timm:
    """The build without an image size that its class does not take; BadInputError where it cannot be built."""
    sized = "img_size" in build.args
    with torch.device("meta"):
        try:
            _created(build, name)
        except BadInputError as error:
            if not sized or "'img_size'" not in str(error).rpartition(": ")[2]:
                raise
            # the class takes images of any size, and no argument for it
            build = Timm(timm=build.timm, args={key: value for key, value in build.args.items() if key != "img_size"})
            _created(build, name)
    return build


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
    hub.refuse_unless_allowed(name)
    try:
        hub.reach(name.removeprefix(hub.PREFIX), "config.json")
        config, architecture, args = load_model_config_from_hf(name.removeprefix(hub.PREFIX))
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInputError(f"{name} could not be read from the hub ({type(error).__name__}: {reason})") from None
    if not timm.is_model(architecture):
        raise BadInputError(f"{name} is of the architecture {architecture!r}, which the installed timm does not know")
    fields = {field.name for field in dataclasses.fields(PretrainedCfg)}
    known = PretrainedCfg(**{key: value for key, value in config.items() if key in fields})
    return architecture, known, {**(args or {}), "num_classes": known.num_classes}
