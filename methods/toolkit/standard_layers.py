"""The layers and products that post-training methods quantize, the same for every such method.

| where | weights | input |
|---|---|---|
| patch-embed convolution | yes | yes |
| every Linear (qkv, proj, fc1, fc2, Swin's reduction, head) | yes | yes |
| Q·K^T and attention·V of every attention | | both operands |

LayerNorm, softmax and GELU arithmetic, residual sums, embeddings, relative-position biases, biases and logits stay in
floating point (RepQ-ViT and its released code).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from vitq.methods.architectures.roles import Roles, roles_of
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import replace_modules
from vitq.methods.toolkit.quantizers import Quantizer

Layer = nn.Linear | nn.Conv2d
Product = Literal["qk", "av"]
"""Q·K^T, or attention·V."""
LayerQuantizers = Callable[[str, Layer], tuple[Quantizer, Quantizer]]
ProductQuantizers = Callable[[Product], tuple[Quantizer, Quantizer]]


def quantize_standard_layers(part: nn.Module, layer: LayerQuantizers, product: ProductQuantizers) -> Roles:
    """Replace every layer and product of the table by its quantized form, in place; returns the part's roles.

    `layer(path, module)` gives the weight and the input quantizer of a layer; `product(which)` the left and the right
    quantizer of a product. Raises UnsupportedError where the part has no attention that any family knows.
    """
    roles = roles_of(part)
    products: dict[str, Product] = {}
    for attention in roles.attentions:
        products |= {attention.qk: "qk", attention.av: "av"}

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, nn.Linear) and not isinstance(module, QLinear):  # libraries have subclasses of their own
            return QLinear.of(module, *layer(path, module))
        if type(module) is nn.Conv2d:
            return QConv2d.of(module, *layer(path, module))
        return QMatMul(*product(products[path])) if path in products else None

    replace_modules(part, swap)
    return roles
