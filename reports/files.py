"""Files that a record names: read only inside its results folder."""

from __future__ import annotations

from pathlib import Path

from vitq.errors import BadInputError
from vitq.escape import line


def inside(folder: Path, relative: str) -> Path:
    """The file `relative` of a results folder.

    Raises BadInputError where it leads out of the folder, itself or by a link, is gone, or is no regular file.
    """
    shown = line(str(relative))
    try:
        home = folder.resolve()
        place = (home / relative).resolve()
        if Path(relative).is_absolute() or not place.is_relative_to(home) or ".." in Path(relative).parts:
            raise BadInputError(f"a record names the file {shown!r}, which is not inside {folder}: it is not read")
        if not place.is_file():
            what = "is no regular file" if place.exists() else "is not there"
            raise BadInputError(f"a record names the file {shown!r} of {folder}, but it {what}: run the cell again")
    except (OSError, ValueError, RuntimeError) as error:  # too long a name, a NUL, links in a circle
        raise BadInputError(f"a record names the file {shown!r}, which cannot be read: {line(str(error))}") from None
    return place
