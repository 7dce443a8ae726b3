"""Quantiles by selection are torch's, and the search keeps the best grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitq.errors import MethodInputError
from vitq.methods.toolkit.observers import PERCENTILES, MinMax, PercentileMSE, affine_grid, uniform_error
from vitq.methods.toolkit.quantiles import rows_of, tail_quantiles


@given(st.integers(1, 9000), st.integers(1, 4), st.integers(0, 1000), st.booleans())
@settings(deadline=None)
def test_tail_quantiles_are_those_of_torch(n: int, rows: int, seed: int, ties: bool) -> None:
    x = torch.randn(n, rows, generator=torch.Generator().manual_seed(seed)).T
    x = (x * 2).round() if ties else x
    for fractions, upper in ((PERCENTILES, True), (tuple(1 - p for p in PERCENTILES), False)):
        expected = torch.stack([torch.quantile(x, p, dim=1) for p in fractions], dim=1)
        torch.testing.assert_close(tail_quantiles(x, fractions, upper), expected, rtol=1e-6, atol=1e-7)


def test_quantiles_of_a_large_tensor() -> None:
    x = torch.randn(3, 197, 1000, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    expected = torch.stack([torch.quantile(x, p) for p in PERCENTILES])
    torch.testing.assert_close(tail_quantiles(rows_of(x, None), PERCENTILES, True)[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_the_search_keeps_the_least_error(axis: int | None) -> None:
    x = torch.randn(4, 700, 3, generator=torch.Generator().manual_seed(3)).exp()
    scale, zero = searched(x, axis)
    rows = rows_of(x, axis)
    found = uniform_error(rows, scale.view(-1), zero.view(-1), 4)
    for p in PERCENTILES:
        low, high = torch.quantile(rows, 1 - p, dim=1), torch.quantile(rows, p, dim=1)
        assert (found <= uniform_error(rows, *affine_grid(low, high, 4), 4) * (1 + 1e-5)).all()


def searched(x: torch.Tensor, axis: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    observer = PercentileMSE(axis)
    observer.update(x)
    return observer.grid(4)


def test_chunks_do_not_change_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 301)
    scale, zero = affine_grid(x.amin(1), x.amax(1), 4)
    whole = uniform_error(x, scale, zero, 4)
    monkeypatch.setattr("vitq.methods.toolkit.observers.CHUNK", 64)
    for layout in (x, x.T.contiguous().T):
        torch.testing.assert_close(uniform_error(layout, scale, zero, 4), whole, rtol=1e-6, atol=0)


def test_a_constant_tensor_gets_a_finite_grid() -> None:
    scale, zero = searched(torch.zeros(10), None)
    assert scale > 0
    assert torch.isfinite(zero)


def test_nan_is_refused() -> None:
    with pytest.raises(MethodInputError, match="NaN"):
        searched(torch.tensor([1.0, float("nan")]), None)


@pytest.mark.parametrize("observer", [MinMax(), PercentileMSE()])
def test_no_grid_without_a_tensor(observer: MinMax | PercentileMSE) -> None:
    with pytest.raises(RuntimeError, match="before it was shown"):
        observer.grid(4)


def test_min_max_runs_over_all_tensors() -> None:
    observer = MinMax()
    for x in (torch.tensor([0.0, 2.0]), torch.tensor([-1.0, 0.5])):
        observer.update(x)
    scale, zero = observer.grid(4)
    assert scale == pytest.approx(3 / 15)
    assert zero == 5
