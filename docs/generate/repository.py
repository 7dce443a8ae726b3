"""The repository that the pages are built in: its folders, and its own texts as pages."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def contributing() -> str:
    """CONTRIBUTING.md below its heading."""
    _, _, text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n")
    return text.strip()


def file(path: str, language: str) -> str:
    """A file of the repository as a block of code; ValueError where there is none."""
    found = ROOT / path
    if not found.is_file():
        raise ValueError(f"the repository has no file {path}")
    return f'``` {language} title="{path}"\n{found.read_text(encoding="utf-8").rstrip()}\n```'
