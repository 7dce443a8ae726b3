"""A data set of Hugging Face's package `datasets` as a folder of one's own; read without torch.

By the hub's name (`hf:owner/name`, `hf:owner/name:config`), or a local folder that `save_to_disk` wrote or that holds
Parquet files. The images are written out once, byte for byte, into vitq's cache folder, under a name that follows from
the package's own fingerprints, with a CSV of their labels: from there on it is a folder as any other.

That package bears the name of our own folder, so that it is imported here alone, when it is needed, and never found in
a checkout's root.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitq.datasets.listing import is_plain
from vitq.datasets.own_layout import TRAIN, VAL, WORDS_OF_VAL
from vitq.digests import cache_folder
from vitq.errors import BadInputError
from vitq.words import nearest, short

PREFIX = "hf:"
SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` leaves in a folder."""
LABELS = "labels.csv"
_LABEL_TYPES = ("string", "large_string", "int64", "int32", "int16", "int8", "uint8")
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}


def is_hugging_face(given: str | Path) -> bool:
    """Whether this names a data set of the hub, or a folder that the package wrote."""
    if str(given).startswith(PREFIX):
        return True
    folder = Path(given)
    return folder.is_dir() and (any((folder / name).is_file() for name in SAVED) or bool(_parquet(folder)))


def written_out(given: str | Path, image: str | None = None, label: str | None = None) -> tuple[Path, tuple[str, ...]]:
    """The folder of its images with `labels.csv`, and the names of its classes in the order of their indices.

    `image` and `label` name its columns where there are several. BadInputError, in one line, where the package is not
    installed, the data set cannot be had, or holds no labelled images.
    """
    package = library()
    splits = _splits(_loaded(package, given), given)
    features = splits[VAL].features
    image = _column(image, "image", [n for n, f in features.items() if isinstance(f, package.Image)], features, given)
    label = _column(label, "label", _label_columns(package, features, image), features, given)
    names = _names(package, splits, label, given)
    key = repr([(name, split._fingerprint) for name, split in splits.items()] + [image, label])
    folder = _home() / hashlib.sha256(key.encode()).hexdigest()[:24]
    if not (folder / LABELS).is_file():
        rows = {name: split.cast_column(image, package.Image(decode=False)) for name, split in splits.items()}
        _write(folder, rows, image, label, names, given)
    return folder, names


def library() -> Any:
    """The package, never our own folder of that name; BadInputError where it is not installed."""
    ours, before = Path(__file__).resolve().parent.parent, sys.path[:]
    sys.path[:] = [entry for entry in before if Path(entry or ".").resolve() != ours]
    try:
        found = importlib.import_module("datasets")
    except ImportError:
        raise BadInputError("Hugging Face's package datasets is not installed: pip install 'vitq[hf]'") from None
    finally:
        sys.path[:] = before
    if not hasattr(found, "load_dataset"):
        raise BadInputError("the package datasets that Python finds is not Hugging Face's: pip install 'vitq[hf]'")
    return found


def _loaded(package: Any, given: str | Path) -> Any:
    text = str(given)
    try:
        if text.startswith(PREFIX):
            name, _, config = text.removeprefix(PREFIX).partition(":")
            return package.load_dataset(name, config or None)
        folder = Path(given)
        if any((folder / name).is_file() for name in SAVED):
            return package.load_from_disk(str(folder))
        return package.load_dataset("parquet", data_files=_parquet(folder))
    except Exception as error:  # of many libraries: no network, no such name, damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BadInputError(f"data set {short(text)} cannot be had ({reason})") from None


def _parquet(folder: Path) -> dict[str, list[str]]:
    """Parquet files by split, told by the beginning of their names; all of one split where none is told."""
    files = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    found: dict[str, list[str]] = {}
    for file in files:
        word = next((w for w in (TRAIN, *WORDS_OF_VAL) if file.name.startswith(w)), VAL)
        found.setdefault(word, []).append(str(file))
    return found


