"""Damaged inputs for fuzzers: bytes of a good file changed a little, and values of a good JSON document replaced."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

NASTY = [
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\t", b"\\", b"'", b'"', b"[" * 60, b"{" * 60, b"]", b"}", b"- ",
    b": ", b"&a ", b"*a", b"!!python/name:os.system ", b"!!binary ", b"!!set ", b"!!omap ", b"<<: *a",
    b"%YAML 1.1\n---\n", b"...", b"|", b">", b"? ", b"2026-02-31", b"1:30", b"yes",
    b"~", b".nan", b".inf", b"1e999", b"-1", b"0x1F",
    b"9" * 400, b"true", b"null", b"\xed\xa0\x80", "\u202e".encode(), b"#", b"=", b"[[x]]", b"\x1b[2J",
    b"\n\n", b"W0A0",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 0.0, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), 150, "",
    " ", "../../etc/passwd", "/etc/passwd", "a\nb", "<script>", "=1+1", "\x1b[31m", "\u202e", "x" * 2000,
    "W4A4", "done", "NaN", [], {}, [[]], [None], {"a": None}, {"": 1}, [1, 2], "5a" * 32,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, *good: bytes, most: int = 4) -> bytes:
    """One of `good` after one to `most` changes: bytes cut, put in, doubled or replaced."""
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 24)))
        new = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=8)))
        data = draw(
            st.sampled_from([data[:at] + new + data[end:], data[:end] + data[at:], data[:at] + new + data[at:]])
        )
    return data


@st.composite
def replaced(draw: st.DrawFn, *good: bytes, most: int = 3) -> bytes:
    """One of the JSON documents `good` with one to `most` values replaced, removed or renamed."""
    document = json.loads(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, most))):
        holders = list(_holders(document))
        if not holders:
            break
        holder, key = draw(st.sampled_from(holders))
        if key not in (holder if isinstance(holder, dict) else range(len(holder))):
            continue
        how = draw(st.integers(0, 9))
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[str(key) + "x"] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(document).encode()


def _holders(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(value, key), *_holders(inner)]
    return found
