"""MSE-searched clipping."""

from __future__ import annotations

import pytest
import torch

from vitq.methods.pmq.clipping import MSEClip
from vitq.methods.toolkit.observers import affine_grid
from vitq.methods.toolkit.quantizers import UniformQuantizer


def squared_error(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int) -> float:
    quantizer = UniformQuantizer(bits, MSEClip(), axis=None if scale.ndim == 0 else 0)
    quantizer.set_grid(scale, zero)
    return float((quantizer.fake_quant(x) - x).square().sum())


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_no_ratio_of_the_range_does_better(bits: int) -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) ** 3
    clip = MSEClip()
    clip.update(x)
    found = squared_error(x, *clip.grid(bits), bits)
    others = [squared_error(x, *affine_grid(x.min() * k / 40, x.max() * k / 40, bits), bits) for k in range(1, 41)]
    assert found == pytest.approx(min(others), rel=1e-5)
    assert clip.error(bits) == pytest.approx((found / float(x.square().sum())) ** 0.5, rel=1e-5)


def test_channels_are_searched_one_by_one() -> None:
    w = torch.randn(6, 300, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7)[:, None]
    clip = MSEClip(axis=0)
    clip.update(w)
    scale, zero = clip.grid(3)
    for row in range(6):
        alone = MSEClip(axis=0)
        alone.update(w[row : row + 1])
        assert torch.equal(alone.grid(3)[0], scale[row : row + 1])
        assert torch.equal(alone.grid(3)[1], zero[row : row + 1])


def test_error_falls_with_width_and_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(2)
    clip = MSEClip()
    for _ in range(3):
        clip.update(torch.randn(100_000, generator=generator))
    errors = [clip.error(b) for b in (2, 3, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert clip.norm() == pytest.approx(1.0, abs=0.02)


def test_zeros_and_no_tensor() -> None:
    clip = MSEClip()
    with pytest.raises(RuntimeError, match="before it was shown"):
        clip.grid(4)
    clip.update(torch.zeros(10))
    assert clip.error(4) == 0
    assert torch.isfinite(clip.grid(4)[0])
