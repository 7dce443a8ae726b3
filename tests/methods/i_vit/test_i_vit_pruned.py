"""I-ViT on pruned models: channels, heads and layers of zeros, and biases that tower above their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from i_vit_models import SIZE, W8A8, batches, job, swin, vit
from torch import Tensor, nn

from vitq.errors import MethodInputError
from vitq.methods.i_vit import method as i_vit


def blocks_of(model: Any) -> list[Any]:
    return list(model.blocks) if hasattr(model, "blocks") else [b for stage in model.layers for b in stage.blocks]


@torch.no_grad()
def prune_parts(model: nn.Module) -> None:
    """A head, a third of the hidden channels, a row that keeps its bias alone, and every learnt constant."""
    for block in blocks_of(model):
        width = block.attn.qkv.weight.shape[0] // 3
        for part in range(3):
            block.attn.qkv.weight[part * width : part * width + width // block.attn.num_heads] = 0
            block.attn.qkv.bias[part * width : part * width + width // block.attn.num_heads] = 0
        block.mlp.fc1.weight[::3] = 0
        block.mlp.fc1.bias[::3] = 0
        block.mlp.fc2.weight[1] = 0
        block.mlp.fc2.bias[1] = 0.7
        if hasattr(block.attn, "relative_position_bias_table"):
            block.attn.relative_position_bias_table.zero_()
    if hasattr(model, "pos_embed"):
        model.pos_embed.zero_()  # type: ignore[operator, union-attr]
        model.cls_token.zero_()  # type: ignore[operator, union-attr]


@torch.no_grad()
def prune_queries(model: nn.Module) -> None:
    """Logits of zero: attention is the mean."""
    for block in blocks_of(model):
        width = block.attn.qkv.weight.shape[0] // 3
        block.attn.qkv.weight[: 2 * width] = 0
        block.attn.qkv.bias[: 2 * width] = 0


@torch.no_grad()
def prune_attention(model: nn.Module) -> None:
    """Inputs of zero before a layer with a bias, whose scale is then the smallest there is."""
    for block in blocks_of(model):
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
        nn.init.constant_(block.attn.proj.bias, 0.5)
        block.attn.proj.bias[::2] = -0.25


@torch.no_grad()
def prune_mlp(model: nn.Module) -> None:
    """Layers of zeros altogether, and one whose bias stands on almost nothing."""
    for block in blocks_of(model):
        block.mlp.fc1.weight.zero_()
        block.mlp.fc1.bias.zero_()
        block.mlp.fc2.weight.zero_()
        block.mlp.fc2.bias[::2] = 2.0
        block.attn.proj.weight.mul_(1e-12)
        block.attn.proj.bias[::2] = 1.0


PRUNED = [prune_parts, prune_queries, prune_attention, prune_mlp]


def error(make: Callable[[], Any], prune: Callable[[nn.Module], None], folder: Path, **options: Any) -> float:
    """Mean squared error of the quantized logits over the mean square of the real ones (some ignore the images)."""
    model = make()
    prune(model)
    images = batches(1, 32, seed=9)[0][0]
    with torch.no_grad():
        exact = model(images)
        got = i_vit.quantize(job(model, folder), W8A8, i_vit.Options(epochs=0, **options)).model(images)
    ratio: Tensor = (got - exact).pow(2).mean() / exact.pow(2).mean()
    return float(ratio)


@pytest.mark.parametrize("make", [vit, swin])
@pytest.mark.parametrize(("prune", "most"), zip(PRUNED, (0.01, 0.01, 0.001, 0.001), strict=True))
def test_the_papers_arithmetic_serves_pruned_models(make: Any, prune: Any, most: float, tmp_path: Path) -> None:
    assert error(make, prune, tmp_path) < most


@pytest.mark.parametrize("make", [vit, swin])
def test_release_serves_pruned_parts_and_refuses_pruned_layers(make: Any, tmp_path: Path) -> None:
    assert error(make, prune_parts, tmp_path, arithmetic="release") < 0.01
    for prune in PRUNED[1:]:
        with pytest.raises(MethodInputError, match=r"nothing but 0.*arithmetic 'paper'"):
            error(make, prune, tmp_path, arithmetic="release")


@torch.no_grad()
def tower(model: nn.Module) -> None:
    for block in blocks_of(model):
        block.mlp.fc2.weight.mul_(1e-9)
        block.mlp.fc2.bias[::2] = 100.0


@pytest.mark.parametrize("make", [vit, swin])
def test_a_bias_that_towers_above_its_weights_is_kept_or_refused(make: Any, tmp_path: Path) -> None:
    assert error(make, tower, tmp_path) < 0.001
    with pytest.raises(MethodInputError, match="clipped to INT32"):
        error(make, tower, tmp_path, arithmetic="release")


@pytest.mark.parametrize("arithmetic", ["paper", "release"])
def test_images_of_zeros_are_no_calibration(arithmetic: Any, tmp_path: Path) -> None:
    blank = job(vit(), tmp_path)
    blank.calibration = lambda: iter([(torch.zeros(2, *SIZE), torch.zeros(2, dtype=torch.long))])
    with pytest.raises(MethodInputError, match="calibration images are 0"):
        i_vit.quantize(blank, W8A8, i_vit.Options(arithmetic=arithmetic, epochs=0))
