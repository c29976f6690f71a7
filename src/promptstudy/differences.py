"""Ablations as differences from the main variant, paired by dataset, shots and seed."""

from typing import NamedTuple

import pandas as pd
from scipy import stats

from .cells import Cell
from .results import with_h

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean difference in points, its confidence interval (None of one pair), and the pairs.

    No pairs: the interval was made otherwise, as the caption says.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @classmethod
    def of(cls, differences: pd.Series) -> "Interval":
        """Return the interval of paired differences by Student's t, at `CONFIDENCE`."""
        mean = float(differences.mean())
        if len(differences) < 2:
            return cls(mean, None, None, len(differences))
        if differences.nunique() == 1:
            return cls(mean, mean, mean, len(differences))
        low, high = stats.ttest_1samp(differences, 0).confidence_interval(CONFIDENCE)
        return cls(mean, float(low), float(high), len(differences))

    @property
    def outcome(self) -> str:
        """`higher` or `lower` where the interval leaves out 0, else `unclear`."""
        if self.low is not None and self.low > 0:
            return "higher"
        if self.high is not None and self.high < 0:
            return "lower"
        return "unclear"

    def __str__(self) -> str:
        inside = "" if self.low is None else f" [{self.low:+.1f}, {self.high:+.1f}]"
        return f"{self.mean:+.1f}{inside}"


def few_shot_differences(frame: pd.DataFrame, method: str, main: str) -> pd.DataFrame:
    """Return accuracy and difference of every variant of a method but `main`, by shots.

    Columns: variant, shots, `accuracy` and `main` as cells (means over the datasets that have
    both), `difference` as an `Interval`. Empty if there is no other variant.
    """
    rows = frame[(frame["protocol"] == "few_shot") & (frame["method"] == method)]
    runs = rows.pivot_table(index=["dataset", "shots", "seed"], columns="variant", values="value")
    found = []
    for variant in [name for name in runs if name != main and main in runs]:
        pairs = runs[[main, variant]].dropna()
        found += [{"variant": variant, "shots": shots, "accuracy": _cell(part[variant]),
                   "main": _cell(part[main]),
                   "difference": Interval.of(part[variant].sub(part[main]))}
                  for shots, part in pairs.groupby("shots")]
    return pd.DataFrame(found)


def base_to_new_differences(frame: pd.DataFrame, method: str, main: str) -> pd.DataFrame:
    """Return base, new, H and differences of every variant of a method but `main`.

    Columns: variant, `base`, `new` and `H` as cells (means over the datasets that have both),
    `difference in new`, `difference in H` as intervals. H is that of each dataset and seed.
    """
    rows = with_h(frame[frame["method"] == method])
    runs = rows.pivot_table(index=["dataset", "seed", "variant"], columns="subset", values="value")
    variants = runs.index.get_level_values("variant").unique()
    found = []
    for variant in [name for name in variants if name != main and main in variants]:
        ours, theirs = runs.xs(variant, level="variant").align(
            runs.xs(main, level="variant"), join="inner", axis=0)
        found.append({"variant": variant}
                     | {subset: _cell(ours[subset]) for subset in ("base", "new", "H")}
                     | {f"difference in {subset}": Interval.of(ours[subset].sub(theirs[subset]))
                        for subset in ("new", "H")})
    return pd.DataFrame(found)


def _cell(values):
    """The cell of a Series by dataset and seed: each seed's mean over datasets."""
    by_seed = values.groupby("seed").mean()
    return Cell.of(by_seed.index, by_seed)
