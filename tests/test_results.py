"""The results table and its averages."""

import pandas as pd
import pytest
from made_up_results import AAPE, VIEWS, made_up, row

from promptstudy.results import (
    COLUMNS,
    average_over_datasets,
    base_to_new_table,
    collapsed_runs,
    complete_rows,
    harmonic_mean,
    main_rows,
    over_seeds,
    read_results,
    results_table,
    transfer_runs,
    with_h,
    write_results,
)


def test_table_has_the_contract_s_columns_and_a_fixed_order():
    rows = [row(1 / 3, seed=seed, dataset=name) for seed in (2, 1) for name in "ba"]
    frame = results_table(rows)
    assert tuple(frame.columns) == COLUMNS
    assert frame.equals(results_table(rows[::-1]))
    assert frame["value"].tolist() == [0.3333] * 4


def test_table_refuses_two_results_for_one_run():
    with pytest.raises(ValueError, match="two results for one run"):
        results_table([row(1), row(2)])


def test_results_survive_the_file(tmp_path):
    frame = results_table([row(12.3456789), row(50, seed=2)])
    write_results(tmp_path / "r.csv", frame)
    assert read_results(tmp_path / "r.csv").equals(frame)


def test_over_seeds_gives_mean_and_sample_deviation():
    summary = over_seeds(results_table([row(1, seed=1), row(3, seed=2), row(5, shots=2)]))
    assert summary["mean"].tolist() == [2, 5] and summary["seeds"].tolist() == [2, 1]
    assert summary["std"].tolist() == pytest.approx([2 ** 0.5, float("nan")], nan_ok=True)


@pytest.mark.parametrize("values, collapsed", [
    ((62.2, 61.1, 41.1), [False, False, True]), ((62, 61, 52), [False] * 3),  # 9 points are few
    ((62, 50, 38), [False] * 3),  # these seeds differ that much anyway
    ((62, 61, 80), [False] * 3),  # one that is better has not collapsed
    ((62, 20), [False] * 2), ((62,), [False]),  # which of two has collapsed?
    ((60, 61, 62, 63, 12, 15), [False] * 4 + [True] * 2)])
def test_collapsed_runs_lie_far_below_their_seeds_median(values, collapsed):
    frame = results_table([row(value, seed=seed) for seed, value in enumerate(values)]
                          + [row(0, variant="another", seed=seed) for seed in range(3)])
    found = collapsed_runs(frame)
    assert found[frame["variant"] == "M4"].tolist() == collapsed
    assert not found[frame["variant"] == "another"].any()


def test_average_counts_only_settings_that_every_dataset_has():
    frame = results_table([row(10), row(30, dataset="b"), row(99, shots=2)])
    averaged = average_over_datasets(frame)
    assert averaged[["dataset", "shots", "value"]].values.tolist() == [["average", 1, 20]]


def test_harmonic_mean_of_published_averages():
    # base and new averages of CLIP, CoOp and CoCoOp with ViT-B/16 (published tables)
    for base, new, expected in ((69.34, 74.22, 71.70), (82.69, 63.22, 71.66),
                                (80.47, 71.69, 75.83)):
        assert harmonic_mean(base, new) == pytest.approx(expected, abs=0.005)


def halves(values):
    """A table of base and new accuracy, `{(dataset, seed): (base, new)}`."""
    rows = [row(value, dataset=name, seed=seed, protocol="base_to_new", subset=subset)
            for (name, seed), pair in values.items()
            for subset, value in zip(("base", "new"), pair, strict=True)]
    return results_table(rows)


def test_h_is_that_of_each_run_and_every_mean_of_it_the_mean_of_these():
    values = {("a", 1): (80, 20), ("a", 2): (70, 30), ("b", 1): (40, 60), ("b", 2): (50, 0)}
    frame = halves(values)
    found = base_to_new_table(frame)
    of_runs = {key: 2 * base * new / (base + new) for key, (base, new) in values.items()}
    assert of_runs["b", 2] == 0
    for name in "ab":
        assert found.loc[name]["H"].item() == pytest.approx(
            (of_runs[name, 1] + of_runs[name, 2]) / 2)
    assert found.loc["average"]["H"].item() == pytest.approx(sum(of_runs.values()) / 4)
    assert found.loc["average"]["base"].item() == pytest.approx(60)
    summary = over_seeds(with_h(frame)).set_index(["dataset", "subset"])
    assert summary.loc[("a", "H"), "mean"] == found.loc["a"]["H"].item()
    assert summary.loc[("a", "H"), "std"] == pytest.approx(
        abs(of_runs["a", 1] - of_runs["a", 2]) / 2 ** 0.5)


def test_h_needs_both_halves_of_a_run():
    frame = halves({("a", 1): (80, 20), ("a", 2): (70, 30)})
    rows = with_h(frame[(frame["seed"] == 1) | (frame["subset"] == "base")])
    assert rows[rows["subset"] == "H"]["seed"].tolist() == [1]
    assert rows[rows["subset"] == "H"]["n_test"].tolist() == [2000]


def test_harmonic_mean_s_limits():
    assert harmonic_mean(0, 0) == harmonic_mean(50, 0) == 0
    assert harmonic_mean(40, 40) == pytest.approx(40)


def test_transfer_runs_have_the_source_first_and_the_mean_of_the_others_last(suite):
    runs = transfer_runs(made_up(suite), "domain")
    assert list(runs) == ["shapes", "original", "lines", "photos", "mean"]
    assert runs.loc["coop", "M4", 2, 1].tolist() == [81, 80, 25, 24, 24.5]
    runs = transfer_runs(made_up(suite), "cross_dataset")
    assert list(runs) == ["shapes", "figures", "mean"]
    alone = made_up(suite)
    alone = alone[~alone["subset"].isin(["figures", "lines", "photos"])]
    assert list(transfer_runs(alone, "cross_dataset")) == ["shapes"]


def test_main_rows_leave_out_the_ablations(suite):
    frame = made_up(suite)
    main = main_rows(frame, suite)
    assert set(main["method"]) == set(frame["method"])
    assert set(main["variant"]) == {"t", "val C", "M4", "N2-M4", "w8-M4", "w1-M4", "attention"}
    assert set(main["protocol"]) >= {"cross_dataset", "domain"}
    without = frame[~frame["variant"].isin([*VIEWS, *AAPE, "M4 a=0.5"])]
    assert base_to_new_table(main).equals(base_to_new_table(main_rows(without, suite)))


def test_complete_rows_are_those_of_datasets_and_shots_that_have_all_variants(suite):
    frame = made_up(suite)
    rows = complete_rows(frame, "dualview", "base_to_new", ["M4", "M4 a=0.5"])
    assert set(rows["dataset"]) == {"shapes", "figures"} and len(rows) == 2 * 2 * 2 * 2
    rows = complete_rows(frame, "dualview", "base_to_new", ["M4", *VIEWS])
    assert set(rows["dataset"]) == {"shapes"} and set(rows["shots"]) == {2}
    assert complete_rows(frame, "dualview", "base_to_new", ["M4", "another"]).empty


def test_average_of_no_dataset_is_empty():
    assert average_over_datasets(pd.DataFrame(columns=COLUMNS)).empty
