"""Digests are remembered only while nothing changed, and the memory may be missing, damaged or locked."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitq import digests


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is really read."""
    read: list[Path] = []
    real = digests._hash
    monkeypatch.setattr(digests, "_hash", lambda path: (read.append(path), real(path))[1])
    return read


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was not touched for a while, as far as the module's clock says."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    later = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(digests.time, "time_ns", lambda: later)
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once(old: Path, hashed: list[Path]) -> None:
    assert digests.file_sha256(old) == digests.file_sha256(old) == sha(old)
    assert hashed == [old]


def test_same_size_and_time_of_change_do_not_hide_a_change(old: Path, hashed: list[Path]) -> None:
    digests.file_sha256(old)
    stamp = old.stat()
    old.write_bytes(b"CONTENT")
    os.utime(old, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert digests.file_sha256(old) == sha(old)
    assert len(hashed) == 2


def test_a_file_just_changed_is_not_remembered(tmp_path: Path, hashed: list[Path]) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"1")
    digests.file_sha256(path)
    digests.file_sha256(path)
    assert len(hashed) == 2


def test_many_files_keep_their_digests(tmp_path: Path, old: Path, hashed: list[Path]) -> None:
    paths = [tmp_path / f"many{i}" for i in range(1200)]
    for i, path in enumerate(paths):
        path.write_bytes(str(i).encode())
    first = digests.files_sha256(paths)
    assert first == {path: sha(path) for path in paths}
    assert digests.files_sha256(paths) == first
    assert len(hashed) == 1200


@pytest.mark.parametrize("harm", ["text", "schema", "folder", "fifo", "rows", "unwritable"])
def test_a_harmed_memory_costs_time_alone(harm: str, old: Path, cache: Path) -> None:
    digests.file_sha256(old)
    database = cache / "digests-1.sqlite3"
    if harm == "rows":
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE digests SET sha256 = 'x'")
    else:
        database.unlink()
    if harm == "text":
        database.write_text("no database at all\n" * 99)
    elif harm == "schema":
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE digests (other INT)")
    elif harm == "folder":
        database.mkdir()
    elif harm == "fifo":
        os.mkfifo(database)
    elif harm == "unwritable":
        cache.rmdir()
        cache.write_text("a file where the folder should be")
    assert digests.file_sha256(old) == sha(old)
    assert digests.file_sha256(old) == sha(old)


def test_a_locked_memory_costs_time_alone(old: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests.file_sha256(old)
    real = sqlite3.connect
    monkeypatch.setattr(digests.sqlite3, "connect", lambda path, timeout: real(path, timeout=0.05))
    holder = real(cache / "digests-1.sqlite3", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert digests.file_sha256(old) == sha(old)
    holder.close()
    assert (cache / "digests-1.sqlite3").is_file(), "another process uses it"


def test_processes_share_the_memory(old: Path, cache: Path, tmp_path: Path) -> None:
    paths = [tmp_path / f"shared{i}" for i in range(50)]
    for path in paths:
        path.write_bytes(path.name.encode())
    code = (
        "import sys, pathlib, vitq.digests as d; d.FRESH_NS = 0; "
        "print(*d.files_sha256([pathlib.Path(p) for p in sys.argv[1:]]).values())"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    wanted = [sha(path) for path in paths]
    assert all(one.communicate()[0].split() == wanted for one in running)
    with sqlite3.connect(cache / "digests-1.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM digests").fetchone() == (50,)


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "fifo", tmp_path / "loop", tmp_path / "gone", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError) as error:
            digests.file_sha256(path)
        assert str(path) in str(error.value)


def test_where_the_memory_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert digests.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("VITQ_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert digests.cache_folder() == tmp_path / "xdg" / "vitq"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert digests.cache_folder() == tmp_path / ".cache" / "vitq"


def test_no_torch_is_needed() -> None:
    code = "import sys, vitq.digests, vitq.datasets.identity, vitq.datasets.registry; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
