"""What is stored of every run and test image comes back, and only with its results."""

import numpy as np
import pytest
from made_up_results import made_up, row, with_outcomes, write_made_up

from promptstudy.errors import DamagedFile, MissingFile
from promptstudy.outcomes import read_outcomes, write_outcomes
from promptstudy.results import KEY, read_results, results_table


def test_what_is_right_comes_back_for_every_run_and_image(suite):
    reports = suite.root / "reports"
    results = write_made_up(reports, made_up(suite))
    path = reports / "outcomes.safetensors"
    outcomes = read_outcomes(path, read_results(reports / "results.csv"))
    rows = {tuple(row[column] for column in KEY): row["right"] for row in with_outcomes(results)}
    seen = 0
    for place, labels in outcomes.places.items():
        for label, right in zip(labels, outcomes.right(place), strict=True):
            assert np.array_equal(right, rows[tuple(results.loc[label, list(KEY)])])
            seen += 1
    assert seen == len(results)
    bits = sum(results["n_test"]) / 8
    assert path.stat().st_size < 1.5 * bits + 20_000


@pytest.fixture
def stored(tmp_path):
    """A file of outcomes, its rows and its results."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(1, 12):
        right = rng.random(13) < 0.5
        rows.append({**row(100 * right.mean(), seed=seed, n_test=13), "right": right,
                     "images": "these"})
    path = tmp_path / "outcomes.safetensors"
    write_outcomes(path, rows)
    return path, rows, results_table(rows)


def test_the_same_outcomes_give_the_same_bytes_in_whatever_order(stored):
    path, rows, _ = stored
    before = path.read_bytes()
    write_outcomes(path, rows[::-1])
    assert path.read_bytes() == before


def test_every_flipped_bit_is_noticed(stored):
    path, _, results = stored
    content = path.read_bytes()
    for place in range(8, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match="outcomes.safetensors"):
            read_outcomes(path, results)
    path.write_bytes(content)
    read_outcomes(path, results)


@pytest.mark.parametrize("change", [
    lambda frame: frame.assign(value=frame["value"] + 100 / 13 * (frame["seed"] == 3)),
    lambda frame: frame.assign(n_test=26), lambda frame: frame.assign(protocol="domain"),
    lambda frame: frame[:5]], ids=["value", "number of images", "protocol", "fewer rows"])
def test_outcomes_of_other_results_are_refused(stored, change):
    path, _, results = stored
    with pytest.raises(DamagedFile, match="not of these results"):
        read_outcomes(path, change(results))


def test_outcomes_that_are_absent_are_missed(tmp_path):
    with pytest.raises(MissingFile, match="dvc repro evaluate"):
        read_outcomes(tmp_path / "outcomes.safetensors", results_table([row(1)]))


def test_runs_of_one_place_are_about_the_same_images(stored):
    path, rows, _ = stored
    rows[0]["images"] = "others"
    with pytest.raises(ValueError, match="a few_shot all are not about the same test images"):
        write_outcomes(path, rows)
