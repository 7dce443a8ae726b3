"""Reading image files in parallel into deterministic batches; a file that cannot be read is an error with its name.

Who reads. Decoding and resizing are Pillow's, in C and without Python's lock: threads read as fast as processes, start
at once, pickle nothing and work the same in a cell's process, a script or a notebook, whichever way processes are
started there. Only `full` augmentation draws from the process-wide generators of Python, NumPy and torch, which threads
would share with each other and with the training that goes on meanwhile: it is read by processes. They come from a fork
server, which is safe beside threads and imports torch once, and all that goes to or comes from them is picklable by
name. Every random choice is seeded by the epoch and the image's name, so the batches are the same for every number
of either.

Readers hand over uint8 pixels and the reading process normalizes: a quarter of the memory, the same bits.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.transforms_factory import create_transform

from vitq.datasets.batches import Batch, seed_of, seeded
from vitq.datasets.decoding import Unreadable, quiet_pillow, try_decode, unreadable
from vitq.datasets.listing import Item
from vitq.datasets.preprocessing import Preprocessing
from vitq.datasets.reading_ahead import default_workers, in_order

Pixels = NDArray[np.uint8]
"""One image [C, H, W]."""
_READ_AHEAD = 2
"""Batches being read beside the one in use."""
_IMAGES_A_PROCESS = 16
"""A process that would read fewer is not worth its start."""


@dataclass(frozen=True)
class Reader:
    """Reads an item as pixels: timm's transform up to uint8, its random choices seeded by `seed` and the item's name.

    `augment`: `eval` and `none` are the validation transform, `light` adds a horizontal flip, `full` is what ViTs are
    usually trained with in timm: random resized crop, flip, colour jitter, RandAugment by rand-m9-mstd0.5-inc1 (I-ViT's
    released recipe has the same); on the normalized images follow `batches.erase` and `mix`.
    """

    root: Path
    how: Preprocessing
    augment: str = "eval"
    seed: int | None = None

    @cached_property
    def _change(self) -> Any:
        how = self.how
        common: dict[str, Any] = {"interpolation": how.interpolation, "mean": how.mean, "std": how.std}
        common["use_prefetcher"] = True  # timm's word for leaving normalization to the reader
        if self.augment == "full":
            return create_transform(how.size, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", **common)
        return create_transform(how.size, is_training=False, crop_pct=how.crop_pct, crop_mode=how.crop_mode, **common)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_change"}  # made anew where it arrives

    def read(self, item: Item) -> Pixels | Unreadable:
        """The item's pixels, or why it cannot be read."""
        image = try_decode(self.root, item)
        if isinstance(image, Unreadable):
            return image
        if self.augment != "full":
            return self._flipped(np.asarray(self._change(image)), item)
        with seeded(seed_of(self.seed, item.path)):
            return np.asarray(self._change(image))

    def _flipped(self, pixels: Pixels, item: Item) -> Pixels:
        if self.augment != "light":
            return pixels
        dice = random.Random(seed_of(self.seed, item.path))  # the same draw as from the seeded global generator
        return pixels[..., ::-1] if dice.random() < 0.5 else pixels


def read_batches(
    root: Path,
    items: Sequence[Item],
    how: Preprocessing,
    batch: int,
    *,
    workers: int | None = None,
    augment: str = "eval",
    seed: int | None = None,
) -> Iterator[Batch]:
    """Batches of normalized images and labels in the order of `items`; the last may be smaller.

    `workers` threads read (processes for `full`, see above; 0: the caller's own; None: one a core, at most 8). The same
    batches for every number of them. BadInputError names files that cannot be read.
    """
    quiet_pillow()
    reader = Reader(root, how, augment, seed)
    reader._change  # noqa: B018 (made once, before threads would each make it)
    wanted = default_workers() if workers is None else workers
    worth = len(items) // _IMAGES_A_PROCESS if augment == "full" else len(items)
    with _pool(reader, min(wanted, worth)) as pool:
        pixels = in_order(_start(reader, pool), items, _READ_AHEAD * batch if pool else 1)
        for i in range(0, len(items), batch):
            chosen = items[i : i + batch]
            yield _collated(root, chosen, [next(pixels) for _ in chosen], how)


def _collated(root: Path, items: Sequence[Item], read: Sequence[Pixels | Unreadable], how: Preprocessing) -> Batch:
    bad = [one for one in read if isinstance(one, Unreadable)]
    if bad:
        raise unreadable(root, bad)
    stacked = np.stack([one for one in read if not isinstance(one, Unreadable)])
    return how.normalize(torch.from_numpy(stacked)), torch.tensor([item.label for item in items])


@contextmanager
def _pool(reader: Reader, workers: int) -> Iterator[Executor | None]:
    """Threads or processes that read, gone when the context ends; None where the caller has to read."""
    pool = _make_pool(reader, workers)
    try:
        yield pool
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)


def _make_pool(reader: Reader, workers: int) -> Executor | None:
    if workers < 1:
        return None
    if reader.augment != "full":
        return ThreadPoolExecutor(workers, "vitq-reader")
    if multiprocessing.current_process().daemon:  # a daemon may have no children
        return None
    return ProcessPoolExecutor(workers, _context(), _prepare, (reader,))


Start = Callable[[Item], "Future[Pixels | Unreadable]"]


def _start(reader: Reader, pool: Executor | None) -> Start:
    """What starts the reading of an item; without a pool it is read at once."""
    if isinstance(pool, ProcessPoolExecutor):
        return lambda item: pool.submit(_read, item)
    if pool is not None:
        return lambda item: pool.submit(reader.read, item)
    return partial(_done, reader)


def _done(reader: Reader, item: Item) -> Future[Pixels | Unreadable]:
    future: Future[Pixels | Unreadable] = Future()
    future.set_result(reader.read(item))
    return future


def _context() -> BaseContext:
    """The fork server where there is one: forking a process that has threads may leave a lock held for ever.

    It is started once a process and imports this module once, so that the next epoch's readers cost milliseconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    try:
        forkserver.ensure_running()
    except ChildProcessError:  # this process was forked from one that has a server, which is not ours to ask
        return multiprocessing.get_context("spawn")
    return context


_READER: Reader | None = None
"""What a reading process reads with; set once, when it starts."""


def _prepare(reader: Reader) -> None:
    global _READER
    _READER = reader
    torch.set_num_threads(1)
    quiet_pillow()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A reader whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read(item: Item) -> Pixels | Unreadable:
    assert _READER is not None
    return _READER.read(item)
