"""Where a model's weights are on this machine and which file they are; read without torch."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

from vitq.errors import BadInputError
from vitq.tasks.names import ModelEntry
from vitq.tasks.places import Places

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
    wanted = " or ".join(str(c) for c in candidates)
    raise BadInputError(f"weights of {name} are not at {wanted}: put the file there or correct the site file")


def missing(entry: ModelEntry, places: Places) -> BadInputError:
    """What to say when no file was found and the hub may not be asked."""
    folders = ", ".join(str(path) for path in places.weights.values()) or "a folder named under [weights]"
    hub = "or allow the hub" if entry.hub else "the hub does not serve this model"
    return BadInputError(
        f"no weights for {entry.name}: put {entry.name}.safetensors into {folders} (site file, [weights]); {hub}"
    )


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_identity(entry: ModelEntry, places: Places) -> str:
    """sha256 of the model's weights file, or `hub:<tag>` where the hub will give them; BadInputError if neither can."""
    path = find(entry, places)
    if path is not None:
        return file_sha256(path)
    if entry.hub and places.hub:
        return f"hub:{entry.name}"
    raise missing(entry, places)
