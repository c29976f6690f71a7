"""Intervals, tests and corrections: against plain forms, limits, and on simulated runs."""

import numpy as np
import pytest
from scipy import stats

from promptstudy import statistics
from promptstudy.results import harmonic_mean
from promptstudy.statistics import Difference, difference, holm, resample_images


@pytest.fixture
def few_replicates(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 100)


def simulated(rng, datasets=3, seeds=3, images=150, gain=0.3, spread=0.1):
    """Paired differences of two simulated methods on some datasets, resampled.

    Whether a run gets an image right depends on the image, on the seed and on both.
    """
    runs = {}
    for number in range(datasets):
        ease = 1.5 * rng.standard_normal(images)
        sides = []
        for ahead in (gain, 0):
            of_seed = spread * rng.standard_normal((seeds, 1))
            sides.append(ease + ahead + of_seed + rng.standard_normal((seeds, images)) > 0)
        name = f"{number} {rng.integers(1 << 30)}"
        first, second = (resample_images(side, name) for side in sides)
        runs[name] = first - second
    return runs


def expected_gain(gain=0.3, spread=0.1):
    deviation = np.sqrt(1.5 ** 2 + spread ** 2 + 1)
    return 100 * (stats.norm.cdf(gain / deviation) - 0.5)


@pytest.mark.parametrize("spread", [0.05, 0.4], ids=["seeds alike", "seeds differ"])
def test_about_95_of_100_intervals_hold_the_true_difference(few_replicates, spread):
    rng = np.random.default_rng(0)
    found = [difference(simulated(rng, spread=spread)) for _ in range(120)]
    held = np.mean([low <= expected_gain(spread=spread) <= high
                    for low, high in (each.interval for each in found)])
    assert 0.90 <= held <= 0.99
    # and the error is that of the estimates, neither too small nor too large
    errors = np.sqrt(np.mean([each.error ** 2 for each in found]))
    assert errors == pytest.approx(np.std([each.estimate for each in found], ddof=1), rel=0.2)


def test_identical_methods_are_not_told_apart():
    right = np.random.default_rng(0).random((3, 50)) < 0.5
    runs = resample_images(right, "x")
    found = difference({"x": runs - runs})
    assert found.estimate == found.error == 0 and found.interval == (0, 0)
    assert found.above(0) == found.below(0) == 0.5
    assert found.above(-1) == 0 and found.above(1) == 1  # less than a point apart, surely


def test_a_constant_shift_is_found_exactly():
    runs = resample_images(np.random.default_rng(0).random((3, 50)) < 0.5, "x")
    found = difference({"x": (runs + 7.5) - runs, "y": runs * 0 + 7.5})
    assert found.estimate == pytest.approx(7.5) and found.error == pytest.approx(0)
    noisy = np.random.default_rng(1).random((3, 400)) < 0.3
    better = noisy.copy()
    better[:, :40] = True  # the same images in every run
    found = difference({"x": resample_images(better, "x") - resample_images(noisy, "x")})
    assert found.interval[0] > 0 and found.above(0) < 0.001


def test_resampled_accuracy_is_that_of_a_plain_loop(few_replicates, monkeypatch):
    monkeypatch.setattr(statistics, "CHUNK", 300)  # several rounds
    right = np.random.default_rng(0).random((4, 23)) < 0.6
    found = resample_images(right, "name")
    assert found.shape == (4, 101)
    assert found[:, 0] == pytest.approx(100 * right.mean(axis=1))
    generator = np.random.default_rng(list(b"name"))
    column = 1
    while column <= 100:
        drawn = generator.integers(23, size=(min(13, 101 - column), 23))
        for images in drawn:
            for run in range(4):
                share = sum(right[run, image] for image in images) / 23
                assert found[run, column] == pytest.approx(100 * share, abs=1e-4)
            column += 1


def test_the_same_name_gives_the_same_draws_and_another_name_others():
    right = np.random.default_rng(0).random((2, 40)) < 0.5
    assert np.array_equal(resample_images(right, "a"), resample_images(right, "a"))
    assert not np.array_equal(resample_images(right, "a"), resample_images(right, "b"))


