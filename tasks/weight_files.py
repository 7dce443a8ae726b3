"""Where a model's weights are on this machine and which file they are; read without torch."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.tasks import hub_pins
from vitq.tasks.names import ModelEntry
from vitq.tasks.places import Places

__all__ = ["SUFFIXES", "file_sha256", "find", "missing", "weights_identity"]

SUFFIXES = (".safetensors", ".pth")


def find(entry: ModelEntry, places: Places) -> Path | None:
    """The model's weights file: named for the model in `places`, in one of its folders, or packaged; None if nowhere.

    Raises BadInputError where `places` names a file or folder for this very model that does not hold it.
    """
    if entry.name in places.weights:
        return _named(entry.name, places.weights[entry.name])
    folders = [path for path in places.weights.values() if path.is_dir()]
    candidates = [folder / f"{entry.name}{suffix}" for folder in folders for suffix in SUFFIXES]
    if entry.packaged:
        candidates.append(Path(str(resources.files("vitq.tasks") / "weights" / f"{entry.name}.safetensors")))
    return next((path for path in candidates if path.is_file()), None)


def _named(name: str, path: Path) -> Path:
    candidates = [path / f"{name}{suffix}" for suffix in SUFFIXES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
        if candidate.exists():
            raise BadInputError(f"weights of {name}, {candidate}, are no regular file: name a file or its folder")
    wanted = " or ".join(str(c) for c in candidates)
    raise BadInputError(f"weights of {name} are not at {wanted}: put the file there or correct the site file")


def missing(entry: ModelEntry, places: Places) -> BadInputError:
    """What to say when no file was found and the hub may not be asked."""
    known = [f"{path}{'' if path.exists() else ' (which is not there)'}" for path in places.weights.values()]
    folders = ", ".join(known) or "a folder named under [weights]"
    hub = "or allow the hub" if entry.hub else "the hub does not serve this model"
    return BadInputError(
        f"no weights for {entry.name}: put {entry.name}.safetensors into {folders} (site file, [weights]); {hub}"
    )


def weights_identity(entry: ModelEntry, places: Places, fetch: bool = True) -> str:
    """sha256 of the model's weights file, or of the hub's tensors; BadInputError if neither can be had.

    The hub is asked once: later its weights are held to the digest that was found then. Without `fetch` it is not
    asked, and weights that were never read are named by their tag.
    """
    path = find(entry, places)
    if path is not None:
        return file_sha256(path)
    if entry.hub and places.hub:
        known = hub_pins.pinned(entry)
        return known or (_from_hub(entry, places) if fetch else f"{entry.name} of the hub, not read yet")
    raise missing(entry, places)


def _from_hub(entry: ModelEntry, places: Places) -> str:
    from vitq.tasks.registry import load  # brings torch, which a suite with pinned weights is planned without

    return load(entry.task).load_model(entry.name, places).weights_sha256 or ""
