import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitq.benchmarks.plan.cells import expand, limited, scoped
from vitq.benchmarks.plan.picking import picker
from vitq.benchmarks.plan.suite import load_suite, parse_suite, shipped_suites
from vitq.errors import BadInputError

SUITE = """
name: tiny
tasks: [{dataset: digits, models: [digits_vit]}]
bits: [W8A8, W4A4]
seeds: [0, 1]
methods: [minmax, {method: fp32, bits: [FP32]}, {method: repq_vit, variant: channel, options: {layernorm: channel}}]
"""


def test_a_suite_is_the_product_of_its_parts():
    cells, _ = expand(parse_suite(SUITE, "tiny"))
    assert len(cells) == 2 * (2 + 1 + 2)
    assert "repq_vit[channel]/classification/digits/digits_vit/W4A4/seed1" in [c.id for c in cells]


def test_what_a_method_cannot_do_is_left_out_with_its_reason():
    cells, refused = expand(parse_suite(SUITE.replace("[W8A8, W4A4]", "[W8A8, FP32]"), "tiny"))
    assert [r.id for r in refused if r.id.startswith("minmax")] == [
        f"minmax/classification/digits/digits_vit/FP32/seed{seed}" for seed in (0, 1)
    ]
    assert all(r.reason for r in refused)
    assert not any(c.method == "minmax" and c.bits == "FP32" for c in cells)


def test_a_cell_carries_every_option_with_its_default():
    cells, _ = expand(parse_suite(SUITE, "tiny"))
    channel = next(c for c in cells if c.variant == "channel")
    assert channel.options["layernorm"] == "channel"
    assert channel.options["softmax"] == "log_sqrt2"


@pytest.mark.parametrize("name", shipped_suites())
def test_shipped_suites_expand_to_different_cells(name):
    cells, _ = expand(load_suite(name))
    assert len({c.id for c in cells}) == len(cells)
    asked = [c.model_dump_json(exclude={"id", "variant"}) for c in cells]
    assert len(set(asked)) == len(cells), "two cells of a suite measure the same thing"


def test_two_entries_of_the_same_id_are_refused():
    with pytest.raises(BadInputError, match="give one of the two entries a variant"):
        expand(parse_suite(SUITE.replace("methods: [minmax,", "methods: [minmax, minmax,"), "tiny"))


def test_a_subset_is_a_cell_of_its_own():
    cell = expand(parse_suite(SUITE, "tiny"))[0][0]
    assert limited(cell, 5).id == f"{cell.id}/limit5"
    assert limited(limited(cell, 5), 7).id == f"{cell.id}/limit7"


def test_one_model_on_two_data_sets_is_two_cells():
    tasks = [f"{{dataset: {name}, models: [vit_tiny_patch16_224]}}" for name in ("imagenet-1k", "imagenet-proxy")]
    cells, _ = expand(
        parse_suite(SUITE.replace("[{dataset: digits, models: [digits_vit]}]", f"[{', '.join(tasks)}]"), "tiny")
    )
    assert len({c.id for c in cells}) == len(cells) == 20


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("repq", "repq_vit/x/W4A4", True),
        ("repq and W4A4", "repq_vit/x/W8A8", False),
        ("not (swin or w8)", "a/swin/W4", False),
        ("not swin or w8", "a/swin/W8", True),
        ("minmax or repq_vit[clip]", "repq_vit[clip]/x", True),
    ],
)
def test_expressions_pick_by_substring(expression, text, expected):
    assert picker(expression)(text) is expected


@pytest.mark.parametrize("expression", ["", "and", "a and", "(a", "a b", "a )", "not"])
def test_an_unreadable_expression_is_said_so(expression):
    with pytest.raises(BadInputError, match="-k"):
        picker(expression)


@given(
    st.recursive(st.sampled_from(["a", "b", "c"]), lambda t: st.tuples(st.sampled_from(["and", "or"]), t, t)),
    st.text("abc"),
)
def test_expressions_mean_what_python_means(tree, text):
    def write(node, leaf):
        return leaf(node) if isinstance(node, str) else f"({write(node[1], leaf)} {node[0]} {write(node[2], leaf)})"

    assert picker(write(tree, str))(text) == eval(write(tree, lambda word: str(word in text)))


def test_a_part_of_a_model_is_a_cell_of_its_own_and_fp32_is_one_for_all_parts():
    task = "{dataset: digits, models: [digits_vit]"
    suite = parse_suite(SUITE.replace(f"[{task}}}]", f"[{task}, scope: blocks.0}}, {task}}}]"), "tiny")
    cells, _ = expand(suite)
    assert len({c.id for c in cells}) == len(cells) == 2 * (2 * 2 + 1 + 2 * 2)
    assert {c.scope for c in cells if c.method == "fp32"} == {"model"}
    part = next(c for c in cells if c.scope == "blocks.0")
    assert part.id.endswith("/seed0/scope-blocks.0")
    assert limited(part, 5).id.endswith("/seed0/limit5/scope-blocks.0")
    assert scoped(part, "model").id == part.id.removesuffix("/scope-blocks.0")


def test_what_needs_no_data_has_neither_subset_nor_calibration():
    suite = parse_suite(SUITE.replace("dataset: digits", "dataset: none") + "measure: [counts]\n", "tiny")
    cell = expand(suite)[0][0]
    assert (cell.dataset, cell.limit, cell.calibration) == ("none", None, {})
    assert limited(cell, 5) == cell


def test_a_task_entry_has_widths_calibration_and_latency_of_its_own_and_entries_pick_tasks():
    text = """
name: two
bits: [W8A8, W4A4]
calibration: {images: 32}
latency: {batch: 8}
tasks:
  - {task: classification, dataset: digits, models: [digits_vit]}
  - task: classification
    dataset: digits
    models: [digits_swin]
    bits: [W6A6]
    calibration: {images: 7}
    latency: {batch: 1}
methods:
  - minmax
  - {method: repq_vit, models: [digits_swin], scope: layers.0}
"""
    suite = parse_suite(text, "two")
    cells, _ = expand(suite)
    assert [(c.method, c.model, c.bits, c.scope, c.calibration["images"]) for c in cells] == [
        ("minmax", "digits_vit", "W8A8", "model", 32),
        ("minmax", "digits_vit", "W4A4", "model", 32),
        ("minmax", "digits_swin", "W6A6", "model", 7),
        ("repq_vit", "digits_swin", "W6A6", "layers.0", 7),
    ]
    batches = [suite.latency_of("classification", "digits", model).batch for model in ("digits_vit", "digits_swin")]
    assert batches == [8, 1]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{task: classification, dataset: coco-2017, models: [digits_vit]}", "data set coco-2017 is for detection"),
        (
            "{task: classification, dataset: digits, models: [digits_mask_rcnn]}",
            "model digits_mask_rcnn is for detection",
        ),
    ],
)
def test_data_and_models_of_another_task_are_refused(wrong, says):
    text = f"name: x\nbits: [W8A8]\nmethods: [minmax]\ntasks:\n  - {wrong}\n"
    with pytest.raises(BadInputError, match=f"line 5: .*{says}"):
        parse_suite(text, "x.yaml")


def test_an_entry_for_a_task_that_the_suite_has_not_is_refused():
    tasks = "tasks:\n  - {dataset: digits, models: [digits_vit]}\n"
    text = "name: x\nbits: [W8A8]\nmethods: [{method: minmax, tasks: [detection]}]\n" + tasks
    with pytest.raises(BadInputError, match=r"line 3: .*no entry of this suite is of the task 'detection'"):
        parse_suite(text, "x.yaml")
