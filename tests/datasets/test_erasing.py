"""Random erasing: how many images, how large, and the same ones for the same seed."""

from __future__ import annotations

import torch

from vitq.datasets.batches import erase, mix, seed_of, training_epoch
from vitq.datasets.calibration import Calibration


def test_a_quarter_of_the_images_lose_a_rectangle_to_noise_by_the_seed_alone() -> None:
    images, labels = torch.full((400, 3, 24, 24), 7.0), torch.arange(400)
    global_state = torch.get_rng_state()
    erased, same_labels = erase((images, labels), 3)
    assert torch.equal(labels, same_labels)
    assert torch.equal(images, torch.full_like(images, 7.0)), "the batch given stays as it is"
    assert torch.equal(torch.get_rng_state(), global_state)
    assert torch.equal(erased, erase((images, labels), 3)[0])
    assert not torch.equal(erased, erase((images, labels), 4)[0])
    changed = (erased != 7.0).all(1)
    touched = changed.flatten(1).any(1)
    assert 70 <= int(touched.sum()) <= 130
    for one in changed[touched]:
        rows, columns = one.any(1).sum(), one.any(0).sum()
        assert int(one.sum()) == int(rows * columns), "a rectangle"
        assert 0.01 * 576 <= int(one.sum()) <= 0.36 * 576
    noise = erased[(erased != 7.0)]
    assert abs(float(noise.mean())) < 0.1
    assert 0.9 < float(noise.std()) < 1.1


def test_full_augmentation_erases_before_it_mixes() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.rand(4, 3, 16, 16, generator=generator), torch.arange(4)) for _ in range(8)]
    epoch = list(training_epoch(iter(batches), 32, Calibration(train_batch=4, augment="full"), 10, 5))
    wanted = [mix(erase(batch, seed_of(5, i, "erase")), 10, seed_of(5, i)) for i, batch in enumerate(batches)]
    plain = [mix(batch, 10, seed_of(5, i)) for i, batch in enumerate(batches)]
    assert all(torch.equal(got, want) for (got, _), (want, _) in zip(epoch, wanted, strict=True))
    assert not all(torch.equal(got, want) for (got, _), (want, _) in zip(epoch, plain, strict=True))
    light = list(training_epoch(iter(batches), 32, Calibration(train_batch=4, augment="light"), 10, 5))
    assert all(torch.equal(got, want) for (got, _), (want, _) in zip(light, batches, strict=True))
