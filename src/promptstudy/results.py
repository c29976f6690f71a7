"""The results table: one row per run and evaluated subset, in `reports/results.csv`."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .errors import DamagedFile, MissingFile
from .files import file_sha256, write_text
from .params import ORIGINAL, Params
from .params.methods import BLOCKS

COLUMNS = ("suite", "dataset", "backbone", "protocol", "method", "variant", "shots", "seed",
           "subset", "metric", "value", "n_test")
KEY = COLUMNS[:-2]
# protocols that test elsewhere, and what their mean is of
TRANSFER = {"cross_dataset": "mean of the others", "domain": "mean of the shifts"}
# Under this variant's name DuAl-PT's descriptions stand in the results without its prompts.
DESCRIPTIONS_ALONE = "descriptions alone"
# How far below the median of its seeds, in points, the accuracy of a collapsed run is at least.
COLLAPSE = 10.0
# How methods are called, in the order in which tables and figures show them.
BASELINES = {"zero_shot": "Zero-shot CLIP", "ensemble": "Prompt ensemble",
             "linear_probe": "Linear probe", "tip_adapter": "Tip-Adapter"}
METHODS = {**BASELINES, **{name: block.title for name, block in BLOCKS.items()}}


def results_table(rows: list[dict[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Return the rows (dicts with all of `COLUMNS`) as a sorted DataFrame.

    Values are percentages, rounded to 4 decimals. Raises `ValueError` on two rows for one run and
    subset.
    """
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["value"] = frame["value"].astype(float).round(4)
    if frame.duplicated(list(KEY)).any():
        twice = frame[frame.duplicated(list(KEY))].iloc[0].to_dict()
        raise ValueError(f"two results for one run: {twice}")
    return frame.sort_values(list(KEY), ignore_index=True)


def shots_label(shots: int) -> str:
    """Return what a number of images per class is called in tables and figures."""
    return {0: "no images", 1: "1 shot"}.get(shots, f"{shots} shots")


def write_results(path: Path, frame: pd.DataFrame) -> None:
    """Write the table as CSV, and beside it its SHA-256, each in one piece."""
    write_text(path, frame.to_csv(index=False, float_format="%.4f"))
    write_text(_digest_path(path), f"{file_sha256(path)}  {path.name}\n")


def read_results(path: Path) -> pd.DataFrame:
    """Return the table that `write_results` wrote.

    Raises `MissingFile` if there is none, and `DamagedFile` if it has changed since.
    """
    again = "make it again with `dvc repro evaluate`"
    try:
        digest = _digest_path(path).read_text().split()[0]
        if file_sha256(path) != digest:
            raise DamagedFile(f"{path} has changed since it was written: its SHA-256 is not the "
                              f"one in {_digest_path(path).name}; {again}")
    except FileNotFoundError as error:
        raise MissingFile(f"{error.filename} does not exist; {again}") from None
    return pd.read_csv(path)


def _digest_path(path):
    """Where the SHA-256 of a results table is, as `sha256sum` writes and checks it."""
    return path.with_suffix(".sha256")


