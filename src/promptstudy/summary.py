"""The main results in the form that DVC's own commands read: a file per method, and curves.

`dvc.yaml` declares `reports/metrics` as metrics and `reports/curves` as plots.
"""

import json
import shutil

import pandas as pd

from .files import write_text
from .results import (
    METHODS,
    average_over_datasets,
    base_to_new_table,
    main_rows,
    over_seeds,
    read_results,
)


def few_shot_curves(rows):
    """Return few-shot accuracy in %, mean over datasets and seeds: columns method, shots, accuracy.

    Methods are in the order of tables; those without images have 0 shots.
    """
    means = over_seeds(average_over_datasets(rows[rows["protocol"] == "few_shot"]))
    means = means.rename(columns={"mean": "accuracy"})[["method", "shots", "accuracy"]]
    return _in_order(means, ["shots"])


def base_and_new_points(rows):
    """Return base and new accuracy and H in %, means over datasets and seeds, a row per method."""
    table = base_to_new_table(rows).loc["average"].reset_index()
    return _in_order(table[["method", "base", "new", "H"]], [])


def _in_order(table, by):
    table = table.assign(method=pd.Categorical(table["method"], list(METHODS), ordered=True))
    return table.sort_values(["method", *by], ignore_index=True).astype({"method": str}).round(2)


def write_summary(params):
    """Write `reports/metrics/METHOD.json` and the tables of the plots, `reports/curves/*.csv`.

    A method's file holds `few_shot` {shots: accuracy}, `base`, `new` and `H`, as far as the suite
    has them. Files of methods that the suite no longer runs are removed.
    """
    reports = params.root / "reports"
    rows = main_rows(read_results(reports / "results.csv"), params)
    curves, points = few_shot_curves(rows), base_and_new_points(rows)
    for folder in ("metrics", "curves"):
        shutil.rmtree(reports / folder, ignore_errors=True)
    for name, table in (("few_shot", curves), ("base_to_new", points)):
        titled = table.assign(method=table["method"].map(METHODS))
        write_text(reports / "curves" / f"{name}.csv", titled.to_csv(index=False))
    for method in METHODS:
        few_shot = curves[curves["method"] == method].set_index("shots")["accuracy"]
        halves = points[points["method"] == method].drop(columns="method").to_dict("records")
        # two digits, as DVC sorts its columns by name
        found = {"few_shot": {f"{shots:02d}": value for shots, value in few_shot.items()}}
        found = {key: value for key, value in found.items() if value} | (halves or [{}])[0]
        if found:
            write_text(reports / "metrics" / f"{method}.json", json.dumps(found, indent=1) + "\n")
