"""Reading under every way a process can be started, by every number of readers: the same bits, nothing left behind."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path

import pytest
import torch
from reading import HOW, digest_of_a_pass

from vitq.datasets import imagenet
from vitq.datasets.images import Reader, read_batches
from vitq.errors import BadInputError


def in_process(method: str, *arguments: object) -> str:
    """The digest of a pass made in a process started that way, as a cell's is: with children allowed."""
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=digest_of_a_pass, args=(queue, *arguments), daemon=False)
    process.start()
    process.join(240)
    assert process.exitcode == 0
    return str(queue.get())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("augment", ["eval", "full"])
def test_a_process_started_any_way_reads_the_same(method: str, augment: str, folder: Path) -> None:
    """With the default number of readers; 48 images, so that processes are worth their start too."""
    here: list[str] = []
    digest_of_a_pass(here, folder, augment, 0)
    assert in_process(method, folder, augment, None) == here[0]


@pytest.mark.parametrize("augment", ["eval", "none", "light"])
@pytest.mark.parametrize("workers", [None, 1, 3, 40])
def test_any_number_of_threads_reads_the_same(augment: str, workers: int | None, folder: Path) -> None:
    digests: list[str] = []
    for number in (0, workers):
        digest_of_a_pass(digests, folder, augment, number)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("augment", ["eval", "full"])
def test_a_pass_that_is_left_early_leaves_nothing_behind(augment: str, folder: Path) -> None:
    items, threads = imagenet.listing(folder, "train"), threading.active_count()
    batches = read_batches(folder, items, HOW, 4, augment=augment, seed=1)
    first = next(batches)
    del batches
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []
    assert torch.equal(first[0], next(read_batches(folder, items, HOW, 4, augment=augment, seed=1, workers=0))[0])


def test_a_bad_image_ends_the_readers_too(folder: Path) -> None:
    items, threads = imagenet.listing(folder, "train"), threading.active_count()
    (folder / items[0].path).write_bytes(b"")
    with pytest.raises(BadInputError):
        list(read_batches(folder, items, HOW, 4, augment="full", seed=1))
    assert threading.active_count() == threads
    assert multiprocessing.active_children() == []


def test_what_a_reading_process_gets_can_be_pickled(folder: Path) -> None:
    item = imagenet.listing(folder, "val")[0]
    for augment in ("eval", "light", "full"):
        reader = Reader(folder, HOW, augment, 3)
        pixels = reader.read(item)
        assert (pickle.loads(pickle.dumps(reader)).read(item) == pixels).all()


def test_reading_draws_nothing_from_the_training_that_goes_on(folder: Path) -> None:
    """The generators of the process are the trainer's: between two batches they are not moved."""
    items = imagenet.listing(folder, "train")
    for augment in ("light", "full"):
        torch.manual_seed(7)
        wanted = [torch.rand(1).item() for _ in range(12)]
        torch.manual_seed(7)
        assert [torch.rand(1).item() for _ in read_batches(folder, items, HOW, 4, augment=augment, seed=1)] == wanted
