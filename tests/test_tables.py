"""Cells, differences and tables: what is shown of several seeds."""

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_up_results import made_up, outcomes_of, row

from promptstudy.cells import AVERAGE, Cell, Interval, base_to_new_cells, few_shot_cells
from promptstudy.claims.evidence import Evidence
from promptstudy.differences import base_to_new_differences, few_shot_differences
from promptstudy.glossary import explained
from promptstudy.results import base_to_new_table, main_rows, results_table
from promptstudy.statistics import difference
from promptstudy.tables import DASH, Quoted, Table, listed


def test_a_cell_has_the_sample_deviation_and_marks_seeds_that_lie_apart():
    cell = Cell.of([1, 2, 3], [62.2, 61.1, 41.1])
    assert cell.mean == pytest.approx(np.mean([62.2, 61.1, 41.1]))
    assert cell.std == pytest.approx(np.std([62.2, 61.1, 41.1], ddof=1))
    assert cell.apart == [3] and cell.mean_without == pytest.approx(61.65)
    assert str(cell) == "54.8 ± 11.9"
    assert Cell.of([0], [50]).std is None and str(Cell.of([0], [50])) == "50.0"
    assert not Cell.of([1, 2, 3], [50, 55, 60]).apart
    assert not Cell.of([1, 2], [20, 60]).apart


def test_base_to_new_cells_have_the_means_of_the_table_and_a_deviation_of_h(suite):
    main = main_rows(made_up(suite), suite)
    cells, means = base_to_new_cells(main, AVERAGE), base_to_new_table(main).loc[AVERAGE]
    for key, line in cells.iterrows():
        for column, cell in line.items():
            assert cell.mean == pytest.approx(means.loc[key, column])
    cell = cells.loc[("kgcoop", "w8-M4"), "H"]  # base 60 + seed, new 48 + seed
    values = [2 * (60 + s) * (48 + s) / (108 + 2 * s) for s in (1, 2)]
    assert [value for _, value in cell.seeds] == pytest.approx(values)
    assert cell.std == pytest.approx(np.std(values, ddof=1))


def test_few_shot_cells_average_each_seed_over_datasets():
    rows = results_table([row(value, dataset=dataset, seed=seed) for dataset, seed, value in (
        ("a", 1, 10), ("a", 2, 20), ("b", 1, 30), ("b", 2, 50))])
    cell = few_shot_cells(rows, AVERAGE).loc[("coop", "M4"), 1]
    assert cell.seeds == ((1, 20), (2, 35))


def evidence_of(rows, params):
    frame = results_table(rows)
    return Evidence(frame, outcomes_of(frame), params)


def test_an_interval_that_leaves_out_0_has_an_outcome():
    assert Interval(2, 0.5, 3.5, 6).outcome == "higher"
    assert Interval(-2, -3.5, -0.5, 6).outcome == "lower"
    assert Interval(1, 0, 2, 6).outcome == "unclear"
    assert str(Interval(1, -0.25, 2.25, 6)) == "+1.0 [-0.2, +2.2]"


def test_differences_are_paired_by_seed(suite):
    rows = [row(value, variant=variant, seed=seed, shots=2) for variant, seed, value in (
        ("M4", 1, 10), ("M4", 2, 30), ("M8", 1, 11), ("M8", 2, 33), ("M8", 3, 90))]
    line, = few_shot_differences(evidence_of(rows, suite), "coop", "M4").itertuples()
    assert line.difference.mean == 2 and line.difference.pairs == 2
    assert line.accuracy.mean == 22 and line.main.mean == 20
    rows = [row(value, variant=variant, subset=subset, protocol="base_to_new")
            for variant, subset, value in (("M4", "base", 60), ("M4", "new", 40),
                                           ("M8", "base", 60), ("M8", "new", 60))]
    line = base_to_new_differences(evidence_of(rows, suite), "coop", "M4").iloc[0]
    assert line["difference in new"].mean == 20 and line["difference in H"].mean == 60 - 48


