"""Patch similarity and its entropy: what PSAQ-ViT generates images by (arXiv 2203.02250).

A transformer's attention answers a real image with patches that differ and a noise image with patches that are alike.
The diversity of patch similarities is measured by their differential entropy, estimated by a Gaussian kernel density.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitq.errors import UnsupportedError
from vitq.methods.architectures.roles import Attention, roles_of
from vitq.methods.psaq_vit.options import DropToken

LOG_OFFSET = 1e-4
_FAR = 8.0  # kernels further than 8*sqrt(2) bandwidths are cut there: exp(-64) is below any float32 sum's last bit
_CHUNK = {"cpu": 2**18, "cuda": 2**25}  # kernel values held at once: about a second-level cache, and 128 MB on a GPU
_WHOLE = {"cpu": 2**22, "cuda": 2**25}  # an image larger than a chunk is held whole up to here, 16 MB; else taken twice


def patch_similarity(attention_output: Tensor, drop: int = 1) -> Tensor:
    """Cosine similarity of all pairs of patches, [B, H, N, d] -> [B, N', N'] (equation 6).

    `attention_output` is softmax(..)·V per head; it is averaged over heads, and the first `drop` tokens are left out.
    """
    u = attention_output.mean(1)[:, drop:]
    u = u / u.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    similarity: Tensor = u @ u.transpose(-2, -1)
    return similarity


def density_grid(similarity: Tensor, points: int = 10, inside: Tensor | None = None) -> Tensor:
    """`points` evenly spaced positions from the smallest to the largest similarity of the batch, detached.

    `inside` [windows, N'] says which tokens are patches and no padding; the others' similarities are not looked at.
    """
    given = similarity.detach()
    if inside is not None:
        given = given.view(-1, len(inside), *given.shape[1:])[:, _both(inside)]
    low, high = torch.aminmax(given)
    return low + (high - low) * torch.linspace(0, 1, points, device=low.device, dtype=low.dtype)


def kernel_density(
    similarity: Tensor, grid: Tensor, bandwidth: float = 0.01, windows: int = 1, inside: Tensor | None = None
) -> Tensor:
    """Gaussian kernel density of each image's similarities at the grid's points, [B*windows, N', N'] -> [B, points].

    f(x) = mean over all pairs i, j of all the image's windows of exp(-(x - G_ij)^2 / 2h^2) / (sqrt(2 pi) h)
    (equation 7; one density an image in Swin too, as in the released code). G is taken to be symmetric. With `inside`,
    as in `density_grid`, pairs of patches alone are counted.
    """
    groups = _image_groups(similarity.detach(), grid, bandwidth, windows, inside)
    return torch.cat([group.density for group in groups])


def differential_entropy(density: Tensor, grid: Tensor) -> Tensor:
    """Mean over images of the trapezoid integral of -(f + 1e-4) log(f + 1e-4), [B, points] -> scalar (equation 8)."""
    f = density + LOG_OFFSET
    return torch.trapezoid(-f * f.log(), grid, dim=-1).mean()


def similarity_entropy(
    similarity: Tensor, bandwidth: float = 0.01, points: int = 10, windows: int = 1, inside: Tensor | None = None
) -> Tensor:
    """Differential entropy of a layer's patch similarities [B*windows, N', N'] (symmetric), a differentiable scalar.

    Rows of one image lie together, as window attention has them. The same value and gradient as `differential_entropy`
    of the plain kernel density under autograd, which would build and keep several tensors of B x windows x N'^2 x
    points. Here each pair is evaluated a bounded piece at a time, and the gradient with respect to G is formed from the
    same kernel values; what is kept is one tensor of G's size. `inside` as in `density_grid`.
    """
    entropy: Tensor = _SimilarityEntropy.apply(similarity, bandwidth, points, windows, inside)
    return entropy


class PatchEntropy:
    """Context in which every forward pass of a transformer adds up the entropies of its attentions' similarities.

    `part` is the transformer, made explicit here. An attention sees [B*windows, ...]; B is what enters the embedding's
    projection. Windows that reach over a feature map's end hold padding, which is no patch and is left out.
    UnsupportedError where there is no attention or no such projection.
    """

    def __init__(self, part: nn.Module, bandwidth: float, points: int, drop_token: DropToken) -> None:
        self.roles = roles_of(part)
        self.bandwidth, self.points, self.drop_token = bandwidth, points, drop_token
        self._images = 0
        self._entropies: list[Tensor] = []
        self._handles: list[Any] = []

    def __enter__(self) -> PatchEntropy:
        self._handles.append(self._patch_embedding().register_forward_pre_hook(self._count))
        for attention in self.roles.attentions:
            product = self.roles.module(attention.av)
            self._handles.append(product.register_forward_hook(self._hook(attention)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._entropies.clear()

    def _dropped(self, attention: Attention) -> int:
        """How many first tokens an attention leaves out: those that stand for no patch, and one as the option says."""
        no_patches = 0 if attention.windowed else self.roles.class_tokens
        return max(no_patches, int(self.drop_token == "first"))

    def _patch_embedding(self) -> nn.Module:
        path = self.roles.embedding.projection
        if path is None:
            raise UnsupportedError(
                f"{type(self.roles.model).__name__} has no module for the role embedding (projection): images cannot "
                "be counted"
            )
        return self.roles.module(path)

    def _count(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._images = inputs[0].shape[0]

    def _hook(self, attention: Attention) -> Any:
        drop = self._dropped(attention)

        def add(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            similarity = patch_similarity(output, drop)
            windows = similarity.shape[0] // max(1, self._images)
            inside = _inside(attention, windows, drop, similarity.device)
            self._entropies.append(similarity_entropy(similarity, self.bandwidth, self.points, windows, inside))

        return add

    def take(self) -> Tensor:
        """The sum over layers since the last call, a scalar."""
        total = torch.stack(self._entropies).sum()
        self._entropies.clear()
        return total


def _inside(attention: Attention, windows: int, drop: int, device: torch.device) -> Tensor | None:
    """Which tokens of an image's windows are patches, bool [windows, N']; None where all are."""
    layout = None if attention.layout is None else attention.layout()
    if layout is None or bool((layout >= 0).all()):
        return None
    return (layout.view(windows, -1)[:, drop:] >= 0).to(device)


def _both(inside: Tensor) -> Tensor:
    """Of which pairs both tokens are patches, bool [windows, N', N']."""
    return inside[:, :, None] & inside[:, None, :]


class _SimilarityEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, similarity: Tensor, bandwidth: float, points: int, windows: int, inside: Tensor | None
    ) -> Tensor:
        grid, counted = density_grid(similarity, points, inside), _pairs_a_window(similarity, inside)
        images, total = similarity.shape[0] // windows, similarity.new_zeros(())
        gradient = torch.empty_like(similarity) if ctx.needs_input_grad[0] else None
        for group in _image_groups(similarity, grid, bandwidth, windows, inside):
            total += differential_entropy(group.density, grid) * group.density.shape[0]
            if gradient is not None:
                slope = (_entropy_slope(group.density, grid) / (images * windows)).repeat_interleave(windows, 0)
                for rows, distance, kernel in group.pieces():
                    some = slope[rows.start - group.start : rows.stop - group.start]
                    gradient[rows] = _similarity_gradient(
                        some, distance, kernel, bandwidth, similarity.shape[-1], counted
                    )
        if gradient is not None and inside is not None:
            gradient.view(-1, windows, *gradient.shape[1:]).mul_(_both(inside))
        ctx.save_for_backward(gradient)
        return total / images

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (None if gradient is None else gradient * grad_outputs[0]), None, None, None, None


Piece = tuple[slice, Tensor, Tensor]
"""Rows (windows) of the batch, and their distances and kernels [rows, K, pairs] of pairs i <= j."""


class _Group(NamedTuple):
    """Whole images: the first of their rows, their densities [b, K], and their pieces, which may be gone over once."""

    start: int
    density: Tensor
    pieces: Callable[[], Iterator[Piece]]


def _image_groups(
    similarity: Tensor, grid: Tensor, h: float, windows: int, inside: Tensor | None = None
) -> Iterator[_Group]:
    """A few images at a time. An image too large to be held is gone over twice: for its density, for its gradient."""
    if windows < 1 or similarity.shape[0] % windows:
        raise ValueError(f"{similarity.shape[0]} rows are no whole number of images of {windows} windows")
    n = similarity.shape[-1]
    pairs = _pairs(n, similarity.device)
    counted = _pairs_a_window(similarity, inside)
    weights = pairs[2].to(similarity.dtype) / (counted * math.sqrt(2 * math.pi) * h)
    some = None if inside is None else weights * _both(inside).flatten(1)[:, pairs[0]]
    row, chunk = len(weights) * len(grid), _limit(_CHUNK, similarity)
    images = max(1, chunk // (row * windows))
    held = windows * row <= max(chunk, _limit(_WHOLE, similarity))
    step = images * windows if held else max(1, chunk // row)
    buffers = similarity.new_empty(2, min(step, len(similarity)), len(grid), len(weights))
    for start in range(0, len(similarity), images * windows):
        stop = min(start + images * windows, len(similarity))
        walk = partial(_pieces, similarity, grid, h, range(start, stop, step), stop, buffers)
        kept = list(walk()) if held else None
        parts = [_summed(kernel, rows, weights, some) for rows, _, kernel in (walk() if kept is None else kept)]
        density = torch.cat(parts).view(-1, windows, len(grid)).mean(1)
        yield _Group(start, density, walk if kept is None else partial(iter, kept))


def _pairs_a_window(similarity: Tensor, inside: Tensor | None) -> float:
    """How many pairs of patches a window has, on average over an image's windows."""
    return similarity.shape[-1] ** 2 if inside is None else float(inside.sum(1).square().double().mean())


