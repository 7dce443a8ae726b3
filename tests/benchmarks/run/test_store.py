import os
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.benchmarks.run.store import Store, read_lines
from vitq.errors import BadInputError
from vitq.record import Asked, CellKey, Line, Metric, Provenance, Record, key_of


def record(name: str, status: str = "done", error: str | None = None) -> Record:
    cell = CellKey(id=name, method="fp32", task="classification", dataset="digits", model="digits_vit", bits="FP32")
    identity = {"name": name}
    error = error or (None if status == "done" else "it broke")
    return Record(
        kind="model", key=key_of(identity), identity=identity, cell=cell, status=status, error=error,
        provenance=Provenance(vitq="0"),
    )  # fmt: skip


def names(lines: list[Line]) -> list[str]:
    return [line.cell.id for line in lines]


def test_records_come_back_in_order(tmp_path):
    store = Store(tmp_path)
    for name in "abc":
        store.append(record(name))
    assert names(Store(tmp_path).lines()) == ["a", "b", "c"]


def test_a_finished_cell_is_not_written_twice_but_a_failed_one_may_be_tried_again(tmp_path):
    store = Store(tmp_path)
    assert store.append(record("a", "failed"))
    assert store.append(record("a"))
    assert not store.append(record("a"))
    assert [r.status for r in store.lines()] == ["failed", "done"]


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400), text=st.text(max_size=80))
def test_a_line_cut_anywhere_is_set_aside_and_loses_nothing(tmp_path_factory, cut, text):
    folder = tmp_path_factory.mktemp("results")
    Store(folder).append(record("kept", error=text))
    whole = record("half", error=text).model_dump_json().encode()
    half = whole[: max(1, min(cut, len(whole) - 1))]
    with (folder / "records.jsonl").open("ab") as file:
        file.write(half)
    store = Store(folder)
    store.append(record("next"))
    assert names(store.lines()) == ["kept", "next"]
    assert store.set_aside == 1
    assert (folder / "records.broken").read_bytes() == half + b"\n"


def test_an_edited_line_is_named_and_left_alone(tmp_path):
    store = Store(tmp_path)
    store.append(record("a"))
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"schema_version": 2, "key": 1}\n' + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(BadInputError, match=r"line 1 is not a record"):
        store.lines()
    assert path.read_bytes() == before


def test_another_schema_version_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(record("a").model_copy(update={"schema_version": 99}).model_dump_json() + "\n")
    with pytest.raises(BadInputError, match="schema version 99"):
        read_lines(tmp_path)


def test_no_records_at_all_is_said(tmp_path):
    with pytest.raises(BadInputError, match="no records at"):
        read_lines(tmp_path / "nowhere")


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
    assert len(set(names(read_lines(tmp_path)))) == 120


def test_a_full_disk_is_one_clear_line_and_keeps_what_is_finished(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        store, written = Store(disk / "results"), []

        def fill() -> None:
            for i in range(200):
                store.append(record(f"r{i}", error="x" * 500))
                written.append(f"r{i}")

        with pytest.raises(BadInputError, match=r"disk of .* is full"):
            fill()
        assert written
        assert names(read_lines(disk / "results")) == written
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_whole_last_line_without_its_newline_counts(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(record("a").model_dump_json())
    assert names(read_lines(tmp_path)) == ["a"]
    store = Store(tmp_path)
    store.append(record("b"))
    assert names(store.lines()) == ["a", "b"]
    assert store.set_aside == 0


def test_a_cut_last_line_is_warned_of_by_those_who_only_read(tmp_path):
    text = record("a").model_dump_json()
    (tmp_path / "records.jsonl").write_text(f"{text}\n{text[:90]}")
    with pytest.warns(UserWarning, match="cut short"):
        assert names(read_lines(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"value":90.0', '"value":150.0', "metrics.top1.value"),
        ('"value":90.0', '"value":NaN', "metrics.top1.value"),
        ('"n":10', '"n":0', "metrics.top1.n"),
        ('"stderr":1.0', '"stderr":-1.0', "metrics.top1.stderr"),
        ('"name":"a"', '"name":"b"', "its key is not that of its identity"),
        ('"method":"fp32"', '"method":"no_such"', "no_such"),
        ('"schema_version":2', '"schema_version":1', "schema version 1"),
        ('"schema_version":2,', "", "no schema version"),
        ('"status":"done"', '"status":"failed"', "without a reason"),
        ('"kind":"accuracy"', '"kind":"counts"', "without what it measured"),
    ],
)
def test_a_line_that_cannot_be_true_is_refused_with_its_number(tmp_path, old, new, said):
    good = record("a").model_copy(
        update={"kind": "accuracy", "metrics": {"top1": Metric(value=90.0, n=10, stderr=1.0)}}
    )
    text = good.model_dump_json()
    assert old in text
    (tmp_path / "records.jsonl").write_text(text.replace(old, new, 1) + "\n")
    with pytest.raises(BadInputError, match="line 1") as refused:
        read_lines(tmp_path)
    assert said in str(refused.value)


def test_asking_again_for_the_same_writes_nothing(tmp_path):
    one = record("a")
    asked = Asked(cell=one.cell, keys={"model": one.key}, provenance=one.provenance)
    store = Store(tmp_path)
    assert store.append(asked)
    assert not store.append(asked)
    assert not Store(tmp_path).append(asked)
    assert store.append(asked.model_copy(update={"keys": {"model": "other"}}))
    assert store.append(asked)
