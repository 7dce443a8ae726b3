"""Where post-training methods quantize a vision transformer, shared by every method that quantizes the same places.

| where | weights | input |
|---|---|---|
| patch-embed convolution | yes | yes |
| every Linear (qkv, proj, fc1, fc2, Swin's reduction, head) | yes | yes |
| Q·K^T and attention·V of every served attention | | both operands |

LayerNorm, softmax and GELU arithmetic, residual sums, embeddings, relative-position biases, biases and logits stay in
floating point (RepQ-ViT and its released code).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from vitq.methods.architectures.explicit import MatMul, attentions, make_explicit
from vitq.methods.base import UnsupportedError
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul, replace_modules
from vitq.methods.toolkit.quantizers import Quantizer

Layer = nn.Linear | nn.Conv2d
LayerQuantizers = Callable[[str, Layer], tuple[Quantizer, Quantizer]]
ProductQuantizers = Callable[[str], tuple[Quantizer, Quantizer]]


def quantize_places(model: nn.Module, layer: LayerQuantizers, product: ProductQuantizers) -> nn.Module:
    """Make attention explicit and replace every layer and product of the table by its quantized form, in place.

    `layer(name, module)` gives the weight and the input quantizer of a layer; `product(name)` the left and the right
    quantizer of a product, whose name ends in `.qk` or `.av`. Raises UnsupportedError where no attention is served.
    """
    if not attentions(make_explicit(model)):
        raise UnsupportedError(
            f"{type(model).__name__} holds no attention that can be made explicit; see methods/architectures"
        )

    def swap(name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return QLinear.of(module, *layer(name, module))
        if type(module) is nn.Conv2d:
            return QConv2d.of(module, *layer(name, module))
        if type(module) is MatMul:
            return QMatMul(*product(name))
        return None

    return replace_modules(model, swap)
