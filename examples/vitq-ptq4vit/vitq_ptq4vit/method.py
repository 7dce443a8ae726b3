"""PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin Uniform Quantization (arXiv 2111.12293).

Attention after softmax and activations after GELU crowd near zero and reach far: a twin grid has a fine and a coarse
range for them. Every scale is searched by what it does to the layer's output, weighted by the loss's gradient there,
which stands for the Hessian. Layers are seen as the model in floating point runs them, so that none depends on another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitq.details import Details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.roles import Attention, Roles, roles_of
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.toolkit.calibration import saw_nothing
from vitq.methods.toolkit.layers import QConv2d, QLinear, QMatMul
from vitq.methods.toolkit.modules import replace_modules, set_mode
from vitq.methods.toolkit.nodes import end_paths
from vitq.methods.toolkit.unreached import leave_out, say
from vitq.options import without_effect
from vitq.subject import Batch, Subject
from vitq_ptq4vit.capture import one_tensor, sampled_targets, seen_by
from vitq_ptq4vit.options import Options
from vitq_ptq4vit.quantizers import SearchedQuantizer, SymmetricQuantizer, TwinGelu, TwinSoftmax
from vitq_ptq4vit.search import Seen, multipliers, search_layer, search_product

GELUS = ("GELU", "GELUTanh")


def unsupported(bits: Bits, options: Options) -> str | None:
    """Widths that the card does not serve, and a search without candidates."""
    if options.candidates < 1 or options.rounds < 1 or not 0 < options.low < options.high:
        return "ptq4vit searches at least one candidate for at least one round, with 0 < low < high"
    return all_cards()["ptq4vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers and products with no scale yet; UnsupportedError for what is no transformer alone."""
    _replace(part, bits, options)
    return part


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The finished part's modules, every quantizer on and without a scale until `saving.fill` gives it one."""
    made = prepare(part, bits, options)
    leave_out(made, facts.get("unreached", []))
    return set_mode(made, "on")


def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Search every layer and product by itself, then switch all quantizers on at once (parallel mode)."""
    batches = list(subject.calibration())
    if not batches:
        raise MethodInputError("calibration needs at least one calibration batch; there was none")
    subject.model.requires_grad_(False)
    with torch.no_grad():
        plain = [one_tensor(subject.forward(subject.model, batch)) for batch in batches]
        part = subject.part
        roles = _replace(part, bits, options)
        targets = _targets(subject, batches, plain, options) if options.metric == "hessian" else None
    unreached = _search(subject, roles, batches, targets, options)
    set_mode(part, "on")
    unread = {"gradient"} if options.metric == "cosine" else set()
    details = Details(without_effect=without_effect(options, unread))
    return Quantized(subject.put(part), details, facts={"unreached": unreached} if unreached else {})


def _replace(part: nn.Module, bits: Bits, options: Options) -> Roles:
    """Give a transformer its quantizers, in place, all off; returns its roles.

    | where | weight or left operand | input or right operand |
    |---|---|---|
    | patch embedding | a scale an output channel | floating point |
    | qkv | a scale each for q, k and v | one |
    | other layers | one | one; twin after GELU |
    | Q·K^T | a scale a head | a scale a head |
    | attention·V | twin, one split | a scale a head |
    """
    roles = roles_of(part)
    if roles.whole != "":
        raise UnsupportedError("PTQ4ViT does not serve more or less than one transformer: give the scope of one")
    gated = next((block.path for block in roles.blocks if block.mlp.gated), None)
    if gated is not None and options.gelu != "uniform":
        raise UnsupportedError(f"PTQ4ViT's twin grid is made for GELU, not for the gated MLP of {gated}: gelu: uniform")
    qkv = {attention.qkv for attention in roles.attentions}
    after_gelu = {block.mlp.fc2: block.mlp.act for block in roles.blocks}
    products = {path: attention for attention in roles.attentions for path in (attention.qk, attention.av)}

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, nn.Linear):
            weight = SymmetricQuantizer(bits.w, groups=3 if path in qkv else 1)
            return QLinear.of(module, weight, _input(roles, after_gelu.get(path), bits.a, options))
        if type(module) is nn.Conv2d:
            channels = module.out_channels if options.metric == "hessian" else 1
            return QConv2d.of(module, SymmetricQuantizer(bits.w, channels), None)
        return _product(path, products[path], bits.a, options) if path in products else None

    replace_modules(part, swap)
    part.to(next(part.parameters()).device)
    return roles


def _input(roles: Roles, act: str | None, bits: int, options: Options) -> SearchedQuantizer:
    """The grid of a layer's input; `act` is the activation before it."""
    if act is None or options.gelu == "uniform":
        return SymmetricQuantizer(bits)
    kind = type(roles.module(act)).__name__
    if kind not in GELUS:
        raise UnsupportedError(f"PTQ4ViT's twin grid is made for GELU, {act} is {kind}: set gelu: uniform")
    return TwinGelu(bits, shifted=options.gelu == "shifted")