def main_rows(frame: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return the rows of every method's main variant in each protocol, without the ablations."""
    main = {(method, protocol): getattr(block, protocol).label
            for method, block in params.methods.items()
            for protocol in ("few_shot", "base_to_new", "retrieval")
            if getattr(block, protocol, None)}
    main |= {(method, protocol): block.base_to_new.label
             for method, block in params.methods.items() for protocol in TRANSFER}
    keys = zip(frame["method"], frame["protocol"], frame["variant"], strict=True)
    return frame[[variant == main.get((method, protocol), variant)
                  for method, protocol, variant in keys]]


def complete_rows(frame: pd.DataFrame, method: str, protocol: str,
                  variants: list[str]) -> pd.DataFrame:
    """Return a method's rows of these variants, of the datasets and shots that have them all."""
    rows = frame[(frame["method"] == method) & (frame["protocol"] == protocol)
                 & frame["variant"].isin(variants)]
    for column in ("dataset", "shots"):
        found = rows.groupby(column)["variant"].nunique()
        rows = rows[rows[column].isin(found.index[found == len(variants)])]
    return rows


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds, and their number, of every setting.

    The deviation is the sample's (division by n - 1); a single run has none (NaN). Columns `mean`,
    `std`, `seeds`.
    """
    by = [column for column in KEY if column != "seed"]
    grouped = frame.groupby(by, sort=False)["value"]
    return grouped.agg(mean="mean", std="std", seeds="size").reset_index()


def collapsed_runs(frame: pd.DataFrame) -> pd.Series:
    """Return for every row whether its run collapsed, as a Boolean Series.

    That is a run whose accuracy lies more than `COLLAPSE` points, and more than 3.5 robust standard
    deviations (1.4826 times the median absolute deviation), below the median of the seeds of its
    setting. Fewer than three seeds cannot tell.
    """
    by = [frame[column] for column in KEY if column != "seed"]
    below = frame["value"].groupby(by).transform("median") - frame["value"]
    deviation = 1.4826 * below.abs().groupby(by).transform("median")
    return (below > COLLAPSE) & (below > 3.5 * deviation)


def average_over_datasets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over datasets of each run, as rows of a dataset called `average`.

    A setting counts only if every dataset of the table has it.
    """
    by = [column for column in KEY if column != "dataset"]
    grouped = frame.groupby(by, sort=False)
    averaged = grouped.agg(value=("value", "mean"), n_test=("n_test", "sum"),
                           datasets=("dataset", "nunique")).reset_index()
    whole = averaged[averaged["datasets"] == frame["dataset"].nunique()]
    return whole.drop(columns="datasets").assign(dataset="average")[list(COLUMNS)]


def with_h(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the base-to-new rows and, with the subset `H`, the harmonic mean of every run's two.

    So every mean of H, over seeds or datasets, is the mean of the runs' own H.
    """
    rows = frame[frame["protocol"] == "base_to_new"]
    by = [column for column in KEY if column != "subset"]
    wide: Any = rows.pivot(index=by, columns="subset", values=["value", "n_test"])
    halves = wide["value"].reindex(columns=["base", "new"])
    h = pd.DataFrame({"value": harmonic_mean(halves["base"], halves["new"]),
                      "n_test": wide["n_test"].sum(axis=1).astype(int)})
    return pd.concat([rows, h.dropna().reset_index().assign(subset="H")[list(COLUMNS)]],
                     ignore_index=True)


def base_to_new_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean base, new and H over seeds, per dataset, method and variant, and their averages.

    H is the mean of the runs' own H (see `with_h`). Rows `average` are the means over datasets of
    what every dataset has. `over_seeds(with_h(frame))` has the deviations.
    """
    rows = with_h(frame)
    tables = [over_seeds(part).pivot(index=["dataset", "method", "variant"], columns="subset",
                                     values="mean")
              for part in (rows, average_over_datasets(rows))]
    return pd.concat(tables)[["base", "new", "H"]].rename_axis(columns=None)


def transfer_runs(frame: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return accuracies: a row per run, a column per kind of test images.

    Index: method, variant, shots and seed. First come the source's test images, then those that its
    shifts were made of, where there are such, then the others, if any, and `mean`, their mean.
    """
    rows = frame[frame["protocol"] == protocol]
    runs = rows.pivot(index=["method", "variant", "shots", "seed"], columns="subset",
                      values="value").rename_axis(columns=None)
    source = [name for name in (*rows["dataset"].unique(), ORIGINAL) if name in runs]
    others = runs.columns.difference(source)
    runs = runs[[*source, *others]]
    return runs.assign(mean=runs[others].mean(axis=1)) if len(others) else runs


def harmonic_mean(base: Any, new: Any) -> Any:
    """Return H = 2 B N / (B + N) of base and new accuracy, the summary of base-to-new.

    Of two zeros it is 0, its limit. Numbers, arrays and columns of tables will do.
    """
    return 2 * base * new / np.maximum(base + new, np.finfo(float).tiny)
