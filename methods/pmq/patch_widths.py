"""Patch-wise activation widths: the less important patches of every image run at the next lower width.

A patch's importance is the attention that the class token pays it, averaged over heads, or the mean attention that it
receives where there is no class token. It is taken from the block's own attention for the operands that come after the
softmax (attention·V, proj, fc1, fc2), and from the block before for those that come before it (qkv, Q·K^T): there is
none yet in the first block of a stage, which keeps its width there. Prefix tokens are always important.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from vitq.details.pmq import Patches
from vitq.errors import MethodInputError, UnsupportedError
from vitq.methods.architectures.roles import Block, Roles, roles_of
from vitq.methods.pmq.components import Component, Widths, clip, set_width
from vitq.methods.pmq.components import bitops as components_bitops
from vitq.methods.pmq.patch_quantizers import STEPS, PatchQuantizer, Places, Ranking, RankingProduct, Size, cheap_share
from vitq.methods.pmq.search import Search
from vitq.methods.toolkit.layers import QMatMul
from vitq.methods.toolkit.quantizers import Quantizer, UniformQuantizer


class PatchComponent(NamedTuple):
    """A component that can run patch-wise, where tokens lie in each of its operands, and in which windows.

    Images are counted with `tokens` tokens in `places` places, windows' padding included. `attention_value` says that
    it is attention·V, which ranks the patches.
    """

    component: Component
    axes: tuple[int, ...]
    windows: Places | None
    tokens: int
    places: int
    attention_value: bool = False


class Counted(NamedTuple):
    """The size that images are counted at: that of the map of patches, and the tokens where they lie in no windows."""

    patches: Size
    tokens: int


def patch_components(roles: Roles, parts: Sequence[Component], counted: Counted) -> list[PatchComponent]:
    """Every component that has a ranking when it runs, in forward order."""
    by_name = {part.name: part for part in parts}
    merged_before = [merging.before for merging in roles.mergings]
    seen: set[str] = set()
    found = []
    mergings = 0
    for block in roles.blocks:
        mergings += block.path in merged_before
        windows = None if block.attention.windows is None else Places(block.attention.windows, mergings)
        layout = None if windows is None else windows.layout(counted.patches)
        tokens = counted.tokens if layout is None else int((layout >= 0).sum())
        for path, axes, windowed in _operands(block, first=block.stage not in seen):
            if path in by_name:
                places = layout.numel() if windowed and layout is not None else tokens
                where = windows if windowed else None
                found.append(PatchComponent(by_name[path], axes, where, tokens, places, path == block.attention.av))
        seen.add(block.stage)
    return found


def _operands(block: Block, first: bool) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """(component, token dimension of each operand, whether tokens lie in windows) of one block."""
    if not first:
        yield block.attention.qkv, (1,), True
        yield block.attention.qk, (2, 3), True
    yield block.attention.av, (2, 2), True
    yield block.attention.proj, (1,), True
    yield block.mlp.fc1, (1,), False
    yield block.mlp.fc2, (1,), False


def lower(bits: int, ladder: Sequence[int]) -> int:
    """The next lower candidate width; the lowest stays."""
    return max((b for b in ladder if b < bits), default=bits)


def bitops(parts: Sequence[Component], patched: Sequence[PatchComponent], widths: Widths, ladder: Sequence[int],
           ranking: Ranking) -> float:  # fmt: skip
    """BitOPs of one image when the ranking's share of tokens runs at the lower width."""
    patchwise = {each.component.name: cheap_share(ranking, each.tokens, each.places) for each in patched}
    total = 0.0
    for part in parts:
        w, a = widths[part.name]
        mean = float(a)
        if part.name in patchwise:
            cheap = patchwise[part.name]
            mean = cheap * lower(a, ladder) + (1 - cheap) * a
        total += part.macs * mean * (w if part.weights else mean)
    return total


def find_share(parts: Sequence[Component], patched: Sequence[PatchComponent], widths: Widths, ladder: Sequence[int],
               ranking: Ranking, target: float) -> float:  # fmt: skip
    """The smallest share (in steps of 1/1024) that meets a BitOPs target; MethodInputError where none does."""
    low, high = 0, STEPS
    ranking.share = 1.0
    least = bitops(parts, patched, widths, ladder, ranking)
    if least > target:
        raise MethodInputError(
            f"patch-wise widths reach {least / 1e9:.3f} GBitOPs at the lowest, {target / 1e9:.3f} were asked for; "
            "lower `patch_saving`"
        )
    while low < high:
        middle = (low + high) // 2
        ranking.share = middle / STEPS
        fits = bitops(parts, patched, widths, ladder, ranking) <= target
        low, high = (low, middle) if fits else (middle + 1, high)
    return low / STEPS


