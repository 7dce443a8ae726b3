"""Each operator's error against the real function over its input range, for a table and a picture of every record."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vitq.details.i_vit import Curve
from vitq.methods.i_vit import operators_release as release
from vitq.methods.i_vit.ablations import GELU, NORM, SOFTMAX
from vitq.methods.i_vit.dyadic import dyadic, requantize
from vitq.methods.i_vit.gelu import Gelu
from vitq.methods.i_vit.layernorm import LayerNorm
from vitq.methods.i_vit.network import Network
from vitq.methods.i_vit.nodes import Node
from vitq.methods.i_vit.softmax import Softmax

POINTS = 65
TOKENS = 197


def _curve(operator: str, variant: str, x: Tensor, exact: Tensor, got: Tensor, unit: str) -> Curve:
    error = (got.double() - exact.double()).flatten()
    step = max(1, math.ceil(len(error) / POINTS))
    return Curve(
        operator=operator,
        variant=variant,
        unit=unit,
        max_error=float(error.abs().max()),
        mean_error=float(error.abs().mean()),
        x=[round(float(v), 6) for v in x.flatten()[::step]],
        error=[float(f"{float(v):.4g}") for v in error[::step]],
    )


def softmax_errors(scale: float) -> list[Curve]:
    """Shiftmax and its replacements on rows of 197 logits: one runs over the INT8 range, the others lie at its bottom.

    The error is that of the running logit's probability, relative to the largest one; x is the logit below the maximum.
    """
    codes = torch.full((256, TOKENS), -128, dtype=torch.int64)
    codes[:, 0], codes[:, 1] = 127, torch.arange(-128, 128)
    exact = (codes * scale).double().softmax(-1)[:, 1]
    got: dict[str, Tensor] = {}
    for bits in (8, 16):
        for name, operator in SOFTMAX.items():
            if name == "log_int" and bits == 8:
                continue
            out = operator.apply(codes, operator.constants(scale), bits)
            got[f"{name}, paper, {bits} bit"] = out[:, 1] * operator.out_scale(scale, bits)
        out, unit = release.shiftmax(codes.float(), torch.tensor(scale), bits)
        got[f"shiftmax, release, {bits} bit"] = out[:, 1] * unit
    x = (codes[:, 1] - 127) * scale
    return [_curve("softmax", name, x, exact, value, "probability") for name, value in got.items()]


def gelu_errors(scale: float) -> list[Curve]:
    """ShiftGELU and its replacement over the INT8 range in one row, against the exact GELU, before requantization."""
    codes = torch.arange(-128, 128)
    exact = F.gelu(codes.double() * scale)
    out, unit = release.shift_gelu(codes.float()[None], torch.tensor(scale))
    got = {"shift, release": (out * unit)[0]}
    for name, operator in GELU.items():
        out = operator.apply(codes[None], operator.constants(scale), 8)[0]
        got[f"{name}, paper"] = out * operator.out_scale(scale, 8)
    return [_curve("gelu", name, codes * scale, exact, value, "real value") for name, value in got.items()]


def layernorm_errors(channels: int) -> list[Curve]:
    """I-LayerNorm and its replacement on rows of normal values whose standard deviation runs over 2^0 .. 2^14 codes.

    The error is the largest in a row of the normalized values, gamma 1 and beta 0; x is log2 of the deviation.
    """
    generator = torch.Generator().manual_seed(0)
    octave = torch.linspace(0, 14, POINTS, dtype=torch.float64)
    noise = torch.randn(POINTS, channels, generator=generator, dtype=torch.float64)
    codes = torch.round(noise * 2 ** octave[:, None]).to(torch.int64)
    exact = F.layer_norm(codes.double(), (channels,), eps=0.0)
    one = torch.ones(channels)
    out, unit = release.layer_norm(codes.float(), one, torch.zeros(channels))
    got = {"integer, release": (out * unit).double()}
    for name, operator in NORM.items():
        got[f"{name}, paper"] = operator.apply(codes) * operator.unit(channels)
    zero = torch.zeros(POINTS, dtype=torch.float64)
    return [
        _curve("layernorm", name, octave, zero, (value - exact).abs().amax(1), "standard deviations")
        for name, value in got.items()
    ]


def requantization_errors() -> list[Curve]:
    """Requantization of accumulators to INT8 under each rounding, in units of the output."""
    acc, ratio = torch.arange(-2048, 2049), torch.tensor(127 / 2048, dtype=torch.float64)
    exact = acc * ratio
    got = {
        "nearest, paper": requantize(acc, dyadic(ratio), 8, "nearest"),
        "floor, paper": requantize(acc, dyadic(ratio), 8, "floor"),
        "nearest, release": release.requantize(acc.float(), ratio.float(), torch.ones(()), 8),
    }
    return [_curve("requantization", name, exact, exact, value, "output codes") for name, value in got.items()]


@torch.no_grad()
def operator_errors(model: Network) -> list[Curve]:
    """All curves, at the median of the scales that the model's own softmax and GELU nodes saw."""

    def middle(kind: type[Node]) -> float:
        scales = [m.in_scales[0].cpu() for m in model.modules() if isinstance(m, kind)]
        return float(torch.stack(scales).median())

    channels = next(m for m in model.modules() if isinstance(m, LayerNorm)).weight.numel()
    rows = softmax_errors(middle(Softmax)) + gelu_errors(middle(Gelu))
    return rows + layernorm_errors(channels) + requantization_errors()
