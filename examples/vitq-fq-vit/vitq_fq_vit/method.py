"""FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer (arXiv 2111.13824).

Every activation goes through a quantizer, the inputs of LayerNorms and the attention map included. Those inputs differ
widely between channels: a power-of-two factor a channel lets one integer LayerNorm serve all. The attention map becomes
powers of two, computed from integers, so that its product with V is a shift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from vitq.details import Details
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import MatMul
from vitq.methods.architectures.roles import Attention, Roles, roles_of
from vitq.methods.base import Quantized
from vitq.methods.bits import Bits
from vitq.methods.cards import all_cards
from vitq.methods.toolkit.calibration import saw_nothing
from vitq.methods.toolkit.modules import named_quantizers, replace_modules, set_mode
from vitq.methods.toolkit.nodes import (
    ActivationMinMax,
    ActivationQuantizer,
    NodeConv2d,
    NodeLinear,
    NodeMatMul,
    end_paths,
    node_paths,
    quantize_output,
    weight_quantizer,
)
from vitq.methods.toolkit.quantizers import Grid, Quantizer
from vitq.methods.toolkit.unreached import leave_out, say
from vitq.subject import Subject
from vitq_fq_vit.layernorm import IntegerLayerNorm
from vitq_fq_vit.log_int_softmax import LogIntSoftmax
from vitq_fq_vit.options import Options
from vitq_fq_vit.ranges import PERCENTILE, LastBatch, LeastError, MovingRange, PowerOfTwoFactors

T = TypeVar("T")


def unsupported(bits: Bits, options: Options) -> str | None:
    """Widths that the card does not serve, and attention maps outside of 2..8 bits."""
    if not 2 <= (options.map_bits or bits.a) <= 8:
        return f"fq_vit quantizes the attention map to 2..8 bits, not to {options.attention_bits}"
    return all_cards()["fq_vit"].supports.refuses(bits)


def prepare(part: nn.Module, bits: Bits, options: Options) -> nn.Module:
    """Quantized layers, products and nodes with unfitted grids; UnsupportedError for what is no transformer alone."""
    _replace(part, bits, options)
    return part


def restore(part: nn.Module, bits: Bits, options: Options, facts: dict[str, Any]) -> nn.Module:
    """The finished part's modules, every quantizer on and without a grid until `saving.fill` gives it one."""
    made = prepare(part, bits, options)
    leave_out(made, facts.get("left_out", []))
    return set_mode(made, "on")


@torch.no_grad()
def quantize(subject: Subject, bits: Bits, options: Options) -> Quantized:
    """Ranges of the model in floating point over all batches, with what minimizes an error fixed on the last one."""
    part = subject.part
    roles = _replace(part, bits, options)
    left_out = _spare_the_image(subject, roles) if options.image == "released" else []
    _fit_weights(part)
    _observe(subject, part, options)
    left_out += _unreached(roles)
    set_mode(part, "on")
    return Quantized(subject.put(part), Details(), facts={"left_out": left_out} if left_out else {})


def _replace(part: nn.Module, bits: Bits, options: Options) -> Roles:
    """Give a transformer its quantizers, in place, all off; returns its roles."""
    roles = roles_of(part)
    wrong = [*roles.beside, *_unserved(roles)]
    if wrong:
        raise UnsupportedError(f"FQ-ViT does not serve {wrong[0]}: give the scope of a plain ViT or Swin")
    replace_modules(part, _swap(roles, bits, options))
    for path in node_paths(roles):
        quantize_output(roles.module(path), _activation(bits.a, options))
    for attention in roles.attentions:
        _quantize_attention(roles, attention, bits, options)
    if options.ptf:
        _give_factors(roles, bits, options)
    part.to(next(part.parameters()).device)
    return roles


def _unserved(roles: Roles) -> Iterator[str]:
    """What has no place in FQ-ViT's chain of norms and sums."""
    if roles.whole != "":
        yield "a part that is more or less than one transformer"
    if roles.embedding.last_norm is not None:
        yield "a norm before the blocks"
    for block in roles.blocks:
        if block.attention.norms or block.mlp.norm is not None or block.mlp.gated:
            yield f"norms within attention or a gated or normed MLP at {block.path}"


def _swap(roles: Roles, bits: Bits, options: Options) -> Any:
    """What takes the place of a layer or product; operands come from nodes, but for the image."""
    maps = {attention.av for attention in roles.attentions}

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return NodeLinear.fed(module, bits.w, bits.a)
        if type(module) is nn.Conv2d:
            return NodeConv2d.of(module, weight_quantizer(bits.w, module.out_channels), _activation(bits.a, options))
        if type(module) is MatMul:
            return NodeMatMul((options.map_bits or bits.a) if path in maps else bits.a, bits.a)
        return None

    return swap


def _activation(bits: int, options: Options) -> ActivationQuantizer:
    """One asymmetric grid a tensor, its range found by the observer."""
    kinds: dict[str, Callable[[], Grid]] = {
        "minmax": ActivationMinMax, "ema": MovingRange, "percentile": lambda: MovingRange(PERCENTILE),
        "omse": LeastError,
    }  # fmt: skip
    return ActivationQuantizer(bits, kinds[options.observer]())


