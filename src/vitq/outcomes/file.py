"""Every sample's outcome in a compact file beside the records, so that two cells can be compared sample by sample.

`outcomes/<key>.npz` holds the number of samples `n`, and `samples`, the sha256 of the samples' names in their order:
only runs with the same samples are paired. Beside them lies, by metric, what was right (eight samples a byte, in the
order of the validation data); or the arrays of what several metrics are made of together, as `box/score` (`Matches`, of
boxes and of masks) and `pixels/truth` (`Overlaps`). A record's value must be that of its outcomes; a file that says
otherwise is refused.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitq.errors import BadInputError
from vitq.outcomes.matches import Matches
from vitq.outcomes.overlaps import Overlaps
from vitq.outcomes.right import Right
from vitq.record import Metric

FOLDER = "outcomes"
_MOST_SAMPLES = 50_000_000

Resampled = Matches | Overlaps
"""Outcomes of metrics that are no mean over samples, so that their error is found by resampling."""
Outcome = Right | Resampled


class Outcomes(NamedTuple):
    """What each metric is made of; `samples` names the samples and their order."""

    of: dict[str, Outcome]
    samples: str

    @property
    def right(self) -> dict[str, NDArray[np.bool_]]:
        """By metric that is a share, whether each sample was right, [n] bool."""
        return {name: found.values for name, found in self.of.items() if isinstance(found, Right)}


def samples_sha256(names: Sequence[str]) -> str:
    """What `samples` holds: sha256 of the samples' names in their order."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def packed(outcomes: Mapping[str, NDArray[np.bool_] | Outcome], samples: str) -> bytes:
    """The content of a file, from outcomes by metric; those of several metrics together are written once."""
    arrays: dict[str, NDArray[np.generic]] = {}
    n = 0
    for name, found in outcomes.items():
        if isinstance(found, Matches | Overlaps):
            n = found.n
            arrays |= {f"{_place(found)}/{part}": array for part, array in found.arrays().items()}
        else:
            values = found.values if isinstance(found, Right) else found
            n = len(values)
            arrays[name] = np.packbits(np.asarray(values, dtype=bool))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:  # dates left out: the same outcomes, the same bytes
        for name, array in {**arrays, "n": np.array(n), "samples": np.array(samples)}.items():
            entry = io.BytesIO()
            np.save(entry, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def read(path: Path, metrics: Mapping[str, Metric]) -> Outcomes:
    """Outcomes that belong to these metrics; BadInputError where the file is missing, broken or says something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            n, samples = int(file["n"]), str(file["samples"])
            if not 0 < n < _MOST_SAMPLES:
                raise ValueError(f"{n} samples")
            right = {name: Right(_unpacked(file[name], n)) for name in metrics if name in file}
            together = _together({name: file[name] for name in file.files if "/" in name})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(f"outcomes {path} cannot be read ({error}): copy the folder outcomes again") from None
    of: dict[str, Outcome] = {**right, **{name: each for each in together for name in each.metrics if name in metrics}}
    for name, found in of.items():
        told, value = metrics[name], found.value(name)
        if not told.n == n == found.n or value is None or not math.isclose(told.value, value, abs_tol=1e-6):
            raise BadInputError(f"outcomes {path} are not those of the record: {name} differs; copy both again")
    return Outcomes(of, samples)


def _place(found: Resampled) -> str:
    return found.by if isinstance(found, Matches) else "pixels"


def _together(arrays: Mapping[str, NDArray[np.generic]]) -> list[Resampled]:
    """What several metrics are made of together; KeyError, TypeError or ValueError where arrays do not fit."""
    places: dict[str, dict[str, NDArray[np.generic]]] = {}
    for name, array in arrays.items():
        place, _, part = name.partition("/")
        places.setdefault(place, {})[part] = array
    found: list[Resampled] = []
    for place, parts in places.items():
        if place == "box" or place == "mask":
            found.append(Matches.of("box" if place == "box" else "mask", parts))
        elif place == "pixels":
            found.append(Overlaps.of(parts))
        else:
            raise ValueError(f"unknown outcomes {place!r}")
    return found


def _unpacked(words: NDArray[np.generic], n: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(words.astype(np.uint8, casting="safe"))
    if not n <= len(bits) < n + 8:
        raise ValueError(f"{len(words)} bytes do not hold {n} outcomes")
    return bits[:n].astype(bool)
