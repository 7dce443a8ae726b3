"""MkDocs hooks: fill in what pages generate, write equations as MathML, and refuse a page that loads from outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from directives import expand
from equations import to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from notebook_page import notebook
from outside import loads_from_outside

once = cache(notebook)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """The page's text with every `<!-- vitq: ... -->` replaced by what it names."""
    return _checked(page, lambda: expand(markdown, {"notebook": once}))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """The page's HTML with its equations as MathML, which browsers draw without a script."""
    return _checked(page, lambda: to_mathml(html))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """The finished page, unchanged; the build ends where a reader's browser would ask another host for anything."""
    for address in loads_from_outside(output):
        raise PluginError(f"{page.file.src_uri} loads {address}: nothing may be fetched when a page is read")
    return output


def _checked(page: Page, made: Callable[[], str]) -> str:
    try:
        return made()
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error