def test_the_bootstrap_of_h_is_that_of_a_plain_loop(few_replicates):
    """Images of both halves are drawn, each run's H is taken, then the difference, the means."""
    rng = np.random.default_rng(3)
    right = {(half, method): rng.random((3, size)) < share
             for half, size, share in (("base", 60, 0.7), ("new", 40, 0.3))
             for method in "ab"}
    halves = {key: resample_images(bits, key[0]) for key, bits in right.items()}
    h = {method: harmonic_mean(halves["base", method], halves["new", method]) for method in "ab"}
    found = difference({"x": h["a"] - h["b"]})

    draws = {half: np.random.default_rng(list(half.encode())).integers(size, size=(100, size))
             for half, size in (("base", 60), ("new", 40))}
    plain = np.empty((3, 100))
    for replicate in range(100):
        for seed in range(3):
            of_methods = []
            for method in "ab":
                b, n = (100 * np.mean([right[half, method][seed, image]
                                       for image in draws[half][replicate]])
                        for half in ("base", "new"))
                of_methods.append(2 * b * n / (b + n))
            plain[seed, replicate] = of_methods[0] - of_methods[1]
    measured = h["a"][:, 0] - h["b"][:, 0]
    of_images = plain.mean(axis=0).var(ddof=1)
    seeds = measured.var(ddof=1) / 3
    both = sum((plain[s] - plain.mean(axis=0)).var(ddof=1) for s in range(3)) / 6
    assert found.estimate == pytest.approx(measured.mean())
    assert found.error == pytest.approx(np.sqrt(of_images + max(0, seeds - both)), rel=1e-4)


def test_one_flipped_prediction_changes_its_run_and_nothing_else():
    right = np.random.default_rng(0).random((3, 50)) < 0.5
    flipped = right.copy()
    flipped[1, 7] ^= True
    before, after = resample_images(right, "x"), resample_images(flipped, "x")
    assert np.array_equal(before[[0, 2]], after[[0, 2]])
    change = after[1] - before[1]
    assert abs(change[0]) == pytest.approx(2)
    # by 2 points for every time that the image was drawn, which is once on average
    assert np.allclose(change / change[0], np.round(change / change[0]), atol=1e-4)
    assert (change / change[0])[1:].mean() == pytest.approx(1, abs=0.1)


def test_a_single_run_varies_by_its_images_alone():
    right = np.random.default_rng(0).random((1, 500)) < 0.3
    found = difference({"x": resample_images(right, "x")})
    assert found.freedom == np.inf
    assert found.error == pytest.approx(100 * np.sqrt(right.mean() * (1 - right.mean()) / 500),
                                        rel=0.06)
    assert np.isnan(found.over_datasets).all()


def test_with_many_images_the_interval_is_student_s_over_seeds():
    measured = np.array([1.0, 2.0, 6.0])
    found = difference({"x": np.repeat(measured[:, None], 11, axis=1)})  # images change nothing
    expected = stats.ttest_1samp(measured, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected))
    assert 2 * found.above(0) == pytest.approx(stats.ttest_1samp(measured, 0).pvalue)


def test_the_interval_over_datasets_is_student_s_of_their_means():
    runs = {name: np.full((2, 11), value) for name, value in (("a", 1.0), ("b", 4.0), ("c", 2.5))}
    found = difference(runs)
    assert found.over_datasets == pytest.approx(
        tuple(stats.ttest_1samp([1, 4, 2.5], 0).confidence_interval(0.95)))
    assert found.runs == 6 and found.per_dataset == {"a": 1, "b": 4, "c": 2.5}


def test_intervals_and_p_values_agree():
    found = Difference(2.0, 1.0, 8.0, 9, {})
    low, high = found.interval
    assert 2 * found.above(low) == pytest.approx(0.05) == pytest.approx(2 * found.below(high))
    assert found.above(0) + found.below(0) == pytest.approx(1)
    assert found.half_width == pytest.approx((high - low) / 2)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.9], [0.02], [1e-9] * 3,
                                      [0.011, 0.02, 0.02, 0.9, 0.001]])
def test_holm_is_the_plain_form(p_values):
    """Step down: test the smallest at alpha / n, the next at alpha / (n - 1), stop at the first."""
    adjusted = holm(p_values)
    for alpha in (0.001, 0.01, 0.02, 0.05, 0.1, 0.2):
        rejected = set()
        for step, place in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[place] > alpha / (len(p_values) - step):
                break
            rejected.add(place)
        assert {place for place, p in enumerate(adjusted) if p <= alpha} == rejected
    assert (adjusted >= p_values).all() and (adjusted <= 1).all()


def test_holm_of_one_test_is_no_correction_and_of_none_nothing():
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []
