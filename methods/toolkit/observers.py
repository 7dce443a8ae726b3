"""How a scale and a zero point are found from the tensors a quantizer is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vitq.errors import MethodInputError
from vitq.methods.toolkit.quantiles import rows_of, tail_quantiles
from vitq.methods.toolkit.quantizers import scalar

PERCENTILES = (0.999, 0.9999, 0.99999)
"""The quantiles that RepQ-ViT's released code searches, in its order."""
CHUNK = 2**18
"""Elements worked on at a time: the intermediate results of a chain of operations stay in the cache."""
_TINY = torch.finfo(torch.float32).tiny * 2**24
_SAFE = 40
_FLAT = 4 * torch.finfo(torch.float32).eps


class NothingShownError(RuntimeError):
    """A grid was asked for before any tensor was shown."""

    def __init__(self) -> None:
        super().__init__("a quantizer was asked for its grid before it was shown a tensor")


def flat(low: Tensor, high: Tensor) -> Tensor:
    """Whether a range has no width that floating point could tell from none: a few units in the last place."""
    return high - low <= _FLAT * torch.maximum(low.abs(), high.abs())


def affine_grid(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Asymmetric grid over [low, high]: D = (high-low)/(2^b-1), z = round(-low/D).

    A range without width, as pruned channels have, has one value v, and gets a grid that holds it and zero exactly:
    D = |v| and a zero point of 0 (v > 0) or 1 (v < 0); D = 1 for zeros. Steps below 1e-31 are 1e-31. Raises
    MethodInputError for a range that is not finite.
    """
    if not bool((torch.isfinite(low) & torch.isfinite(high)).all()):
        raise MethodInputError("the tensor holds NaN or infinity; check the weights and calibration inputs")
    levels = 2**bits - 1
    step = (high - low) / levels
    step = torch.where(torch.isfinite(step), step, high / levels - low / levels).clamp_min(_TINY)
    value = low / 2 + high / 2
    own = torch.where(value.abs() > _TINY, value.abs(), torch.ones_like(value))
    constant = flat(low, high)
    zero = torch.where(constant, (value < 0).to(step.dtype), torch.round(-low / step))
    return torch.where(constant, own, step), zero


def exponents(low: Tensor, high: Tensor) -> Tensor | None:
    """Powers of two that bring ranges [rows] to about 1, where their squares would leave float32; else None.

    A squared error of values below 1e-19 is 0 and of values above 1e19 infinite, and every grid as good as another.
    """
    power = torch.frexp(torch.maximum(low.abs(), high.abs())).exponent
    return power if bool((power.abs() > _SAFE).any()) else None


class MinMax:
    """Running minimum and maximum over all tensors shown; per tensor, or per channel along `axis`."""

    def __init__(self, axis: int | None = None, symmetric: bool = False) -> None:
        self.axis, self.symmetric = axis, symmetric
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Widen the range by x."""
        if self.axis is None:
            low, high = torch.aminmax(x)
        else:
            rows = x.movedim(self.axis, 0).flatten(1)
            low, high = rows.amin(1), rows.amax(1)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Asymmetric over the plain range, or symmetric with D = 2m/(2^b-1), m = max|x|; forgets the range.

        NothingShownError before a tensor was shown.
        """
        if self.low is None or self.high is None:
            raise NothingShownError
        low, high = self.low, self.high
        self.low = self.high = None
        if not self.symmetric:
            return affine_grid(low, high, bits)
        bound = torch.maximum(low.abs(), high.abs())
        step, _ = affine_grid(-bound, bound, bits)
        return step, torch.zeros_like(step)


def chunks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Cut x [rows, n] into pieces of about CHUNK elements along its outermost dimension; (the piece's rows, piece)."""
    by_rows = x.shape[0] > 1 and x.stride(0) > x.stride(1)
    size = max(1, CHUNK // max(1, x.shape[1 if by_rows else 0]))
    for i, part in enumerate(torch.split(x, size, 0 if by_rows else 1)):
        yield (slice(i * size, i * size + part.shape[0]) if by_rows else slice(None)), part


class PercentileMSE:
    """RepQ-ViT's search: for p in 0.999, 0.9999, 0.99999 the asymmetric grid over [quantile(1-p), quantile(p)].

    The grid with the least mean squared error is kept, the first of equals; per tensor, or for each channel along
    `axis` by itself (arXiv 2212.08254, released code). A p whose quantiles coincide is passed over, as the released
    code's NaN makes it; where all do, the range is the whole one, and where that is one value, the grid holds it.

    `constants` [channels] are, after `grid`, the values of channels that have only one, and NaN for the others.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self.shown: list[Tensor] = []
        self.constants: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Keep x (its rows, see `rows_of`) until the grid is asked for."""
        self.shown.append(rows_of(x, self.axis))

    def grid(self, bits: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point, scalars or [channels]; forgets what was shown. NothingShownError before that."""
        if not self.shown:
            raise NothingShownError
        x = self.shown[0] if len(self.shown) == 1 else torch.cat(self.shown, dim=1)
        self.shown = []
        low, high, flats = self._ranges(x)
        scale, zero = affine_grid(low, high, bits)
        power, sizes = exponents(low.amin(1), high.amax(1)), scale
        if power is not None:
            x, sizes = (torch.ldexp(t, -power[:, None]) for t in (x, scale))
        best = _best(x, sizes, zero, bits, flats)
        scale, zero = scale.gather(1, best).squeeze(1), zero.gather(1, best).squeeze(1)
        return (scale[0], zero[0]) if self.axis is None else (scale, zero)

    def _ranges(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Low and high ends of the candidates [channels, 3], and which have no width."""
        high = tail_quantiles(x, PERCENTILES, upper=True)
        low = tail_quantiles(x, tuple(1 - p for p in PERCENTILES), upper=False)
        flats = flat(low, high)
        lost = flats.all(1)
        self.constants = low.new_full(lost.shape, torch.nan)
        if bool(lost.any()):
            least, most = x[lost].amin(1), x[lost].amax(1)
            low[lost], high[lost] = least[:, None], most[:, None]
            self.constants[lost] = (least / 2 + most / 2).where(flat(least, most), torch.nan)
        return low, high, flats


def _best(x: Tensor, scale: Tensor, zero: Tensor, bits: int, passed_over: Tensor) -> Tensor:
    """The candidate grid (columns of scale and zero [rows, candidates]) of least error for each row; [rows, 1]."""
    rows, candidates = scale.shape
    if rows == 1 and x.device.type == "cpu":
        open_ = [i for i in range(candidates) if not bool(passed_over[0, i])]
        errors = [_part_error(*(p[0, i].item() for p in (scale, -zero, 2**bits - 1 - zero))) for i in open_]
        best = open_[first_of_least(errors, [part for _, part in chunks(x)])] if open_ else 0
        return torch.full((1, 1), best)
    found = torch.stack([uniform_error(x, scale[:, i], zero[:, i], bits) for i in range(candidates)], dim=1)
    return found.masked_fill_(passed_over, torch.inf).argmin(1, keepdim=True)


def _part_error(step: float, low: float, high: float) -> Callable[[Tensor, Tensor], Tensor]:
    """(part, memory of its shape) -> sum of squared errors on a grid, as `uniform_error` computes it."""

    def error(part: Tensor, memory: Tensor) -> Tensor:
        y = torch.div(part, step, out=memory).round_().clamp_(low, high).mul_(step)
        return squared_error(y, part).sum(1)

    return error


def squared_error(y: Tensor, x: Tensor) -> Tensor:
    """(y - x)^2 by element, in place of y."""
    found: Tensor = torch.ops.aten.mse_loss.out(y, x, 0, out=y)
    return found


def first_of_least(errors: list[Callable[[Tensor, Tensor], Tensor]], parts: list[Tensor]) -> int:
    """Which of some errors is least in sum over the parts, the first of equals.

    An error is never negative, so that one is out as soon as it exceeds another's whole sum: the one that looks best by
    the first part is summed to the end first. NaN counts as least, as in `torch.argmin`.
    """
    memory = torch.empty_like(max(parts, key=Tensor.numel))
    room = [memory[:, : part.shape[1]] for part in parts]
    sums = [float(error(parts[0], room[0])) for error in errors]
    least = math.inf
    for i in sorted(range(len(errors)), key=sums.__getitem__):
        for part, place in zip(parts[1:], room[1:], strict=True):
            if sums[i] > least:
                break
            sums[i] += float(errors[i](part, place))
        least = min(least, sums[i])
    return int(torch.tensor(sums, dtype=torch.float64).argmin())


def uniform_error(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Sum of squared errors of each row of x [rows, n] on its own asymmetric grid (scale and zero [rows]); [rows]."""
    columns = [p[:, None] for p in (scale, -zero, 2**bits - 1 - zero)]
    total = torch.zeros(x.shape[0], dtype=torch.float64, device=x.device)
    for rows, part in chunks(x):
        d, low, high = (scalar(c[rows]) for c in columns)
        y = (part / d).round_().clamp_(low, high).mul_(d).sub_(part)
        total[rows] += y.square_().sum(1)
    return total