def _product(path: str, attention: Attention, bits: int, options: Options) -> QMatMul:
    heads = partial(SymmetricQuantizer, bits, groups=attention.heads, axis=1)
    if path == attention.qk or options.softmax == "uniform":
        return QMatMul(heads(), heads())
    return QMatMul(TwinSoftmax(bits, both=options.softmax == "released"), heads())


def _targets(subject: Subject, batches: Sequence[Batch], plain: Sequence[Tensor], options: Options) -> list[Tensor]:
    """What the loss compares the model's outputs with, a batch each.

    `released`: the same model's outputs, here those of the library's own forward pass beside the one with products
    apart; their difference is rounding noise, and so is the gradient. `sampled`: classes drawn by the model itself.
    """
    if options.gradient == "released":
        return list(plain)
    generator = torch.Generator().manual_seed(subject.seed)
    return [sampled_targets(subject.forward(subject.model, batch), generator) for batch in batches]


def _search(
    subject: Subject, roles: Roles, batches: Sequence[Batch], targets: Sequence[Tensor] | None, options: Options
) -> list[str]:
    """Search block by block, so that one block's tensors are held at a time; returns quantizers that were left out."""
    unreached: list[str] = []
    units = list(_units(roles))
    for number, layers in enumerate(units, start=1):
        seen = seen_by(subject, batches, targets, layers)
        unreached += _leave_out(roles, [path for path in layers if path not in seen])
        with torch.no_grad():
            for path, each in seen.items():
                _search_one(layers[path], each, options)
        subject.progress("search scales", number, len(units))
    say(unreached)
    return unreached


def _units(roles: Roles) -> Iterator[dict[str, nn.Module]]:
    """Quantized layers and products that are looked at together: those of a block, and each other one by itself."""
    kinds = (QLinear, QConv2d, QMatMul)
    found: dict[str, nn.Module] = {p: m for p, m in roles.model.named_modules() if isinstance(m, kinds)}
    for block in roles.blocks:
        yield {path: found.pop(path) for path in list(found) if path.startswith(f"{block.path}.")}
    yield from ({path: module} for path, module in found.items())


def _search_one(layer: nn.Module, seen: Seen, options: Options) -> None:
    factors = multipliers(options.low, options.high, options.candidates)
    if isinstance(layer, QMatMul):
        left, right = layer.left, layer.right
        assert isinstance(left, SearchedQuantizer)
        assert isinstance(right, SearchedQuantizer)
        search_product(seen, left, right, factors, options.rounds, alone=isinstance(left, TwinSoftmax))
        return
    assert isinstance(layer, (QLinear, QConv2d))
    weight, inputs = layer.weight_quantizer, layer.input_quantizer
    assert isinstance(weight, SearchedQuantizer)
    assert inputs is None or isinstance(inputs, SearchedQuantizer)
    search_layer(seen, partial(_run, layer), weight, inputs, factors, options.rounds)


def _run(layer: QLinear | QConv2d, x: Tensor, weight: Tensor) -> Tensor:
    """The layer's output with another weight."""
    if isinstance(layer, QLinear):
        return F.linear(x, weight, layer.bias)
    return F.conv2d(x, weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _leave_out(roles: Roles, layers: Sequence[str]) -> list[str]:
    """Take the quantizers of layers that never run out: a backbone's own classifier; MethodInputError for others."""
    missing = []
    for path in layers:
        if path not in end_paths(roles):
            raise saw_nothing(path)
        missing += [f"{path}.weight_quantizer", f"{path}.input_quantizer"]
    leave_out(roles.model, missing)
    return missing
