"""Every sample's outcome in a compact file beside the records, so that two cells can be compared sample by sample.

`outcomes/<key>.npz` holds what dense metrics are made of, image by image (`dense_outcomes`), or, by metric, what was right (eight samples a byte, in the order of the validation data), the
number of samples, and `samples`, the sha256 of the samples' names in their order: only runs with the same samples are
paired. A record's value must be the mean of its outcomes; a file that says otherwise is refused.
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

from vitq.dense_outcomes import Dense, arrays_of, from_arrays, value
from vitq.errors import BadInputError
from vitq.record import Metric

FOLDER = "outcomes"
_MOST_SAMPLES = 50_000_000


class Outcomes(NamedTuple):
    """By metric, whether each sample was right, [n] bool, or what it is made of; `samples` names them in order."""

    right: dict[str, NDArray[np.bool_]]
    samples: str
    dense: dict[str, Dense]


def samples_sha256(names: Sequence[str]) -> str:
    """What `samples` holds: sha256 of the samples' names in their order."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def packed(found: Mapping[str, NDArray[np.bool_] | Dense], samples: str) -> bytes:
    """The content of a file, of the outcomes of each metric."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, values in found.items():
        arrays |= {name: np.packbits(values)} if isinstance(values, np.ndarray) else arrays_of(values)
    first = next(iter(found.values()), np.zeros(0, bool))
    n = len(first) if isinstance(first, np.ndarray) else first.n
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
            right = {name: _unpacked(file[name], n) for name in metrics if name in file}
            dense = {name: of for of in from_arrays(file) for name in of.metrics() if name in metrics}
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BadInputError(f"outcomes {path} cannot be read ({error}): copy the folder outcomes again") from None
    for name, values in right.items():
        told = metrics[name]
        if told.n != n or not math.isclose(told.value, 100 * float(values.mean()), abs_tol=1e-6):
            raise BadInputError(f"outcomes {path} are not those of the record: {name} differs; copy both again")
    for name, of in dense.items():
        told = metrics[name]
        if told.n != n or of.n != n or not math.isclose(told.value, value(of, name), abs_tol=1e-6):
            raise BadInputError(f"outcomes {path} are not those of the record: {name} differs; copy both again")
    return Outcomes(right, samples, dense)


def _unpacked(words: NDArray[np.generic], n: int) -> NDArray[np.bool_]:
    bits = np.unpackbits(words.astype(np.uint8, casting="safe"))
    if not n <= len(bits) < n + 8:
        raise ValueError(f"{len(words)} bytes do not hold {n} outcomes")
    return bits[:n].astype(bool)
