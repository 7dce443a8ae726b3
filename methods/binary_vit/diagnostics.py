"""What the paper argues from: latent weights near the boundary, signs that flip, channels with different means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vitq.details.binary_vit import ActivationMeans, Histogram, Spread, Widest
from vitq.methods.binary_vit.binarize import SignBinarizer, centred_rows
from vitq.methods.binary_vit.layers import BinaryLinear

BINS = 60
REACH = 3.0
_CHANNELS = 512


def _latent(model: nn.Module) -> Iterator[tuple[str, Tensor, BinaryLinear]]:
    for name, module in model.named_modules():
        if isinstance(module, BinaryLinear):
            weight = module.weight.detach()
            yield name, centred_rows(weight), module


def weight_histogram(model: nn.Module) -> Histogram:
    """All latent weights, (W - row mean) / row scale, in 60 bins over [-3, 3]."""
    counts, near, total = torch.zeros(BINS, dtype=torch.float64), 0, 0
    for _, centred, layer in _latent(model):
        scaled = (centred / layer.row_scale().clamp(min=1e-12)).float().cpu().flatten()
        counts += torch.histc(scaled.clamp(-REACH, REACH - 1e-6), BINS, -REACH, REACH).double()
        near += int((scaled.abs() < 0.1).sum())
        total += scaled.numel()
    shares = [round(float(c) / total, 6) for c in counts]
    return Histogram(reach=REACH, shares=shares, near_boundary=near / total)


def weight_signs(model: nn.Module) -> dict[str, Tensor]:
    """Which latent weights are binarized to +1, by layer."""
    return {name: centred >= 0 for name, centred, _ in _latent(model)}


def flipped_share(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Share of binary weights whose sign differs."""
    flips = sum(int((before[name] != after[name]).sum()) for name in after)
    return flips / sum(signs.numel() for signs in after.values())


class ChannelMeans:
    """Collects each channel's mean before and after the shift, over the batches run while it is open."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = {n: m for n, m in model.named_modules() if isinstance(m, SignBinarizer)}
        self.seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.layers}

    def __enter__(self) -> ChannelMeans:
        self._handles = [m.register_forward_pre_hook(self._hook(name)) for name, m in self.layers.items()]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def note(module: SignBinarizer, args: tuple[Tensor]) -> None:
            x = args[0].detach()
            self.seen[name].append((_channel_mean(x, module), _channel_mean(module.shifted(x), module)))

        return note

    def summary(self) -> ActivationMeans:
        """Standard deviation over channels of each input's means, before and after; the widest input in full."""
        means = {
            name: [torch.stack(side).mean(0) for side in zip(*seen, strict=True)] for name, seen in self.seen.items()
        }
        spread = {name: [float(side.std()) for side in pair] for name, pair in means.items()}
        widest = max(spread, key=lambda name: spread[name][0])
        before, after = ([round(v, 4) for v in side[:_CHANNELS].tolist()] for side in means[widest])
        return ActivationMeans(
            spread={name: Spread(before=round(b, 5), after=round(a, 5)) for name, (b, a) in spread.items()},
            widest=Widest(input=widest, before=before, after=after),
        )


def _channel_mean(x: Tensor, module: SignBinarizer) -> Tensor:
    if len(module.channels) == 3:
        return x.mean(dim=(0, 2)).flatten().cpu()
    return x.flatten(0, -2).mean(dim=0).cpu()
