"""Whether a method serves a network: asked of its architecture, without weights or data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.registry import load
from vitq.options import make_options


def serves(model: nn.Module, method: str, bits: str, options: Mapping[str, Any] | None = None) -> str | None:
    """Why a method does not serve a model at these widths (`W4A4`), in one line; None where it does.

    The model is not changed: its layers are replaced in a copy on the meta device, as counting does. What a run needs
    beside the architecture (a calibration set, labels to train on) is not looked at. BadInputError for an unknown
    method, unknown widths or a wrong option.
    """
    known, widths = load(method), Bits.parse(bits)
    chosen = make_options(known.Options, dict(options or {}))
    reason = all_cards()[method].supports.refuses(widths) or known.unsupported(widths, chosen)
    if reason is not None:
        return reason
    try:
        with torch.device("meta"):
            known.prepare(meta_copy(model), widths, chosen)
    except (UnsupportedError, MethodInputError) as error:
        return " ".join(str(error).split())
    return None


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are on the meta device; no weight is read or copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    copied: nn.Module = copy.deepcopy(model, memo)
    return copied
