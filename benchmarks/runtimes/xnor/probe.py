"""Whether fused blocks give the bits of the torch at hand: asked at compile time, of every float operation and of all.

Signs hide a last bit that differs, so that means, norms and softmax are compared as numbers, on random tensors of the
model's sizes; then the blocks as a whole, on the example's tokens and on random ones.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.benchmarks.runtimes.xnor import regions, rows
from vitq.benchmarks.runtimes.xnor.blocks import Block, FusedBlocks, flat


def difference(model: nn.Module, blocks: nn.Module, fused: FusedBlocks, example: Tensor) -> str | None:
    """What of the fused form is not torch's, or None; `blocks` are the module in `model` that it stands for."""
    seen: list[Tensor] = []
    hook = blocks.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    try:
        with torch.inference_mode():
            model(example)
    finally:
        hook.remove()
    if not seen or seen[0].ndim != 3 or seen[0].shape[1] < 16:
        return "tokens"
    x, draw = seen[0], torch.Generator().manual_seed(0)
    random = torch.randn(x.shape, generator=draw) * 3 + 1
    with torch.inference_mode():
        if not all(_norms(random, block) for block in fused.blocks[:1]):
            return "LayerNorm"
        hidden = torch.randn(*x.shape[:2], 64 * fused.blocks[0].hidden, generator=draw)
        heads = random.view(*x.shape[:2], -1, rows.WORD).transpose(1, 2).contiguous()
        if not (_means(random) and _means(hidden) and _means(heads)):
            return "mean over tokens"
        if not _softmax(fused.blocks[0], x.shape[1], draw):
            return "softmax"
        same = all(torch.equal(fused(each), blocks(each)) for each in (x, random))
    return None if same else "blocks as a whole"


def _norms(x: Tensor, block: Block) -> bool:
    """LayerNorm of every row."""
    y, work = torch.empty_like(x), np.zeros((1, 2, 8, 8), np.float32)
    width = x.shape[-1]
    for weight, bias, eps in block.norms:
        regions.norm(flat(x), x.numel() // width, width, weight, bias, eps, flat(y), work)
        wanted = F.layer_norm(x, (width,), torch.from_numpy(weight), torch.from_numpy(bias), float(eps))
        if not torch.equal(y, wanted):
            return False
    return True


def _means(x: Tensor) -> bool:
    """Means of [..., N, C] over N."""
    wanted, (tokens, width) = x.mean(-2), x.shape[-2:]
    numbers, found = flat(x), np.zeros(rows.WORD, np.float32)
    levels, power = np.zeros((4, rows.WORD), np.float32), rows.cascade_power(tokens)
    for at, row in enumerate(wanted.view(-1, width)):
        for c in range(0, width, rows.WORD):
            rows.column_mean(numbers, at * tokens * width + c, width, tokens, power, levels, found)
            if not np.array_equal(found, row[c : c + rows.WORD].numpy()):
                return False
    return True


def _softmax(block: Block, tokens: int, draw: torch.Generator) -> bool:
    """Probabilities of random queries and keys."""
    signs = torch.randint(-(2**62), 2**62, (64 + tokens,), generator=draw)
    queries, keys = signs[:64].numpy().view(np.uint64), signs[64:].numpy().view(np.uint64)
    bits = (signs[:, None] >> torch.arange(rows.WORD)) & 1
    products = rows.WORD - 2 * (bits[:64, None] ^ bits[None, 64:]).sum(-1)
    wanted = (products.float() * float(block.score_factor) * float(block.scale)).softmax(-1)
    counts, e = np.zeros(tokens, np.int32), np.zeros(tokens + 16, np.float32)
    for query, row in zip(queries, wanted, strict=True):
        by = rows.softmax_row(query, keys, tokens, rows.WORD, block.score_factor, block.scale, counts, e)
        if not np.array_equal(e[:tokens] * by, row.numpy()):
            return False
    return True
