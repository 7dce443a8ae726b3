"""Where a model's weights are on this machine and which file they are; read without torch."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from vitq.digests import file_sha256
from vitq.errors import BadInputError
from vitq.tasks import hub_pins
from vitq.tasks.file_kinds import kind_of
from vitq.tasks.names import Configured, ModelEntry
from vitq.tasks.places import Places

__all__ = ["SUFFIXES", "checked_sha256", "file_sha256", "find", "is_held", "missing", "weights_identity"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def find(entry: ModelEntry, places: Places) -> Path | None:
    """The model's weights file: named for the model in `places`, in one of its folders, or packaged; None if nowhere.

    Raises BadInputError where `places` names a file or folder for this very model that does not hold it.
    """
    if entry.name in places.weights:
        return _named(entry, places.weights[entry.name])
    folders = [path for path in places.weights.values() if path.is_dir()]
    candidates = [folder / name for folder in folders for name in file_names(entry)]
    if entry.packaged:
        candidates.append(Path(str(resources.files("vitq.tasks") / "weights" / f"{entry.name}.safetensors")))
    return next((path for path in candidates if path.is_file()), None)


def _named(entry: ModelEntry, path: Path) -> Path:
    candidates = [path / name for name in file_names(entry)] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
        if candidate.exists():
            raise BadInputError(f"weights of {entry.name}, {candidate}, are no regular file: name a file or its folder")
    wanted = " or ".join(str(c) for c in candidates)
    raise BadInputError(f"weights of {entry.name} are not at {wanted}: put the file there or correct the site file")


def file_names(entry: ModelEntry) -> list[str]:
    """What a model's weights file may be called: for the model, or as it is published."""
    published = [entry.url.rpartition("/")[2]] if entry.url else []
    return [*(f"{entry.name}{suffix}" for suffix in SUFFIXES), *published]


def missing(entry: ModelEntry, places: Places) -> BadInputError:
    """What to say when no file was found and the hub may not be asked."""
    known = [f"{path}{'' if path.exists() else ' (which is not there)'}" for path in places.weights.values()]
    folders = ", ".join(known) or "a folder named under [weights]"
    if entry.url:
        return BadInputError(
            f"no weights for {entry.name}: fetch {entry.url} and put it into {folders} (site file, [weights])"
        )
    hub = "or allow the hub" if entry.hub else "the hub does not serve this model"
    return BadInputError(
        f"no weights for {entry.name}: put {entry.name}.safetensors or .pth into {folders} (site file, [weights]); "
        f"{hub}"
    )


def checked_sha256(path: Path, entry: ModelEntry, places: Places) -> str:
    """The file's sha256, which is the one the entry pins, or where it pins none the one that was read first.

    Raises BadInputError at a mismatch, and for a pickled file of a detector or segmenter of which no digest is known,
    until the user says that it is to be trusted. It is not pinned here: only a file that fits the model is
    (`hub_pins.pin`).
    """
    found = file_sha256(path)
    for known, where in ((entry.sha256, "the table of models"), (entry.sha256_prefix, "its published name")):
        if known is not None and not found.startswith(known):
            raise BadInputError(_another(path, entry, found, known, where))
    if not is_held(entry, path):
        return found
    known = hub_pins.pinned(entry)
    if known is not None and found != known:
        raise BadInputError(_another(path, entry, found, known, f"its first reading ({hub_pins.file()})"))
    if known is None and _is_pickled(path) and not places.trust:
        raise BadInputError(
            f"weights file {path}: no sha256 is known for {entry.name}, and this PyTorch file, {found[:12]}..., "
            "was never read here: run with --trust to take it, and every later one is held to it"
        )
    return found


def is_held(entry: ModelEntry, path: Path) -> bool:
    """Whether nothing says beforehand which file is the model's, so that the first that is read decides.

    That is so of what is published without a known digest, and of a detector's or segmenter's pickled file; weights of
    one's own as safetensors may change.
    """
    if entry.sha256 or entry.sha256_prefix:
        return False
    return bool(entry.url) or (isinstance(entry.build, Configured) and _is_pickled(path))


def _is_pickled(path: Path) -> bool:
    return kind_of(path) != "safetensors"


def _another(path: Path, entry: ModelEntry, found: str, known: str, where: str) -> str:
    fetch = f"fetch {entry.url}" if entry.url else "fetch the right file"
    return (
        f"weights file {path} has sha256 {found[:12]}..., but that of {entry.name} is {known[:12]}... by {where}: "
        f"{fetch}"
    )


def weights_identity(entry: ModelEntry, places: Places, fetch: bool = True) -> str:
    """sha256 of the model's weights file, or of the hub's tensors; BadInputError if neither can be had.

    The hub is asked once: later its weights are held to the digest that was found then. Without `fetch` it is not
    asked, and weights that were never read are named by their tag.
    """
    path = find(entry, places)
    if path is not None:
        return checked_sha256(path, entry, places)
    if entry.hub and places.hub:
        known = hub_pins.pinned(entry)
        return known or (_from_hub(entry, places) if fetch else f"{entry.name} of the hub, not read yet")
    raise missing(entry, places)


def _from_hub(entry: ModelEntry, places: Places) -> str:
    from vitq.tasks.registry import load  # brings torch, which a suite with pinned weights is planned without

    return load(entry.task).load_model(entry.name, places).weights_sha256 or ""
