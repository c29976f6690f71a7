"""The results table and its averages."""

import pandas as pd
import pytest
from made_up_results import AAPE, VIEWS, made_up, row

from promptstudy.results import (
    COLUMNS,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    harmonic_mean,
    main_rows,
    over_seeds,
    read_results,
    table,
    transfer_runs,
    write_results,
)


def test_table_has_the_contract_s_columns_and_a_fixed_order():
    rows = [row(1 / 3, seed=seed, dataset=name) for seed in (2, 1) for name in "ba"]
    frame = table(rows)
    assert tuple(frame.columns) == COLUMNS
    assert frame.equals(table(rows[::-1]))
    assert frame["value"].tolist() == [0.3333] * 4


def test_table_refuses_two_results_for_one_run():
    with pytest.raises(ValueError, match="two results for one run"):
        table([row(1), row(2)])


def test_results_survive_the_file(tmp_path):
    frame = table([row(12.3456789), row(50, seed=2)])
    write_results(tmp_path / "r.csv", frame)
    assert read_results(tmp_path / "r.csv").equals(frame)


def test_over_seeds_gives_mean_and_population_deviation():
    summary = over_seeds(table([row(1, seed=1), row(3, seed=2)]))
    assert summary[["mean", "std", "seeds"]].values.tolist() == [[2, 1, 2]]


def test_average_counts_only_settings_that_every_dataset_has():
    frame = table([row(10), row(30, dataset="b"), row(99, shots=2)])
    averaged = average_over_datasets(frame)
    assert averaged[["dataset", "shots", "value"]].values.tolist() == [["average", 1, 20]]


def test_harmonic_mean_of_published_averages():
    # base and new averages of CLIP, CoOp and CoCoOp with ViT-B/16 (published tables)
    for base, new, expected in ((69.34, 74.22, 71.70), (82.69, 63.22, 71.66),
                                (80.47, 71.69, 75.83)):
        assert harmonic_mean(base, new) == pytest.approx(expected, abs=0.005)


def test_average_h_is_that_of_the_means_and_the_mean_of_h_stands_beside_it():
    values = {"a": (80, 20), "b": (40, 60)}
    frame = table([row(value, dataset=name, protocol="base_to_new", subset=subset)
                   for name, pair in values.items()
                   for subset, value in zip(("base", "new"), pair, strict=True)])
    average = base_to_new_table(frame).loc["average"].iloc[0]
    assert average["H"] == pytest.approx(2 * 60 * 40 / 100)
    assert average["mean_of_h"] == pytest.approx((2 * 80 * 20 / 100 + 2 * 40 * 60 / 100) / 2)


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
