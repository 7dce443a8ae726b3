"""What a browser would fetch from another host to show a page; links that a reader has to follow are none."""

from __future__ import annotations

from html.parser import HTMLParser

_FETCHED = {"src", "srcset", "poster", "data", "background"}
_RELATIONS = {"stylesheet", "preload", "prefetch", "preconnect", "dns-prefetch", "icon", "modulepreload", "manifest"}


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        names = set(_FETCHED)
        if tag == "link" and _RELATIONS & set(given.get("rel", "").split()):
            names.add("href")
        self.found += [given[name] for name in sorted(names & set(given)) if _outside(given[name])]
        if "url(" in given.get("style", "") and "//" in given["style"]:
            self.found.append(given["style"])


def _outside(address: str) -> bool:
    return address.startswith(("http:", "https:", "//"))


def loads_from_outside(html: str) -> list[str]:
    """Addresses on other hosts that the page's own markup fetches, in their order."""
    parser = _Loads()
    parser.feed(html)
    return parser.found
