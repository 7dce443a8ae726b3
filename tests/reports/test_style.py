"""How pictures look, and what their files are called."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from vitq.reports.style import file_name, plain_log


def test_names_of_files_hold_no_brackets() -> None:
    assert file_name("pmq[bit ops]", "a/b:c.d") == "pmq_bit_ops_a_b_c.d"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_any_names_make_a_name_that_every_tool_takes(parts: list[str]) -> None:
    made = file_name(*parts)
    assert all(c.isascii() and (c.isalnum() or c in "-_.") for c in made)
    assert ".." not in made.split("_")


@pytest.mark.parametrize("scale", ["log"])
def test_a_logarithmic_axis_shows_numbers_and_no_mathematics(scale: str) -> None:
    assert mpl.rcParams["text.parse_math"] is False  # a $ in a name is a $, so that mathematics would be shown raw
    canvas, axes = plt.subplots()
    axes.plot([1, 2], [1e-4, 10])
    axes.set_yscale(scale)
    plain_log(axes.yaxis)
    canvas.draw_without_rendering()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert "0.01" in labels
    assert not any("$" in text for text in labels)
    plt.close(canvas)
