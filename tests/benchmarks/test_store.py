import os
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.benchmarks.record import CellKey, Provenance, Record
from vitq.benchmarks.store import Store, read_records
from vitq.errors import BadInputError


def record(name: str, status: str = "done", error: str | None = None) -> Record:
    cell = CellKey(id=name, method="fp32", task="classification", dataset="digits", model="digits_vit", bits="FP32")
    return Record(fingerprint=name, cell=cell, status=status, error=error, provenance=Provenance(vitq="0"))


def test_records_come_back_in_order(tmp_path):
    store = Store(tmp_path)
    for name in "abc":
        store.append(record(name))
    assert [r.fingerprint for r in Store(tmp_path).records()] == ["a", "b", "c"]


def test_a_finished_cell_is_not_written_twice_but_a_failed_one_may_be_tried_again(tmp_path):
    store = Store(tmp_path)
    assert store.append(record("a", "failed"))
    assert store.append(record("a"))
    assert not store.append(record("a"))
    assert [r.status for r in store.records()] == ["failed", "done"]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400), text=st.text(max_size=80))
def test_a_line_cut_anywhere_is_set_aside_and_loses_nothing(tmp_path_factory, cut, text):
    folder = tmp_path_factory.mktemp("results")
    Store(folder).append(record("kept", error=text))
    whole = record("half", error=text).model_dump_json().encode()
    half = whole[: max(1, min(cut, len(whole)))]
    with (folder / "records.jsonl").open("ab") as file:
        file.write(half)
    store = Store(folder)
    store.append(record("next"))
    assert [r.fingerprint for r in store.records()] == ["kept", "next"]
    assert store.set_aside == 1
    assert (folder / "records.broken").read_bytes() == half + b"\n"


def test_an_edited_line_is_named_and_left_alone(tmp_path):
    store = Store(tmp_path)
    store.append(record("a"))
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"fingerprint": 1}\n' + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(BadInputError, match=r"line 1 is not a record"):
        store.records()
    assert path.read_bytes() == before


def test_another_schema_version_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(record("a").model_copy(update={"schema_version": 99}).model_dump_json() + "\n")
    with pytest.raises(BadInputError, match="schema version 99"):
        read_records(tmp_path)


def test_no_records_at_all_is_said(tmp_path):
    with pytest.raises(BadInputError, match="no records at"):
        read_records(tmp_path / "nowhere")


def test_two_writers_do_not_corrupt_each_other(tmp_path):
    def write(prefix: str) -> None:
        store = Store(tmp_path)
        for i in range(40):
            store.append(record(f"{prefix}{i}"))

    threads = [threading.Thread(target=write, args=(p,)) for p in ("x", "y", "z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({r.fingerprint for r in read_records(tmp_path)}) == 120


def test_a_full_disk_is_one_clear_line_and_keeps_what_is_finished(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        store, names = Store(disk / "results"), []

        def fill() -> None:
            for i in range(200):
                store.append(record(f"r{i}", error="x" * 500))
                names.append(f"r{i}")

        with pytest.raises(BadInputError, match=r"disk of .* is full"):
            fill()
        assert names
        assert [r.fingerprint for r in read_records(disk / "results")] == names
    finally:
        subprocess.run(["umount", disk], check=True)
