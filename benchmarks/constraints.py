"""Write the exact versions behind published results as a constraints file for pip.

    python -m vitq.benchmarks.constraints reports/results --out reports/results/constraints.txt
    pip install -c reports/results/constraints.txt vitq        # the environment that made them, later

Pinned is what the records say that they were computed with, and what those packages and vitq need here; so it is run
where the results were made, and refuses an environment that differs from them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from vitq.benchmarks.run.store import read_lines
from vitq.errors import BadInputError
from vitq.record import Line

EXTRAS = ("", "mm", "runtimes", "ray", "hf")
"""Extras of vitq whose packages may have computed something; those that are not installed are left out."""


def main(words: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 with one line where records cannot be read, disagree, or are not of this environment."""
    parser = argparse.ArgumentParser(prog="constraints", description="Exact versions behind results.")
    parser.add_argument("results", type=Path, nargs="+", help="results folders, or folders that hold some")
    parser.add_argument("--out", type=Path, required=True, help="the constraints file")
    asked = parser.parse_args(words)
    try:
        text = constraints([folder for place in asked.results for folder in folders_of(place)])
        asked.out.write_text(text, encoding="utf-8")
    except (BadInputError, OSError) as error:
        print(f"constraints: {error}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {sum(not line.startswith('#') for line in text.splitlines())} packages")
    return 0


def folders_of(place: Path) -> list[Path]:
    """Folders with records, `place` itself or below it, by name; BadInputError where there is none."""
    found = sorted(path.parent for path in place.rglob("records.jsonl"))
    if not found:
        raise BadInputError(f"{place} holds no results: name a folder with records.jsonl")
    return found


def constraints(folders: Sequence[Path]) -> str:
    """The file's text; BadInputError where records disagree, or another version of their packages is installed."""
    lines = [line for folder in folders for line in read_lines(folder)]
    recorded = _agreed(lines)
    pinned = {**_needed(["vitq", *recorded]), **recorded}
    pythons = sorted({line.provenance.python for line in lines if line.provenance.python})
    versions = sorted({line.provenance.vitq for line in lines})
    head = [
        f"# Exact versions behind {', '.join(folder.name for folder in folders)}.",
        f"# vitq {', '.join(versions)}; Python {', '.join(pythons)}; made by benchmarks/constraints.py",
    ]
    named = {_normal(name): version for name, version in pinned.items() if _normal(name) != "vitq"}
    # Builds of one version, as 2.8.0+cpu, come from places of their own; the version alone holds for all of them.
    rows = [f"{name}=={version.partition('+')[0]}" for name, version in sorted(named.items())]
    return "\n".join([*head, *rows, ""])


def _agreed(lines: Iterable[Line]) -> dict[str, str]:
    """The one version of each package that the records name."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        for name, version in line.provenance.packages.items():
            found[name].add(version)
    for name, versions in found.items():
        if len(versions) > 1:
            raise BadInputError(f"results were made with {name} {' and '.join(sorted(versions))}: pin them apart")
    recorded = {name: next(iter(versions)) for name, versions in found.items()}
    for name, version in recorded.items():
        here = _installed(name)
        if here != version:
            raise BadInputError(
                f"the results are of {name} {version}, and here is {here or 'none'}: run this where they were made"
            )
    return recorded


def _needed(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of what these need, they themselves included, all the way down."""
    found: dict[str, str] = {}
    left = [*names]
    while left:
        name = left.pop()
        version = _installed(name)
        if version is None or _normal(name) in found:
            continue
        found[_normal(name)] = version
        extras = EXTRAS if _normal(name) == "vitq" else ("",)
        for text in importlib.metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(wanted.name)
    return found


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
