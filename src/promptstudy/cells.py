"""What one cell of a table, or one point of a figure, shows: a mean over seeds, and its seeds.

Tables and figures of the same numbers are drawn from the same cells, so that they agree.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from .results import (
    COLLAPSE,
    METHODS,
    average_over_datasets,
    transfer_runs,
    with_h,
)

AVERAGE = "average"


@dataclass(frozen=True)
class Cell:
    """A mean with the values that it is of."""

    mean: float
    seeds: tuple[tuple[int, float], ...]  # each seed and its value

    @classmethod
    def of(cls, seeds: Iterable, values: Iterable) -> "Cell":
        """Return the cell of some seeds and their values."""
        pairs = tuple(sorted(zip(map(int, seeds), map(float, values), strict=True)))
        return cls(statistics.fmean(value for _, value in pairs), pairs)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds, or None of a single run."""
        values = [value for _, value in self.seeds]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def apart(self) -> list[int]:
        """The seeds whose value is more than `COLLAPSE` points from the median of all.

        A mean would hide what happened to them. None where seeds have no middle: two that differ,
        say.
        """
        middle = statistics.median(value for _, value in self.seeds)
        found = [seed for seed, value in self.seeds if abs(value - middle) > COLLAPSE]
        return found if len(found) < len(self.seeds) else []

    @property
    def mean_without(self) -> float:
        """The mean without the seeds that lie apart."""
        return statistics.fmean(value for seed, value in self.seeds if seed not in self.apart)

    def __str__(self) -> str:
        spread = "" if self.std is None else f" ± {self.std:.1f}"
        return f"{self.mean:.1f}{spread}"


class Interval(NamedTuple):
    """A mean difference in points, its 95 % interval, and the number of paired runs."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def outcome(self) -> str:
        """`higher` or `lower` where the interval leaves out 0, else `unclear`."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "unclear"

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def few_shot_cells(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return the accuracy of every variant (rows) by number of shots (columns).

    dataset: its name, or `AVERAGE` for the mean over datasets of each seed.
    """
    return _by_seed(_of_dataset(frame, "few_shot", dataset), ["method", "variant"], "shots")


def base_to_new_cells(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return base, new and H of every variant; every mean of H is one of the runs' own H.

    dataset: its name, or `AVERAGE` for the mean over datasets of each seed.
    """
    rows = _of_dataset(with_h(frame), "base_to_new", dataset)
    return _by_seed(rows, ["method", "variant"], "subset")[["base", "new", "H"]]


def transfer_cells(frame: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return the accuracy of every variant on each kind of test images, see `transfer_runs`."""
    runs = transfer_runs(frame, protocol)  # none: an empty table
    long = runs.melt(var_name="subset", ignore_index=False).reset_index().dropna()
    cells = _by_seed(long, ["method", "variant"], "subset")
    return cells[[column for column in runs if column in cells]]


def gain_cells(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return what each method gains on zero-shot CLIP by quarter of typicality, in points."""
    rows = _of_dataset(frame, "typicality", dataset)
    before = rows[rows["method"] == "zero_shot"].set_index("subset")["value"]
    rows = rows[rows["method"] != "zero_shot"]
    return _by_seed(rows.assign(value=rows["value"] - rows["subset"].map(before)),
                    ["method", "variant"], "subset")


def retrieval_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the recall of every method (rows: dataset, direction, method) by rank (columns)."""
    rows = frame[frame["protocol"] == "retrieval"]
    cells = _by_seed(rows, ["dataset", "subset", "method"], "metric")
    return cells[sorted(cells, key=lambda metric: int(metric.split("@")[1]))]


def means(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the means of cells as numbers."""
    return cells.map(lambda cell: cell.mean if isinstance(cell, Cell) else float("nan"))


def spreads(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the deviations of cells as numbers; not a number where there is one run."""
    return cells.map(lambda cell: cell.std if isinstance(cell, Cell) and cell.std is not None
                     else float("nan"))


def datasets_of(frame: pd.DataFrame, protocol: str) -> list[str]:
    """Return the datasets of a protocol, after `AVERAGE` if there are several."""
    names = list(dict.fromkeys(frame[frame["protocol"] == protocol]["dataset"]))
    return names if len(names) == 1 else [AVERAGE, *names]


def dataset_title(dataset: str) -> str:
    """Return what a panel or table of a dataset, or of `AVERAGE`, is called."""
    return "mean over datasets" if dataset == AVERAGE else dataset


def _of_dataset(frame, protocol, dataset):
    rows = frame[frame["protocol"] == protocol]
    return (average_over_datasets(rows) if dataset == AVERAGE
            else rows[rows["dataset"] == dataset])


def _by_seed(rows, index, column):
    """Return the cells of tidy rows; methods in their usual order, columns in theirs."""
    if rows.empty:
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(index), names=index))
    found = {key: Cell.of(part["seed"], part["value"])
             for key, part in rows.groupby([*index, column], sort=False)}
    cells = pd.Series(found, dtype=object)
    cells.index = pd.MultiIndex.from_tuples(found, names=[*index, column])
    wide = cells.unstack(column).rename_axis(columns=None)
    return wide.reindex(_in_order(wide.index))


def _in_order(index):
    """Return an index of methods and more, sorted by the methods' usual order, else as it is."""
    place = {method: number for number, method in enumerate(METHODS)}
    level = index.names.index("method")
    return pd.MultiIndex.from_tuples(
        sorted(index, key=lambda key: (*key[:level], place.get(key[level], len(place)))),
        names=index.names)