def test_an_ablation_has_the_interval_that_a_claim_about_it_would_have(suite):
    rows = [row(value, variant=variant, seed=seed, dataset=dataset, shots=1)
            for dataset, shift in (("shapes", 0), ("figures", 20))
            for variant, change in (("M4", 0), ("M8", 3)) for seed, value in (
                (1, 40 + shift + 2 * change), (2, 45 + shift + change))]
    evidence = evidence_of(rows, suite)
    found = few_shot_differences(evidence, "coop", "M4")["difference"].item()
    ours, main = (evidence.runs("few_shot", "all", "coop", name, 1) for name in ("M8", "M4"))
    expected = difference((ours - main).arrays())
    assert found == Interval(expected.estimate, *expected.interval, 4)
    assert found.low < 4.5 == found.mean < found.high


def test_the_glossary_says_what_each_ablation_changes(suite):
    words = explained(suite.dualpt)
    assert set(suite.dualpt.ablations) <= set(words)
    assert "alpha" in words["text only"] and words["text only"].count("→") == 2
    changed = explained(suite.coop)["M4-csc"]
    assert changed.startswith("class_specific (one context") and changed.endswith("no → yes")


def test_a_table_marks_the_best_the_ties_and_seeds_that_lie_apart():
    frame = pd.DataFrame({"method": ["coop", "aape", "kgcoop"], "value": [
        Cell.of([1, 2], [50, 52]), Cell.of([1, 2], [50.5, 52.5]), Cell.of([1, 2, 3], [9, 10, 30])],
        "paper": [Quoted("1.20", "recall"), None, None]})
    shown = Table(frame, "What.", "some thing", best=["value"], units={"value": "%"})
    page = BeautifulSoup(shown.html, "html.parser")
    coop, aape, kgcoop = (line.find_all("td") for line in page.tbody.find_all("tr"))
    assert coop[0].text == "CoOp" and coop[0].svg
    assert "tie" in coop[1]["class"] and "best" in aape[1]["class"]
    assert "⚠ 9.5 without seed 3" in kgcoop[1].text and "seeds 1: 9.0" in kgcoop[1]["title"]
    assert coop[2].text == "1.20" and "origin-recall" in coop[2]["class"]
    caption = page.figcaption.text
    for said in ("sample standard deviation over 2 or 3 seeds", "Bold", "⚠"):
        assert said in caption
    assert page.thead.find_all("th")[1].text == "value %"
    assert shown._repr_html_() == shown.html


def test_cosines_have_three_decimals_and_other_numbers_one():
    frame = pd.DataFrame({"what": ["cosine of both", "share"], "value": [0.12345, 0.12345],
                          "mean cosine": [0.5, 0.5], "count": [1200, 3]})
    page = BeautifulSoup(Table(frame, "What.", "numbers").html, "html.parser")
    shown = [[cell.text for cell in line.find_all("td")] for line in page.tbody.find_all("tr")]
    assert shown == [["cosine of both", "0.123", "0.500", "1,200"], ["share", "0.1", "0.500", "3"]]


def test_the_accuracy_of_a_variant_called_cosine_has_one_decimal():
    frame = pd.DataFrame({"variant": ["cosine"], "base": [50.556], "cosine to the text": [0.5]})
    page = BeautifulSoup(Table(frame, "What.", "v", units={"base": "%"}).html, "html.parser")
    assert [cell.text for cell in page.tbody.find_all("td")] == ["cosine", "50.6", "0.500"]


def test_a_list_of_values_is_a_table_of_two_columns():
    values = {"zero-shot": Cell.of([0], [40]), "16 shots": Cell.of([1, 2], [50, 52])}
    shown = listed(values, "Accuracy.", "few shot", "trained with", "accuracy", "%")
    page = BeautifulSoup(shown.html, "html.parser")
    assert [head.text for head in page.thead.find_all("th")] == ["trained with", "accuracy %"]
    assert [line.find("td").text for line in page.tbody.find_all("tr")] == list(values)
    settings = listed({"lr": 0.02, "init": None, "align": "ot"}, "Set.", "s", "setting", "value")
    lines = BeautifulSoup(settings.html, "html.parser").tbody.find_all("tr")
    assert [line.find_all("td")[1].text for line in lines] == ["0.02", DASH, "ot"]
