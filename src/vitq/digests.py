"""sha256 of files, remembered between runs by path, device, inode, size and both times in nanoseconds.

The memory is an sqlite3 database in the user's cache folder (`$VITQ_CACHE`, `$XDG_CACHE_HOME/vitq`, or
`~/.cache/vitq`). It saves time and decides nothing: where it cannot be read or written, is damaged or locked, files are
hashed again. A file that changed within the last two seconds is not remembered, for another change could leave the same
times.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, time of the last change of the content and of the inode, both in nanoseconds."""
FRESH_NS = 2_000_000_000
"""The coarsest time a file system keeps is two seconds (FAT)."""
_TABLE = "CREATE TABLE IF NOT EXISTS digests (path BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)"
_CHUNK = 500
_SAVED_EVERY = 2000


def cache_folder() -> Path | None:
    """Where digests are remembered, or None where the user has no home."""
    if given := os.environ.get("VITQ_CACHE"):
        return Path(given).expanduser()
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "vitq"
    try:
        return Path.home() / ".cache" / "vitq"
    except RuntimeError:
        return None


def file_sha256(path: Path) -> str:
    """Hex digest of a regular file; OSError where it cannot be read or is none (a FIFO is never opened)."""
    return files_sha256([path])[path]


def files_sha256(paths: Sequence[Path], tell: Callable[[int, int], None] | None = None) -> dict[Path, str]:
    """Hex digests of regular files, the unknown ones hashed by a thread a core; OSError as `file_sha256`.

    `tell(done, total)` hears how many of the unknown ones are hashed.
    """
    keys = {path: os.fsencode(path.absolute()) for path in paths}
    stamps = {path: _stamp(path, path.stat()) for path in keys}
    known = _remembered(list(keys.values()))
    digests = {p: known[key][1] for p, key in keys.items() if key in known and known[key][0] == _text(stamps[p])}
    unknown = [path for path in keys if path not in digests]
    fresh: dict[bytes, tuple[str, str]] = {}
    for done, (path, stamp, digest) in enumerate(_hashed(unknown), start=1):
        digests[path] = digest
        if time.time_ns() - max(stamp[3:]) > FRESH_NS:
            fresh[keys[path]] = _text(stamp), digest
        if len(fresh) >= _SAVED_EVERY:
            _remember(fresh)
            fresh = {}
        if tell:
            tell(done, len(unknown))
    _remember(fresh)
    return digests


def _stamp(path: Path, found: os.stat_result) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _text(stamp: Stamp) -> str:
    return " ".join(map(str, stamp))


def _hashed(paths: Sequence[Path]) -> Iterator[tuple[Path, Stamp, str]]:
    if len(paths) < 2:
        yield from map(_hash, paths)
        return
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        try:
            yield from pool.map(_hash, paths)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _hash(path: Path) -> tuple[Path, Stamp, str]:
    """The digest with the stamp of exactly what was hashed; a file that changes meanwhile is read again."""
    while True:
        _stamp(path, path.stat())
        with path.open("rb", buffering=0) as file:
            before, digest = _stamp(path, os.fstat(file.fileno())), hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            if before == _stamp(path, os.fstat(file.fileno())):
                return path, before, digest.hexdigest()


@contextlib.contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    """The memory, its table made; sqlite3.Error or OSError where there is none to be had."""
    folder = cache_folder()
    if folder is None:
        raise OSError(errno.ENOENT, "no cache folder")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digests-1.sqlite3"
    if path.exists():
        _stamp(path, path.stat())
    connection = sqlite3.connect(path, timeout=5)
    try:
        connection.execute(_TABLE)
        yield connection
    except sqlite3.DatabaseError as error:
        if not isinstance(error, sqlite3.OperationalError):  # damaged, not merely locked or read-only
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    finally:
        connection.close()


def _remembered(keys: Sequence[bytes]) -> dict[bytes, tuple[str, str]]:
    found: dict[bytes, tuple[str, str]] = {}
    with contextlib.suppress(sqlite3.Error, OSError), _database() as database:
        for i in range(0, len(keys), _CHUNK):
            some = keys[i : i + _CHUNK]
            marks = ",".join("?" * len(some))
            rows = database.execute(f"SELECT path, stamp, sha256 FROM digests WHERE path IN ({marks})", some)
            found |= {path: (stamp, digest) for path, stamp, digest in rows if _is_digest(digest)}
    return found


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def _remember(fresh: Mapping[bytes, tuple[str, str]]) -> None:
    if fresh:
        rows = [(path, stamp, digest) for path, (stamp, digest) in fresh.items()]
        with contextlib.suppress(sqlite3.Error, OSError), _database() as database, database:
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)
