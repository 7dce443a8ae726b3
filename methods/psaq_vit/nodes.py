"""The activations that PSAQ-ViT quantizes, and their ranges (arXiv 2203.02250, and its released code).

Each is a node, a module whose output goes through a quantizer (`toolkit.nodes`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.explicit import MatMul
from vitq.methods.architectures.roles import Roles, roles_of
from vitq.methods.bits import Bits
from vitq.methods.toolkit.modules import replace_modules, set_mode
from vitq.methods.toolkit.nodes import (
    ActivationQuantizer,
    NodeConv2d,
    NodeLinear,
    NodeMatMul,
    Spared,
    end_paths,
    node_paths,
    quantize_output,
    weight_quantizer,
)
from vitq.methods.toolkit.observers import MinMax
from vitq.methods.toolkit.unreached import fit_reached, leave_out, say
from vitq.subject import Batch, Output


def quantize_nodes(
    part: nn.Module, bits: Bits, spared: Collection[Spared] = (), unreached: Collection[str] = ()
) -> nn.Module:
    """Give a transformer PSAQ-ViT's quantizers, in place, all off; returns it.

    `unreached` are paths of nodes that get none, as `calibrate` found them. UnsupportedError for a part without
    attention, and for a gated MLP: the product of its halves, which enters the second layer, is no module's output.
    """
    roles = roles_of(part)
    gated = next((block for block in roles.blocks if block.mlp.gated), None)
    if gated is not None:
        raise UnsupportedError(
            f"PSAQ-ViT quantizes what modules put out, and has no node in the gated MLP of {gated.path}"
        )
    replace_modules(part, _swap(roles, bits, spared))
    leave_out(part, [path for path in unreached if path.endswith("_quantizer")])
    for path in node_paths(roles, spared):
        if path not in unreached:
            node = roles.module(path)
            quantize_output(node, ActivationQuantizer(bits.a))
    return part.to(next(part.parameters()).device)


def _swap(roles: Roles, bits: Bits, spared: Collection[Spared]) -> Callable[[str, nn.Module], nn.Module | None]:
    """What takes the place of a module; an operand that is no node's output has 32 bits."""
    probabilities = {attention.av for attention in roles.attentions}
    after_activation = {block.mlp.fc2 for block in roles.blocks} if "activation" in spared else set()

    def swap(path: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return NodeLinear.fed(module, bits.w, 32 if path in after_activation else bits.a)
        if type(module) is nn.Conv2d:
            return NodeConv2d.of(module, weight_quantizer(bits.w, module.out_channels), ActivationQuantizer(bits.a))
        if type(module) is MatMul:
            return NodeMatMul(32 if path in probabilities else bits.a, bits.a)
        return None

    return swap


class Calibration(NamedTuple):
    """What calibration saw: the range of each residual sum by its path, quantized or not, and which ends it never ran.

    A backbone's own norm, pooling and classifier may stand in a model that never runs them.
    """

    residual_ranges: dict[str, tuple[float, float]]
    unreached: list[str]

    @property
    def facts(self) -> dict[str, Any]:
        """What `quantize_nodes` must know to make the same nodes again."""
        return {"unreached": self.unreached} if self.unreached else {}


def calibrate(part: nn.Module, run: Callable[[Batch], Output], batches: Iterable[Batch]) -> Calibration:
    """Range every quantizer of a part in full precision while `run` takes the batches, then switch all on.

    An end that no batch reached loses its quantizer, since there is nothing to range it by. Raises MethodInputError
    where there is no batch, and where a quantizer elsewhere has seen nothing.
    """
    set_mode(part, "observe")
    roles = roles_of(part)
    with (
        _watch(part, [path for block in roles.blocks for path in block.sums]) as sums,
        _watch(part, end_paths(roles)) as ends,
    ):
        _run_all(run, batches)
    for module in part.modules():
        if isinstance(module, (NodeLinear, NodeConv2d)) and module.weight_quantizer is not None:
            module.weight_quantizer.observe(module.weight.detach())
    unreached = [path for path, seen in ends.items() if seen.low is None]
    for path in unreached:
        part.get_submodule(path).register_module("output_quantizer", None)
    unreached += fit_reached(part, roles)
    say(unreached)
    set_mode(part, "on")
    ran = {path: (seen.low, seen.high) for path, seen in sums.items()}
    ranges = {path: (float(low), float(high)) for path, (low, high) in ran.items() if not (low is None or high is None)}
    return Calibration(ranges, unreached)


def _run_all(run: Callable[[Batch], Output], batches: Iterable[Batch]) -> None:
    seen = 0
    with torch.no_grad():
        for batch in batches:
            run(batch)
            seen += 1
    if not seen:
        raise MethodInputError("the calibration set is empty: give images to take ranges from")


@contextmanager
def _watch(part: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, MinMax]]:
    """The running range of what modules put out, by their path."""
    watches = {path: MinMax() for path in paths}
    handles = [
        part.get_submodule(path).register_forward_hook(lambda _m, _i, out, watch=watch: watch.update(out))
        for path, watch in watches.items()
    ]
    try:
        yield watches
    finally:
        for handle in handles:
            handle.remove()
