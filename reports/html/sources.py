"""Where the papers' figures come from: each source once, with its address if it has one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from vitq.escape import line
from vitq.reports.figure import Figure

_ARXIV = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})\b", re.IGNORECASE)
_GITHUB = re.compile(r"\bgithub\.com/([\w.-]+/[\w.-]+)")
_REPOSITORY = re.compile(r"^([\w-]+/[\w.-]+)\b(?= (?:README|issue|experiment))")


class Source(NamedTuple):
    """A source: its words, evidence, tables, files of figures, number of figures, and addresses by what they are."""

    id: str
    words: str
    evidence: list[str]
    tables: list[str]
    files: list[str]
    figures: int
    links: list[tuple[str, str]]


def source_id(figure: Figure) -> str:
    """The anchor of a figure's source."""
    return f"source-{hashlib.sha256(figure.source.encode()).hexdigest()[:10]}"


def sources(figures: Sequence[Figure]) -> list[Source]:
    """Every source of these figures, by its words."""
    grouped: dict[str, list[Figure]] = {}
    for figure in figures:
        grouped.setdefault(figure.source, []).append(figure)
    return [
        Source(
            source_id(of[0]),
            line(words),
            sorted({f.evidence for f in of}),
            sorted({line(f.table) for f in of if f.table}),
            sorted({line(f.file) for f in of if f.file}),
            len(of),
            addresses(words),
        )
        for words, of in sorted(grouped.items())
    ]


def addresses(words: str) -> list[tuple[str, str]]:
    """(text, https address) of the papers and repositories that a source names; none are guessed."""
    found = [(f"arXiv {number}", f"https://arxiv.org/abs/{number}") for number in _ARXIV.findall(words)]
    repositories = [*_GITHUB.findall(words), *_REPOSITORY.findall(words)]
    found += [(f"github.com/{name}", f"https://github.com/{name}") for name in dict.fromkeys(repositories)]
    return found