def _summed(kernel: Tensor, rows: slice, weights: Tensor, some: Tensor | None) -> Tensor:
    """Kernels [rows, K, pairs] summed over pairs, [rows, K]; `some` [windows, pairs] are the weights of each window."""
    if some is None:
        return kernel @ weights
    window = torch.arange(rows.start, rows.stop, device=kernel.device) % len(some)
    return (kernel @ some[window].unsqueeze(2)).squeeze(2)


def _limit(table: dict[str, int], x: Tensor) -> int:
    return table.get(x.device.type, table["cuda"])


def _pieces(similarity: Tensor, grid: Tensor, h: float, starts: range, stop: int, buffers: Tensor) -> Iterator[Piece]:
    """Distances x - G_ij and kernels exp(-distance^2 / 2h^2) in two buffers, overwritten by the next piece."""
    upper = _pairs(similarity.shape[-1], similarity.device)[0]
    far, zero = _FAR * math.sqrt(2) * h, similarity.new_zeros(())
    for start in starts:
        rows = slice(start, min(start + starts.step, stop))
        distance, kernel = buffers[:, : rows.stop - rows.start]
        pairs = similarity[rows].flatten(1).index_select(1, upper).unsqueeze(1)
        torch.sub(grid.view(1, -1, 1), pairs, out=distance).clamp_(-far, far)
        torch.addcmul(zero, distance, distance, value=-0.5 / h**2, out=kernel).exp_()
        yield rows, distance, kernel


