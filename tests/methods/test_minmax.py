"""The two baselines: FP32 is the model itself, min-max covers the ranges it saw."""

from __future__ import annotations

import pytest
import torch
from subjects import NO_ROLES, subject_of
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.bits import Bits
from vitq.methods.fp32 import method as fp32
from vitq.methods.minmax import method as minmax
from vitq.methods.toolkit.layers import QLinear
from vitq.methods.toolkit.modules import named_quantizers


def vit() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10).eval()


def test_fp32_is_the_model_itself() -> None:
    given = subject_of(vit(), [])
    result = fp32.quantize(given, Bits(32, 32), fp32.Options())
    assert result.model is given.model
    assert result.exec == "fp32"
    assert fp32.prepare(given.part, Bits(32, 32), fp32.Options()) is given.model
    assert fp32.unsupported(Bits(32, 32), fp32.Options()) is None
    assert fp32.unsupported(Bits(8, 8), fp32.Options())


def test_ranges_cover_all_batches_in_any_order() -> None:
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    models = [
        minmax.quantize(subject_of(vit(), batches), Bits(8, 8), minmax.Options()).model
        for batches in ([x[:3], x[3:]], [x[3:], x[:3]])
    ]
    with torch.no_grad():
        assert torch.equal(models[0](x), models[1](x))
        expected = vit()(x)
        assert (models[0](x) - expected).norm() < 0.1 * expected.norm()
    image = named_quantizers(models[0])["patch_embed.proj.input_quantizer"]
    assert image.scale == pytest.approx(((x.max() - x.min()) / 255).item(), rel=1e-6)
    qkv = models[0].get_submodule("blocks.0.attn.qkv")
    assert isinstance(qkv, QLinear)
    assert qkv.weight_quantizer is not None
    assert qkv.weight_quantizer.scale.shape == (96,)


def test_bad_input_is_one_clear_line() -> None:
    with pytest.raises(MethodInputError, match="at least one calibration batch"):
        minmax.quantize(subject_of(vit(), []), Bits(8, 8), minmax.Options())
    with pytest.raises(UnsupportedError, match=NO_ROLES):
        minmax.prepare(nn.Sequential(nn.Linear(2, 2)), Bits(8, 8), minmax.Options())
    assert minmax.unsupported(Bits(9, 8), minmax.Options())
    assert minmax.unsupported(Bits(4, 8), minmax.Options()) is None