def install(part: nn.Module, patched: Sequence[PatchComponent], ladder: Sequence[int], ranking: Ranking) -> None:
    """Replace the activation quantizers of every component by patch-wise ones, and let attention·V rank the patches."""
    for each in patched:
        module = each.component.module
        if isinstance(module, QMatMul):
            left, right = each.component.activations()
            module.left = _patchwise(left, each, 0, ladder, ranking)
            module.right = _patchwise(right, each, 1, ladder, ranking)
        else:
            (only,) = each.component.activations()
            module.input_quantizer = _patchwise(only, each, 0, ladder, ranking)
        if each.attention_value:
            module.__class__ = RankingProduct
            module.ranking = ranking  # type: ignore[assignment]
            module.windows = each.windows  # type: ignore[assignment]
    part.to(next(part.parameters()).device)


def _patchwise(
    high: UniformQuantizer, one: PatchComponent, operand: int, ladder: Sequence[int], ranking: Ranking
) -> Quantizer:
    bits = lower(high.bits, ladder)
    if bits == high.bits:
        return high
    low = UniformQuantizer(bits, clip(high))
    if high.fitted:  # not where a saved model is restored, which brings the grids
        set_width(low, bits)
    low.mode = "on"
    return PatchQuantizer(high, low, ranking, one.axes[operand], one.windows, one.tokens, one.places)


def assign(run: Search, widths: Widths) -> tuple[Patches, dict[str, Any]]:
    """Move the less important patches to lower widths until the saving is met.

    Returns share and BitOPs for the record, and the facts that `restore` needs.
    """
    roles = roles_of(run.part)
    ranking = Ranking(0.0, roles.class_tokens, class_token=roles.has_class_token)
    _watch(run.part, roles, ranking)
    counted = _counted(run, roles, ranking)
    patched = patch_components(roles, run.components, counted)
    before = components_bitops(run.components, widths)
    target = before * (1 - run.options.patch_saving)
    ranking.share = find_share(run.components, patched, widths, run.ladder, ranking, target)
    after = bitops(run.components, patched, widths, run.ladder, ranking)
    install(run.part, patched, run.ladder, ranking)
    record = Patches(
        share=ranking.share, gbitops_before=before / 1e9, gbitops=after / 1e9, components=len(patched),
        importance="class token" if ranking.class_token else "mean attention",
    )  # fmt: skip
    return record, facts(ranking, counted)


def _watch(part: nn.Module, roles: Roles, ranking: Ranking) -> None:
    """Let the ranking know the map of patches of the images that flow; UnsupportedError where no role says where."""
    path = roles.embedding.projection
    if path is None:
        raise UnsupportedError("patch-wise widths need the patch embedding, which this part lacks: give another scope")
    part.get_submodule(path).register_forward_hook(ranking.see)


@torch.no_grad()
def _counted(run: Search, roles: Roles, ranking: Ranking) -> Counted:
    """The map of patches and, without windows, the tokens of the first calibration batch, seen in a forward pass."""
    seen: list[int] = []
    module = run.part.get_submodule(roles.blocks[0].attention.av)
    handle = module.register_forward_hook(lambda _m, inputs, _o: seen.append(int(inputs[0].shape[-1])))
    run.subject.forward(run.subject.model, next(run.subject.calibration()))
    handle.remove()
    assert ranking.patches is not None
    return Counted(ranking.patches, 0 if roles.windowed else seen[0])


def facts(ranking: Ranking, counted: Counted) -> dict[str, Any]:
    """What `restore` needs of a part that `install` made patch-wise, JSON-able."""
    ranked = {"share": ranking.share, "prefix": ranking.prefix, "class_token": ranking.class_token}
    return {**ranked, "tokens": counted.tokens, "patches": list(counted.patches)}


def restore(part: nn.Module, parts: Sequence[Component], ladder: Sequence[int], known: dict[str, Any]) -> None:
    """Make a part patch-wise as `facts` says, its grids to come; its components have their widths."""
    ranking = Ranking(float(known["share"]), int(known["prefix"]), bool(known["class_token"]))
    height, width = known["patches"]
    roles = roles_of(part)
    _watch(part, roles, ranking)
    install(part, patch_components(roles, parts, Counted((height, width), int(known["tokens"]))), ladder, ranking)