def _splits(loaded: Any, given: str | Path) -> dict[str, Any]:
    """`train` and `val`, or `val` alone where it has one split; BadInputError where it has others."""
    if not isinstance(loaded, Mapping):
        return {VAL: loaded}
    val = next((word for word in WORDS_OF_VAL if word in loaded), None)
    if len(loaded) == 1:
        return {VAL: next(iter(loaded.values()))}
    if val is None:
        raise BadInputError(
            f"{given} has the splits {', '.join(loaded)}, none of which is to be evaluated on (validation)"
        )
    return {TRAIN: loaded[TRAIN], VAL: loaded[val]} if TRAIN in loaded else {VAL: loaded[val]}


def _column(wanted: str | None, what: str, fitting: list[str], features: Mapping[str, Any], given: str | Path) -> str:
    """The column that is named, or the only one that fits, or of several the one called as it should be."""
    if wanted is not None:
        if wanted not in features:
            raise BadInputError(f"{given} has no column {short(wanted)}; {nearest(wanted, features)}")
        return wanted
    if len(fitting) == 1 or what in fitting:
        return what if what in fitting else fitting[0]
    some = f"several ({', '.join(fitting)}): name one" if fitting else f"none among {', '.join(features)}"
    raise BadInputError(f"{given} has no one column of {what}s but {some}")


def _label_columns(package: Any, features: Mapping[str, Any], image: str) -> list[str]:
    classes = [name for name, feature in features.items() if isinstance(feature, package.ClassLabel)]
    plain = [n for n, feature in features.items() if n != image and getattr(feature, "dtype", "") in _LABEL_TYPES]
    return classes or ["label"] * ("label" in plain) or plain


def _names(package: Any, splits: Mapping[str, Any], label: str, given: str | Path) -> tuple[str, ...]:
    feature = splits[VAL].features[label]
    if isinstance(feature, package.ClassLabel):
        names = [str(name) for name in feature.names]
    else:
        found = {value for split in splits.values() for value in split.unique(label)}
        if None in found:
            raise BadInputError(f"{given} has images without a label in column {label}")
        count = max(found) + 1 if all(isinstance(value, int) for value in found) else None
        names = sorted(map(str, found)) if count is None else [str(index) for index in range(count)]
    plain = [name.strip() for name in names]
    if len(set(plain)) < len(plain) or not all(name and is_plain(name) for name in plain):
        raise BadInputError(f"{given} has classes that are empty, equal or hold control characters")
    return tuple(plain)


def _home() -> Path:
    folder = cache_folder()
    if folder is None:
        raise BadInputError("there is no cache folder to write images to: name one with VITQ_CACHE")
    return folder / "hugging-face"


def _write(
    folder: Path, splits: Mapping[str, Any], image: str, label: str, names: tuple[str, ...], given: str | Path
) -> None:
    """Images and labels, whole or not at all."""
    half = folder.with_name(f"{folder.name}.{os.getpid()}.half")
    try:
        shutil.rmtree(half, ignore_errors=True)
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerow(("image", "label"))
        for split, rows in splits.items():
            (half / split).mkdir(parents=True)
            writer.writerows(_written(half, split, rows, image, label, names, given))
        (half / LABELS).write_text(table.getvalue(), encoding="utf-8", newline="")
        if not (folder / LABELS).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            half.rename(folder)
    except OSError as error:
        raise BadInputError(f"images of {given} cannot be written to {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _written(
    half: Path, split: str, rows: Any, image: str, label: str, names: tuple[str, ...], given: str | Path
) -> Iterator[tuple[str, str]]:
    """Path and class of each image, which is written meanwhile."""
    for number, row in enumerate(rows):
        held, where = row[image], f"image {number} of {given}, {split}"
        if held is None:
            raise BadInputError(f"{where} is not there")
        content = held["bytes"] if held.get("bytes") is not None else Path(held["path"]).read_bytes()
        suffix = next((suffix for magic, suffix in _MAGIC.items() if content.startswith(magic)), None)
        if suffix is None:
            raise BadInputError(f"{where} is neither JPEG nor PNG: convert it")
        path = f"{split}/{number:08d}.{suffix}"
        (half / path).write_bytes(content)
        yield path, _class_of(row[label], names, where)


def _class_of(value: Any, names: tuple[str, ...], where: str) -> str:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    if isinstance(value, str) and value.strip() in names:
        return value.strip()
    raise BadInputError(f"{where} has the label {short(value)}, which is no class")
