import pytest

from vitq.benchmarks.plan.suite import load_suite, parse_suite
from vitq.errors import BadInputError

GOOD = """name: tiny
tasks:
  - dataset: digits
    models: [digits_vit]
bits: [W8A8]
methods:
  - minmax
  - method: repq_vit
    options: {layernorm: channel}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "line", "says"),
    [
        ("bits:", "bit:", 5, "did you mean 'bits'"),
        ("- minmax", "- minimax", 7, "did you mean 'minmax'"),
        ("digits_vit", "digit_vit", 4, "did you mean 'digits_vit'"),
        ("dataset: digits", "dataset: digit", 3, "did you mean 'digits'"),
        ("layernorm: channel", "layer_norm: channel", 9, "did you mean 'layernorm'"),
        ("layernorm: channel", "layernorm: chanel", 9, "did you mean 'channel'"),
        ("options:", "option:", 9, "did you mean 'options'"),
        ("[W8A8]", "[W8X8]", 5, "not a bit width"),
        ("[W8A8]", "[]", 5, "at least 1 item"),
        ("name: tiny", "name: ti ny", 1, "name"),
        ("name: tiny", "name: [tiny", 2, "not YAML"),
    ],
)
def test_a_typo_is_named_with_its_line_and_the_nearest_right_word(right, wrong, line, says):
    with pytest.raises(BadInputError) as caught:
        parse_suite(GOOD.replace(right, wrong, 1), "tiny.yaml")
    message = str(caught.value)
    assert says in message
    assert f"line {line}" in message
    assert "\n" not in message


def test_a_good_suite_is_read():
    suite = parse_suite(GOOD, "tiny.yaml")
    assert [m.method for m in suite.methods] == ["minmax", "repq_vit"]


def test_an_unknown_suite_names_the_nearest():
    with pytest.raises(BadInputError, match="did you mean 'smoke'"):
        load_suite("smok")


def test_something_that_is_no_mapping_is_no_suite():
    with pytest.raises(BadInputError, match="must be a mapping"):
        parse_suite("- a\n- b\n", "list.yaml")
