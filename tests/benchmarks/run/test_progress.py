"""What is said as a cell ends: its own result, whatever runtimes have no form of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rows import CELL, asked, cell, form, record

from vitq.benchmarks.run.progress import outcome
from vitq.record import Record

TIMED = record("latency", CELL, identity={"runtime": "b"}, latency=[form("fp32", [10.0]), form("xnor:b", [2.0])])
FORMLESS = record("latency", CELL, identity={"runtime": "a"}, status="unsupported", error="runs integers, not this")


def order(**keys: Record) -> Any:
    named = {"latency:" + name: each.key for name, each in keys.items()}
    return SimpleNamespace(cell=cell(CELL), asked=asked(CELL).model_copy(update={"keys": named}))


def test_a_cell_that_one_runtime_times_is_done_whatever_the_others_say() -> None:
    said = outcome(order(a=FORMLESS, b=TIMED), [FORMLESS, TIMED])
    assert said.startswith("done ")
    assert "fp32 10.0 ms, xnor:b 2.0 ms, 1 runtime without a form of it" in said
    assert "runs integers" not in said


def test_a_method_that_is_unsupported_is_said_so() -> None:
    model = record("model", CELL, status="unsupported", error="no such bits")
    said = outcome(order(a=FORMLESS), [model, FORMLESS])
    assert said.startswith("unsupported ")
    assert "no such bits" in said


def test_a_runtime_that_fails_is_a_failure() -> None:
    failed = record("latency", CELL, identity={"runtime": "a"}, status="failed", error="it broke")
    assert outcome(order(a=failed), [failed]).startswith("failed ")
