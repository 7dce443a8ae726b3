"""What is drawn depends on names and a seed alone, and classes stay in proportion."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vitq.datasets.listing import Item, as_text, draw, quotas, stratified

SIZES = st.dictionaries(st.integers(0, 30), st.integers(1, 12), min_size=1, max_size=20)


def make(sizes: dict[int, int]) -> list[Item]:
    return sorted(Item(f"val/c{label:03}/{i}.jpg", label) for label, n in sizes.items() for i in range(n))


@given(SIZES, st.integers(1, 200), st.integers(0, 5))
def test_a_subset_keeps_classes_in_proportion(sizes: dict[int, int], count: int, seed: int) -> None:
    items = make(sizes)
    chosen = stratified(items, count, seed)
    taken, total = Counter(item.label for item in chosen), len(items)
    assert len(chosen) == min(count, total)
    assert chosen == [item for item in items if item in set(chosen)]
    for label, size in sizes.items():
        share = min(count, total) * size / total
        assert abs(taken[label] - share) < 1


@given(SIZES, st.integers(1, 100), st.integers(0, 5), st.randoms())
def test_a_subset_is_a_function_of_names_and_seed(sizes, count, seed, shuffler) -> None:
    items = make(sizes)
    other = items.copy()
    shuffler.shuffle(other)
    assert stratified(items, count, seed) == sorted(stratified(other, count, seed))


@given(SIZES, st.integers(0, 100), st.integers(0, 100), st.integers(0, 5))
def test_a_smaller_draw_is_a_prefix(sizes: dict[int, int], few: int, more: int, seed: int) -> None:
    items = make(sizes)
    small, large = draw(items, min(few, more), seed), draw(reversed(items), max(few, more), seed)
    assert large[: len(small)] == small


@given(SIZES, st.integers(0, 200), st.integers(0, 3))
def test_quotas_add_up(sizes: dict[int, int], count: int, seed: int) -> None:
    count = min(count, sum(sizes.values()))
    shares = quotas(sizes, count, seed)
    assert sum(shares.values()) == count
    assert all(0 <= shares[label] <= sizes[label] for label in sizes)


def test_seeds_differ_and_the_draw_never_changes() -> None:
    items = make({1: 5, 2: 5})
    assert draw(items, 4, 0) != draw(items, 4, 1)
    assert as_text(draw(items, 3, 0)) == "val/c002/0.jpg\nval/c001/3.jpg\nval/c002/3.jpg\n"


def test_balanced_classes_get_equal_shares() -> None:
    chosen = stratified(make(dict.fromkeys(range(10), 50)), 100, 3)
    assert Counter(item.label for item in chosen) == dict.fromkeys(range(10), 10)


def test_small_classes_are_taken_as_often_as_their_share_says() -> None:
    sizes = dict.fromkeys(range(40), 1) | dict.fromkeys(range(40, 60), 4)
    shares = [quotas(sizes, 30, seed) for seed in range(400)]
    small = sum(share[label] for share in shares for label in range(40)) / len(shares)
    assert abs(small - 30 * 40 / 120) < 0.5
