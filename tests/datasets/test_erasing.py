"""Random erasing: how many images, how large, and the same ones for the same seed."""

from __future__ import annotations

import torch

from vitq.datasets.erasing import erase


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
