"""Labels in a CSV and the order of classes in a file, as a user writes them; read without torch.

A CSV has a header with the columns `image` (a path inside the data set's folder) and `label` (a class's name, or its
index); further columns are left alone. A file of classes is text, one name a line in the order of their indices, or
JSON: a list of names, name to index, or an object with `class_to_idx`, `label2id` or `id2label` (Hugging Face's
config.json has the last two).
"""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitq.datasets.calibration import check_names
from vitq.datasets.folders import SUFFIXES
from vitq.datasets.listing import Item, is_plain
from vitq.errors import BadInputError
from vitq.words import nearest, short

COLUMNS = ("image", "label")


@dataclass(frozen=True)
class Labelled:
    """Images of a CSV in the order of their paths, and the names of the classes in the order of their indices.

    `by_index` where the CSV gives indices alone and nothing names the classes: there may be more of them.
    """

    items: tuple[Item, ...]
    names: tuple[str, ...]
    by_index: bool


def text_of(path: Path, what: str) -> str:
    """A text file's content; BadInputError where it is missing, no regular file, empty, or not UTF-8."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInputError(f"{what} {path} is not a regular file")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInputError(f"{what} {path} is not there") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise BadInputError(f"{what} {path} cannot be read: {reason}") from None
    if not text.strip():
        raise BadInputError(f"{what} {path} is empty")
    return text


def read_labels(path: Path, root: Path, names: Sequence[str] | None = None) -> Labelled:
    """The images and classes of a CSV; BadInputError, one line, for whatever in it cannot be used."""
    rows = _rows(path)
    check_names([image for image, _ in rows], f"labels {path}")
    for image, _ in rows:
        if not image.lower().endswith(SUFFIXES):
            raise BadInputError(f"labels {path} names {short(image)}: images end in {', '.join(SUFFIXES)}")
        if not _is_file(root / image):
            raise BadInputError(f"labels {path} names {short(image)}, which is not in {root}")
    words = [label for _, label in rows]
    by_index = names is None and all(map(_is_index, words))
    if by_index:
        names = [str(index) for index in range(max(map(int, words)) + 1)]
    elif names is None:
        names = sorted(set(words))
    index = {name: place for place, name in enumerate(names)}
    items = sorted(Item(image, _label(path, image, word, index)) for image, word in rows)
    return Labelled(tuple(items), tuple(names), by_index)


def _rows(path: Path) -> list[tuple[str, str]]:
    text = text_of(path, "labels")
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        found = list(table)
    except csv.Error as error:
        raise BadInputError(f"labels {path} cannot be read as CSV: {str(error).splitlines()[0]}") from None
    header = [column.strip() for column in table.fieldnames or []]
    if any(header.count(column) != 1 for column in COLUMNS):
        raise BadInputError(
            f"labels {path} begins with {short(text.splitlines()[0])}: its first line has to name the columns "
            f"{' and '.join(COLUMNS)}"
        )
    if not found:
        raise BadInputError(f"labels {path} has a header but no row")
    keys = {column.strip(): column for column in table.fieldnames or []}
    rows = []
    for number, row in enumerate(found, start=2):
        image, label = ((row[keys[column]] or "").strip() for column in COLUMNS)
        if not image or not label:
            raise BadInputError(f"labels {path}: row {number} lacks {'a label' if image else 'an image'}")
        if not is_plain(label):
            raise BadInputError(f"labels {path}: row {number} has label {short(label)}, with control characters")
        rows.append((image.removeprefix("./"), label))
    return rows


def _label(path: Path, image: str, word: str, index: Mapping[str, int]) -> int:
    if word in index:
        return index[word]
    if _is_index(word):
        if int(word) < len(index):
            return int(word)
        raise BadInputError(f"labels {path}: {short(image)} has label {word}, but there are {len(index)} classes")
    raise BadInputError(f"labels {path}: {short(image)} has the unknown label {short(word)}; {nearest(word, index)}")


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdecimal() and str(int(word[:20])) == word and int(word) < 1_000_000


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long, a link in a circle
        return False


def read_classes(path: Path) -> tuple[str, ...]:
    """Names of classes in the order of their indices; BadInputError where the file does not give each once."""
    text = text_of(path, "classes")
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        names = _from_json(text, path)
    else:
        names = [line.strip() for line in text.split("\n") if line.strip()]
    seen: set[str] = set()
    for name in names:
        if not name or not is_plain(name):
            raise BadInputError(f"classes {path} has the name {short(name)}, empty or with control characters")
        if name in seen:
            raise BadInputError(f"classes {path} names {short(name)} twice: leave one")
        seen.add(name)
    return tuple(names)


def _from_json(text: str, path: Path) -> list[str]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"classes {path} is no JSON: {str(error).splitlines()[0]}") from None
    if isinstance(given, list) and given and all(isinstance(name, str) for name in given):
        return given
    pairs = _pairs(given)
    if not pairs or sorted(pairs.values()) != list(range(len(pairs))):
        raise BadInputError(
            f"classes {path} gives no order of classes: give a list of names, or class_to_idx with every index from 0 "
            "once"
        )
    return sorted(pairs, key=pairs.__getitem__)


def _pairs(given: Any) -> dict[str, int]:
    """Name to index, from the shapes that such a mapping has; empty where it is none."""
    if not isinstance(given, dict):
        return {}
    if isinstance(given.get("id2label"), dict):
        turned = given["id2label"]
        fit = all(_is_index(index) and isinstance(name, str) for index, name in turned.items())
        return {name: int(index) for index, name in turned.items()} if fit else {}
    found = next((given[key] for key in ("class_to_idx", "label2id") if isinstance(given.get(key), dict)), given)
    fit = all(isinstance(index, int) and not isinstance(index, bool) for index in found.values())
    return found if fit else {}
