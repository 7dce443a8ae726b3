"""Size and operations of models that take a tensor of images, by the shape of one image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitq.benchmarks.measure import accounting, macs
from vitq.benchmarks.measure.accounting import Account
from vitq.methods.bits import Bits


def call(model: nn.Module, images: Tensor) -> Tensor:
    """The forward pass of a model that takes a tensor [B, C, H, W]."""
    return model(images)


def account(fp_model: nn.Module, quantized_model: nn.Module, size: tuple[int, int, int], bits: Bits) -> Account:
    """`accounting.account` on one image [C, H, W]."""
    return accounting.account(fp_model, quantized_model, torch.empty(1, *size, device="meta"), bits, call)


def count_macs(model: nn.Module, size: tuple[int, int, int]) -> dict[str, int]:
    """`macs.count_macs` on one image [C, H, W]."""
    return macs.count_macs(model, torch.empty(1, *size, device="meta"), call)
