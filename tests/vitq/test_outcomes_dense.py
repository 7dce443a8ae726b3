"""Files of matches and pixel counts: what comes back, what is refused, errors by resampling, and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from dense_results import detections, label_maps, overlaps, truth
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import SAMPLES, record, row

from vitq import outcomes
from vitq.errors import BadInputError
from vitq.outcomes import Matches, Overlaps, Right
from vitq.paired import Paired, compare, why_not
from vitq.record import Metric
from vitq.rows import Row
from vitq.tasks.average_precision import average_precision
from vitq.tasks.base import Measured
from vitq.tasks.overlaps import mean_iou

CELL = "repq_vit/{task}/digit-scenes/a_model/W4A4/seed0"
OTHER = "minmax/{task}/digit-scenes/a_model/W4A4/seed0"


def detected(seed: int, images: int = 12, scene: int = 0) -> dict[str, Measured]:
    """Metrics of made detections on scenes that `scene` decides."""
    pytest.importorskip("faster_coco_eval")
    file = truth(np.random.default_rng(scene), images)
    return average_precision(file, detections(np.random.default_rng(seed), file))


def segmented(right: float, images: int = 12) -> dict[str, Measured]:
    """Metrics of made label maps."""
    return mean_iou(overlaps(label_maps(np.random.default_rng(1), images, 6, right), 6))


def written(folder: Path, measured: dict[str, Measured], name: str, task: str = "detection") -> Row:
    """A row with these metrics, and their file."""
    made = record("accuracy", name.format(task=task))
    path = folder / outcomes.FOLDER / f"{made.key[:16]}.npz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(outcomes.packed({n: m.outcomes for n, m in measured.items() if m.outcomes is not None}, SAMPLES))
    metrics = {n: Metric(value=m.value, n=m.n, stderr=m.stderr) for n, m in measured.items()}
    changed = made.model_copy(update={"metrics": metrics, "outcomes": str(path.relative_to(folder))})
    return row(name.format(task=task), folder, accuracy=changed)


@pytest.mark.parametrize("make", [lambda: detected(3), lambda: segmented(0.6)])
def test_what_is_written_is_read_and_the_same_outcomes_are_the_same_bytes(
    make: Callable[[], dict[str, Measured]], tmp_path: Path
) -> None:
    measured = make()
    one = written(tmp_path, measured, CELL)
    assert one.outcomes is not None
    found = outcomes.read(tmp_path / one.outcomes, one.metrics)
    assert set(found.of) == set(measured)
    assert found.samples == SAMPLES
    assert found.right == {}
    again = outcomes.packed(found.of, found.samples)
    assert again == (tmp_path / one.outcomes).read_bytes()
    for name, kind in found.of.items():
        assert not isinstance(kind, Right)
        assert kind.value(name) == measured[name].value
        assert outcomes.deviation(kind.resampled(name)) == measured[name].stderr, "the error is told by the file alone"


def test_metrics_of_one_kind_lie_in_the_file_once(tmp_path: Path) -> None:
    measured = detected(3)
    (tmp_path / "a.npz").write_bytes(
        outcomes.packed({n: m.outcomes for n, m in measured.items() if m.outcomes}, SAMPLES)
    )
    with np.load(tmp_path / "a.npz") as file:
        assert len(file.files) == 2 + 2 * 6


def test_the_error_is_the_deviation_over_resamples_of_the_images() -> None:
    measured = detected(5)["box_ap50"]
    found = measured.outcomes
    assert isinstance(found, Matches)
    drawn = np.random.default_rng(99).integers(0, found.n, (400, found.n))
    values = [found.value("box_ap50", each.tolist()) for each in drawn]
    other = np.std([value for value in values if value is not None], ddof=1)
    assert measured.stderr == pytest.approx(other, rel=0.2)


def test_the_error_of_pixel_accuracy_is_near_that_of_a_mean_over_images() -> None:
    """Images have about as many pixels each, so that the share of all is about the mean of the shares of each."""
    rng = np.random.default_rng(0)
    maps = [pair for share in rng.uniform(0.2, 0.9, 60) for pair in label_maps(rng, 1, 6, float(share))]
    found = overlaps(maps, 6)
    shares = 100 * found.intersection.sum(axis=1) / found.truth.sum(axis=1)
    stderr = mean_iou(found)["aacc"].stderr
    assert stderr == pytest.approx(np.std(shares, ddof=1) / np.sqrt(len(shares)), rel=0.15)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_equal_runs_have_no_difference(seed: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = detected(seed, scene=seed), segmented(seed % 90 / 100)
        for measured, metric in zip(made, ("box_ap", "miou"), strict=True):
            one, other = written(folder, measured, CELL), written(folder, measured, OTHER)
            assert compare(one, other, metric) == Paired(0.0, 0.0, 12)
            assert str(compare(one, other, metric)) == "paired +0.000 ± 0.000, p = 1 (0 changed)"


def test_two_runs_are_resampled_alike(tmp_path: Path) -> None:
    """Label maps of which one run has every image a little better: the difference is far surer than either value."""
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.2, 0.8, 40)
    runs = []
    for more in (0.0, 0.05):
        maps = [label_maps(np.random.default_rng(i), 1, 6, float(s) + more)[0] for i, s in enumerate(shares)]
        runs.append(mean_iou(overlaps(maps, 6)))
    one, other = written(tmp_path, runs[0], CELL), written(tmp_path, runs[1], OTHER)
    found = compare(one, other, "miou")
    assert found is not None
    assert found.difference == pytest.approx(runs[1]["miou"].value - runs[0]["miou"].value)
    assert found.stderr < 0.3 * (runs[0]["miou"].stderr or 0)
    assert (found.gained, found.lost, found.changed) == (None, None, 40)
    assert found.p < 1e-6
    assert compare(other, one, "miou") == found._replace(difference=-found.difference)


def test_only_images_that_differ_are_changed(tmp_path: Path) -> None:
    file = truth(np.random.default_rng(0), 12)
    found = detections(np.random.default_rng(1), file)
    wrong = [dataclasses.replace(each, labels=each.labels * 0 + 4) if i < 3 else each for i, each in enumerate(found)]
    runs = [average_precision(file, each) for each in (found, wrong)]
    moved = sum(len(each.scores) > 0 for each in found[:3])
    seen = compare(written(tmp_path, runs[0], CELL), written(tmp_path, runs[1], OTHER), "box_ap50")
    assert seen is not None
    assert seen.difference < 0 < seen.stderr
    assert 0 < seen.changed == moved
    assert f"({moved} changed)" in str(seen)


def test_a_value_that_its_outcomes_do_not_have_is_bad_input(tmp_path: Path) -> None:
    for measured, metric in ((detected(3), "mask_ap75"), (segmented(0.6), "miou")):
        one = written(tmp_path, measured, CELL)
        assert one.outcomes is not None
        for told in ({"value": one.metrics[metric].value + 1e-3}, {"n": 11}):
            metrics = one.metrics | {metric: one.metrics[metric].model_copy(update=told)}
            with pytest.raises(BadInputError, match=f"not those of the record: {metric} differs"):
                outcomes.read(tmp_path / one.outcomes, metrics)


def test_one_image_and_other_kinds_are_not_paired(tmp_path: Path) -> None:
    one = written(tmp_path, segmented(0.5, images=1), CELL)
    assert "one sample" in why_not(one, one, "miou")


BROKEN = {
    "image": np.array([99]), "category": np.array([-1]), "score": np.array([np.nan]), "matched": np.zeros(3, np.uint8),
    "truths": np.full((12, 5, 4), -1),
}  # fmt: skip


@pytest.mark.parametrize("part", BROKEN)
def test_matches_that_do_not_fit_together_are_refused(part: str) -> None:
    found = detected(3)["box_ap"].outcomes
    assert isinstance(found, Matches)
    arrays = found.arrays()
    wrong = BROKEN[part].astype(arrays[part].dtype)
    arrays[part] = wrong if len(wrong) != 1 else np.resize(wrong, len(arrays[part]))
    with pytest.raises(ValueError, match=r"image|category|score|bits|true things"):
        Matches.of("box", arrays)


def test_pixel_counts_that_do_not_fit_together_are_refused() -> None:
    counts = np.ones((3, 4), dtype=np.int64)
    with pytest.raises(ValueError, match="shapes"):
        Overlaps(counts, counts, counts[:2])
    with pytest.raises(ValueError, match="larger"):
        Overlaps(2 * counts, counts, counts)


def test_broken_files_are_bad_input(tmp_path: Path) -> None:
    one = written(tmp_path, detected(3), CELL)
    assert one.outcomes is not None
    path = tmp_path / one.outcomes
    with np.load(path) as file:
        arrays = dict(file)
    for wrong in (
        {"box/image": arrays["box/image"] + 1000},
        {"box/score": arrays["box/score"][:-1]},
        {"cats/x": np.zeros(1)},
    ):
        np.savez(path, **(arrays | wrong))
        with pytest.raises(BadInputError, match="cannot be read"):
            outcomes.read(path, one.metrics)
