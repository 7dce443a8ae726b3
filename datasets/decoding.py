"""From an image file to 8-bit RGB pixels, or to the reason why not; without torch.

Only JPEG and PNG decoders are ever opened, whatever a file is called. Grey becomes three equal channels, a palette its
colours, CMYK what Pillow makes of it; alpha is dropped, as torchvision's reader does, and EXIF's orientation is not
applied. What eight bits cannot hold (16-bit PNG) or one image cannot say (animated PNG) is refused.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vitq.datasets.listing import Item
from vitq.errors import BadInputError

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 89_478_485
"""Where Pillow starts to warn of decompression bombs; no photograph of ImageNet has a third of it."""
_DEPTH_AT = 24
"""Where a PNG says its bits a channel: the header chunk always comes first."""


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: str
    reason: str


def decode(path: Path) -> Image.Image:
    """The image as RGB; OSError or ValueError where it is no image that can be taken as 8-bit RGB."""
    with _opened(path, FORMATS) as image:
        return image.convert("RGB")


def decode_indices(path: Path) -> Image.Image:
    """A label map: a PNG of one 8-bit channel, grey or of a palette, as the numbers it holds; OSError or ValueError."""
    with _opened(path, ("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"it has pixels of the kind {image.mode}; a label map has one channel of 8 bits")
        image.load()
        return image.copy()


@contextmanager
def _opened(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """The image, not yet decoded; OSError or ValueError where it is none that is read."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        head = file.read(_DEPTH_AT + 1)
        file.seek(0)
        try:
            image = Image.open(file, formats=tuple(formats))
        except UnidentifiedImageError:
            raise OSError(f"it is {'neither JPEG nor' if len(formats) > 1 else 'no'} PNG inside") from None
        with image:
            _refuse(image, head)
            yield image


def _refuse(image: Image.Image, head: bytes) -> None:
    """ValueError for what would be read as something else than it is."""
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"it declares {image.width} x {image.height} pixels, more than {MAX_PIXELS} are not read")
    if image.format == "PNG" and head[_DEPTH_AT] > 8:
        raise ValueError(f"it has {head[_DEPTH_AT]} bits a channel; convert it to 8")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ValueError("it is animated; keep one image")


def try_decode(root: Path, item: Item) -> Image.Image | Unreadable:
    """The image, or why it cannot be read."""
    return _tried(decode, root, item.path)


def try_indices(root: Path, path: str) -> Image.Image | Unreadable:
    """The label map, or why it cannot be read."""
    return _tried(decode_indices, root, path)


def _tried(read: Callable[[Path], Image.Image], root: Path, path: str) -> Image.Image | Unreadable:
    try:
        return read(root / path)
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        said = getattr(error, "strerror", None) or str(error)
        return Unreadable(path, (said.splitlines() or [type(error).__name__])[0])


def unreadable(root: Path, bad: Sequence[Unreadable]) -> BadInputError:
    """One line that names the files (three at most) and what is wrong with the first."""
    names = ", ".join(str(root / one.path) for one in bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    return BadInputError(f"cannot read {names}: {bad[0].reason}; fetch the file again or put a good one in its place")


def quiet_pillow() -> None:
    """Let Pillow not warn: of damaged EXIF, which does not touch the pixels, and of what is refused here anyway.

    A filter and no `catch_warnings` around each image: that swaps the filters of the whole process, under the feet of
    the other threads that decode.
    """
    for category in (UserWarning, RuntimeWarning):
        warnings.filterwarnings("ignore", category=category, module=r"PIL\.")