def _quantize_attention(roles: Roles, attention: Attention, bits: Bits, options: Options) -> None:
    """The attention map: log-int-softmax on the grid that its input has, or a uniform grid behind the softmax."""
    bits_of_map = options.map_bits or bits.a
    if options.softmax == "uniform":
        quantize_output(roles.module(attention.softmax), _activation(bits_of_map, options))
        return
    source = roles.module(attention.bias_add or attention.logits)
    parent, _, leaf = attention.softmax.rpartition(".")
    setattr(roles.module(parent), leaf, LogIntSoftmax(bits_of_map, source, options.log_code_overflow))


def _give_factors(roles: Roles, bits: Bits, options: Options) -> None:
    """Factors for what enters a LayerNorm, and the norm in integers.

    A Swin's first norm reads the patch embedding's norm, which is on one scale a tensor (released code).
    """
    for source, norm in _norms(roles):
        module, after = roles.module(source), roles.module(norm)
        assert isinstance(after, nn.LayerNorm)
        if source != roles.embedding.norm:
            gathered = 4 if norm in {merging.norm for merging in roles.mergings} else 1
            module.output_quantizer = FactorQuantizer(bits.a, after.normalized_shape[-1] // gathered)
        if options.integer_layernorm:
            _in_integers(roles, norm, module)


def _norms(roles: Roles) -> Iterator[tuple[str, str]]:
    """(what puts out a LayerNorm's input, the norm) along the forward pass."""
    embedding, mergings = roles.embedding, {merging.before: merging for merging in roles.mergings}
    source = embedding.position_add or embedding.norm
    for block in roles.blocks:
        if block.path in mergings:
            yield _known(source), mergings[block.path].norm
            source = mergings[block.path].reduction
        yield _known(source), block.norm1
        yield block.sums[0], block.norm2
        source = block.sums[1]
    yield from ((_known(source), norm) for norm in roles.ends.norms if norm not in roles.ends.after_pooling)


def _known(path: str | None) -> str:
    if path is None:
        raise UnsupportedError("FQ-ViT needs a sum with positions or a norm of patches before the first block")
    return path


def _in_integers(roles: Roles, path: str, source: nn.Module) -> None:
    norm, (parent, _, leaf) = roles.module(path), path.rpartition(".")
    assert isinstance(norm, nn.LayerNorm)
    new = IntegerLayerNorm.of(norm, source)
    quantize_output(new, norm.output_quantizer)  # type: ignore[arg-type]
    setattr(roles.module(parent), leaf, new)


class FactorQuantizer(ActivationQuantizer):
    """A grid a tensor with a power-of-two factor a channel (the last dimension)."""

    def __init__(self, bits: int, channels: int) -> None:
        super().__init__(bits, PowerOfTwoFactors())
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("zero_point", torch.zeros(channels))

    def overhead_bits(self) -> int:
        """Scale and zero point, and two bits a channel."""
        return 64 + 2 * self.scale.numel()


def _spare_the_image(subject: Subject, roles: Roles) -> list[str]:
    """Leave an image of mean and std 0.5 as it is: its pixels are 8-bit codes already. Returns the quantizer's path."""
    pixels = {*subject.input.mean, *subject.input.std} == {0.5}
    paths = [f"{roles.embedding.projection}.input_quantizer"] if pixels and roles.embedding.projection else []
    leave_out(roles.model, paths)
    return paths


def _fit_weights(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, (NodeLinear, NodeConv2d)) and module.weight_quantizer is not None:
            module.weight_quantizer.observe(module.weight)
            module.weight_quantizer.fit()


def _observe(subject: Subject, part: nn.Module, options: Options) -> None:
    """Show every batch to the observers of activations; the last one fixes each grid as it runs, and uses none yet."""
    waiting = {path: q for path, q in named_quantizers(part).items() if not q.fitted}
    done = 0
    for batch, last in _with_last(subject.calibration()):
        for quantizer in waiting.values():
            quantizer.mode = "observe"
            if last:
                _fix_when_it_ran(quantizer)
        if last and options.calibration_softmax == "released":
            _switch_on_softmax(part)
        subject.forward(subject.model, batch)
        done += 1
        subject.progress("calibrate", done, 0)
    if not done:
        raise MethodInputError("calibration needs at least one calibration batch; there was none")


def _fix_when_it_ran(quantizer: Quantizer) -> None:
    """Fix the grid on what this batch shows, once; the tensor goes on as it is."""
    grid = getattr(quantizer, "grid", None)
    if isinstance(grid, LastBatch):
        grid.keep = True

    def fix(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        quantizer.fit()
        quantizer.mode = "off"
        hook.remove()

    hook = quantizer.register_forward_hook(fix)


def _switch_on_softmax(part: nn.Module) -> None:
    for module in part.modules():
        if isinstance(module, LogIntSoftmax):
            module.mode = "on"


def _unreached(roles: Roles) -> list[str]:
    """Quantizers that saw nothing: a backbone's own norm and classifier may never run. MethodInputError for others."""
    missing = [path for path, q in named_quantizers(roles.model).items() if not q.fitted]
    for path in missing:
        if path.rpartition(".")[0] not in end_paths(roles):
            raise saw_nothing(path)
    leave_out(roles.model, missing)
    say(missing)
    return missing


def _with_last(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last."""
    ahead = iter(items)
    for item in ahead:
        for following in ahead:
            yield item, False
            item = following
        yield item, True
