"""The Hugging Face hub: whether it may be asked, and whether it answers; read without torch."""

from __future__ import annotations

from vitq.errors import BadInputError

PREFIX = "hf-hub:"
"""What stands before the name of a model that only the hub knows, as timm has it."""
_SECONDS = 10.0
_ALLOWED = [True]


def allow(allowed: bool) -> None:
    """Say for this process whether names may be looked up on the hub (the site file's `hub`)."""
    _ALLOWED[0] = allowed


def refuse_unless_allowed(name: str) -> None:
    """BadInputError for a name of the hub where the site file forbids it."""
    if not _ALLOWED[0]:
        raise BadInputError(f"{name} is known to the hub alone, which hub = false of the site file forbids")


def reach(repository: str, *files: str) -> None:
    """Ask the hub once for a repository, unless one of these files of it is cached; whatever its client raises.

    The client itself asks again and again for half a minute, and says so each time, where there is no network.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    name, _, revision = repository.partition("@")
    if any(isinstance(try_to_load_from_cache(name, file, revision=revision or None), str) for file in files):
        return
    HfApi().model_info(name, revision=revision or None, timeout=_SECONDS)
