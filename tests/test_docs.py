"""Every code block of the documentation runs, page by page, as a reader would type it; small models, defaults only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Reader, blocks

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What a page installs is imported afresh by the next."""
    before = set(sys.modules)
    yield
    for name in [name for name in set(sys.modules) - before if name.startswith("vitq_")]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks((DOCS / page).read_text(encoding="utf-8"))])
def test_a_page_does_what_it_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITQ_SITE", raising=False)
    Reader(DOCS / page, tmp_path, monkeypatch).follow()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```python\nassert 1 == 2, 'one is not two'\n```\n", "one is not two"),
        ("```python\nprint('one')\n```\n\n```output\ntwo\n```\n", "two"),
        ("```python\nprint(85.67)\n```\n\n```output\n93.50\n```\n", "nothing like 93.5"),
        ("```console\n$ vitq list nothing\n```\n", "nothing"),
        ("```console\n$ rm -r /\n```\n", "nothing says how it is run"),
        ("```perl\nprint 1\n```\n", "nothing says how a block of 'perl' is checked"),
        ("```\nno language\n```\n", "no language"),
        ('```console title="Not run"\n$ vitq\n```\n', "page.md:2"),
    ],
)
def test_a_wrong_page_is_told(text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError, match=says):
        Reader(page, tmp_path, monkeypatch).follow()
