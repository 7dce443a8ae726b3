"""What the page holds besides its words: data and libraries as compressed text, pictures as data addresses.

Data are gzip in base64: a fifth of the size of their JSON, and an alphabet in which no markup can be written. The
browser unpacks them by its own `DecompressionStream`. Equal content gives equal text.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from vitq.errors import BadInputError

LIBRARIES = ("datatables", "plotly")
"""What the page's script may load, by the name that it asks for."""
WIDEST = 1600
"""Pixels that a picture is wide at most in the page; the file beside it keeps its own size."""


def packed(text: str) -> str:
    """Text as gzip in base64; without a date, so that the same text is the same."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def packed_json(value: Any) -> str:
    """A value as compact JSON, packed; ValueError where it holds what JSON has no word for (NaN, infinities)."""
    return packed(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def unpacked(text: str) -> str:
    """The text that was packed."""
    return gzip.decompress(base64.b64decode(text)).decode()


@cache
def packed_library(name: str) -> str:
    """A library as it lies in the page; kept, as packing takes longer than the rest of a small page."""
    return packed(library(name))


def library(name: str) -> str:
    """The JavaScript of a library as its Python package ships it; BadInputError where the package has none."""
    if name == "plotly":
        from plotly.offline import get_plotlyjs

        return str(get_plotlyjs())
    file = resources.files("itables") / "html" / "dt_bundle.js"
    if not file.is_file():
        raise BadInputError("the installed itables has no html/dt_bundle.js: pip install 'itables>=2.9'")
    return file.read_text(encoding="utf-8")


def own(name: str) -> str:
    """One of the page's own files: the template, the style or the script."""
    return (resources.files("vitq.reports.html") / "templates" / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """The page's content security policy: this one script, what it makes of the libraries in the page, nothing else.

    No request leaves the page, and no markup that a record might smuggle in can run anything.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )


def picture_address(path: Path) -> tuple[str, int, int]:
    """A picture as a `data:` address, with its width and height in pixels; WebP, narrowed to `WIDEST`."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=82, method=3)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}", image.width, image.height