def _entropy_slope(density: Tensor, grid: Tensor) -> Tensor:
    """d(integral)/d(density): -(log(f + 1e-4) + 1) times the trapezoid weight of each point, [b, K]."""
    steps = grid.diff()
    trapezoid = torch.cat([steps[:1], steps[1:] + steps[:-1], steps[-1:]]) / 2
    return -((density + LOG_OFFSET).log() + 1) * trapezoid


def _similarity_gradient(slope: Tensor, distance: Tensor, kernel: Tensor, h: float, n: int, counted: float) -> Tensor:
    """d(entropy)/dG [b, n, n] from d(entropy)/df [b, K]: df/dG_ij = kernel * (x - G_ij) / (counted sqrt(2 pi) h^3)."""
    scaled = (slope / (counted * math.sqrt(2 * math.pi) * h**3)).unsqueeze(1)
    pairs = (scaled @ distance.mul_(kernel)).squeeze(1)
    return pairs.index_select(1, _pairs(n, slope.device)[1]).view(-1, n, n)


@lru_cache(maxsize=16)
def _pairs(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of a symmetric n x n matrix: flat positions of pairs i <= j, the pair at each position, how often it occurs."""
    rows, columns = torch.triu_indices(n, n, device=device)
    pair = torch.empty(n, n, dtype=torch.long, device=device)
    number = torch.arange(len(rows), device=device)
    pair[rows, columns] = pair[columns, rows] = number
    return rows * n + columns, pair.flatten(), 2.0 - (rows == columns).float()
