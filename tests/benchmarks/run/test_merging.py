"""`vitq merge`: nothing lost, nothing twice, contradictions refused with a line each and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

from commands import vitq_here
from fake_cells import counted, order
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.benchmarks.run.merging import joined
from vitq.benchmarks.run.store import Store, read_lines
from vitq.record import Asked, Line, Record


def run_of(folder: Path, *names: str) -> Path:
    """A results folder in which these cells have ended."""
    store = Store(folder)
    for name in names:
        one = order(name, folder)
        store.append(counted(one, "it was hot" if name.startswith("bad") else None))
        store.append(one.asked)
        path = folder / "artifacts" / name / "note.txt"
        path.parent.mkdir(parents=True)
        path.write_text(name)
    return folder


def cells(folder: Path) -> list[str]:
    return sorted(row.cell.id for row in Store(folder).rows())


def test_two_folders_become_one_and_again_is_nothing_new(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", "a", "b", "bad"), run_of(tmp_path / "two", "b", "c")
    before = (two / "records.jsonl").read_bytes()
    done = vitq_here("merge", one, two, "-o", tmp_path / "both")
    assert done.code == 0
    assert done.out == f"8 lines, 8 of them new, and 4 new files in {tmp_path / 'both'}\n"
    assert cells(tmp_path / "both") == ["a", "b", "bad", "c"]
    assert (tmp_path / "both/artifacts/c/note.txt").read_text() == "c"
    assert (two / "records.jsonl").read_bytes() == before
    again = vitq_here("merge", one, two, "-o", tmp_path / "both")
    assert again.out.startswith("8 lines, 0 of them new, and 0 new files")
    assert vitq_here("merge", one, two).code == 0
    assert cells(one) == ["a", "b", "bad", "c"]
    assert (one / "records.jsonl").read_bytes() == (tmp_path / "both/records.jsonl").read_bytes()


def test_records_that_contradict_each_other_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", "a", "b"), run_of(tmp_path / "two", "a", "b", "c")
    text = (two / "records.jsonl").read_text()
    (two / "records.jsonl").write_text(text.replace('"macs":1', '"macs":2'))
    before = (one / "records.jsonl").read_bytes()
    done = vitq_here("merge", one, two)
    assert done.code == 2
    assert [line.split(" (key")[0] for line in done.err.splitlines()] == ["vitq: counts of a", "vitq: counts of b"]
    assert all(line.endswith(f"differs between {one} and {two}: operations") for line in done.err.splitlines())
    assert (one / "records.jsonl").read_bytes() == before
    assert not (one / "artifacts/c").exists()
    assert vitq_here("merge", one, two, "-o", tmp_path / "new").code == 2
    assert not (tmp_path / "new/records.jsonl").exists()


def test_a_measurement_that_failed_there_and_was_done_here_is_done(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", "bad"), run_of(tmp_path / "two")
    lines = read_lines(one)
    record = counted(order("bad", two))
    Store(two).append(record.model_copy(update={"provenance": record.provenance.model_copy(update={"finished": "3"})}))
    assert vitq_here("merge", two, one).code == 0
    assert [row.status for row in Store(two).rows()] == ["done"]
    assert {r.status for r in read_lines(two) if isinstance(r, Record)} == {"done", "failed"}
    assert len(read_lines(two)) == len(lines) + 1


def test_an_outcome_file_that_differs_is_refused_and_another_artifact_stays_as_it_is(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", "a"), run_of(tmp_path / "two", "a")
    (two / "artifacts/a/note.txt").write_text("drawn anew")
    assert "1 artifacts differ, and the first stays" in vitq_here("merge", one, two).out
    assert (one / "artifacts/a/note.txt").read_text() == "a"
    for folder, word in ((one, "x"), (two, "y")):
        (folder / "outcomes").mkdir()
        (folder / "outcomes/k.npz").write_text(word)
    vitq_here("merge", one, two).refused("outcomes/k.npz differs between")


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    one = run_of(tmp_path / "one", "a")
    vitq_here("merge", one).refused("nothing to merge")
    vitq_here("merge", one, tmp_path / "none").refused("is no folder")
    (tmp_path / "empty").mkdir()
    vitq_here("merge", one, tmp_path / "empty").refused("no records at")
    (one / ".claims").mkdir()
    with FileLock(one / ".claims" / "a.lock"):
        vitq_here("merge", one, run_of(tmp_path / "two", "b")).refused("another vitq works on")
    os.truncate(one / "records.jsonl", 40)


LINES = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["done", "bad", "asked"]), st.integers(0, 5)))


def line(name: str, what: str, when: int) -> Line:
    one = order(name, Path("/nowhere"))
    made: Line = one.asked if what == "asked" else counted(one, "it was hot" if what == "bad" else None)
    return made.model_copy(update={"provenance": made.provenance.model_copy(update={"finished": str(when)})})


@settings(max_examples=60, deadline=None)
@given(LINES, LINES)
def test_joining_loses_no_line_and_again_gives_the_same(left: list, right: list) -> None:
    one, two = ([line(*each) for each in sorted(lines, key=lambda e: e[2])] for lines in (left, right))
    both = joined([one, two])
    finished = {each.key for each in [*one, *two] if isinstance(each, Record) and each.finished}
    assert {each.key for each in both if isinstance(each, Record) and each.finished} == finished
    others = {e.model_dump_json() for e in [*one, *two] if isinstance(e, Asked) or not e.finished}
    assert others == {e.model_dump_json() for e in both if isinstance(e, Asked) or not e.finished}
    assert joined([both, one]) == joined([both, two]) == joined([both]) == both
