"""What lies in a folder of images sorted by class, and what is left out of it; read without torch.

Nothing is opened here. Regular files whose names end as JPEG or PNG do are the images, links to such files too. A name
of that kind that is something else (a folder, FIFO, device, or a link that leads nowhere) is refused, and so is a name
that no list could hold. Other files that may well be images, and folders nested deeper, are left out with a warning.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitq.datasets.listing import is_plain
from vitq.errors import BadInputError

SUFFIXES = (".jpeg", ".jpg", ".png")
_NO_IMAGES = (
    ".txt",
    ".csv",
    ".tsv",
    ".md",
    ".json",
    ".xml",
    ".html",
    ".yaml",
    ".yml",
    ".mat",
    ".lock",
    ".sha256",
    ".md5",
)
_SYSTEMS = ("thumbs.db", "desktop.ini", "license", "readme")
"""Files that systems and people leave beside images, in lower case."""


@dataclass
class LeftOut:
    """Files of a split that are not read although they may be images."""

    count: int = 0
    first: str = ""
    where: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """One more, by its path relative to the data set's folder."""
        self.first = self.first or path
        self.count += 1

    def warn(self, folder: Path, read: str) -> None:
        """Say so, once a split, and that images are read from `read`; the warning reaches the record."""
        if self.count:
            warnings.warn(
                f"{self.count} file{'s' if self.count > 1 else ''} in {folder} left out, the first is {self.first!r}: "
                f"images are read from {read} and end in {', '.join(SUFFIXES)}",
                UserWarning,
                stacklevel=2,
            )


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name, hidden things aside; BadInputError where it cannot be listed."""
    try:
        with os.scandir(folder) as found:
            return sorted((e for e in found if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise BadInputError(f"folder {folder} cannot be listed: {error.strerror}; correct it or its rights") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link that leads nowhere or in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def inside(prefix: str, name: str) -> str:
    """The path of a name below `prefix`, which is empty for the data set's folder itself."""
    return f"{prefix}/{name}" if prefix else name


def class_folders(folder: Path, split: str, left_out: LeftOut) -> list[str]:
    """Names of a split's folders; files beside them count as left out. BadInputError for a link that leads nowhere."""
    names = []
    for entry in entries(folder):
        if is_folder(entry):
            names.append(entry.name)
        elif entry.is_symlink() and not Path(entry.path).exists():
            raise BadInputError(f"{_shown(entry)} is a link that leads nowhere: mend or remove it")
        elif _may_be_image(entry.name):
            left_out.add(inside(split, entry.name))
    return names


def images(folder: Path, prefix: str, left_out: LeftOut) -> Iterator[str]:
    """Names of the images of one class, as `<prefix>/<name>`, sorted; BadInputError for what cannot be one."""
    for entry in entries(folder):
        if entry.name.lower().endswith(SUFFIXES):
            _check_image(entry)
            yield inside(prefix, entry.name)
        elif is_folder(entry):
            _count_nested(Path(entry.path), inside(prefix, entry.name), left_out)
        elif _may_be_image(entry.name):
            left_out.add(inside(prefix, entry.name))


def _check_image(entry: os.DirEntry[str]) -> None:
    if not is_plain(entry.name):
        raise BadInputError(f"{_shown(entry)} has a name that is not UTF-8 or holds a control character: rename it")
    try:
        if entry.is_file():
            return
        mode = entry.stat().st_mode
    except OSError:
        raise BadInputError(f"{_shown(entry)} is a link that leads nowhere: mend or remove it") from None
    kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
    kind = "a link that leads nowhere" if stat.S_ISLNK(mode) else kind
    raise BadInputError(f"{_shown(entry)} is named as an image but is {kind}: rename or remove it")


def _count_nested(folder: Path, prefix: str, left_out: LeftOut) -> None:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if not name.startswith(".") and _may_be_image(name):
                left_out.add(f"{prefix}/{(Path(place) / name).relative_to(folder).as_posix()}")


def _may_be_image(name: str) -> bool:
    lower = name.lower()
    return not lower.endswith(_NO_IMAGES) and lower not in _SYSTEMS


def _shown(entry: os.DirEntry[str]) -> str:
    """A path that can be printed on one line, whatever its name holds."""
    return entry.path if is_plain(entry.path) else ascii(entry.path)
