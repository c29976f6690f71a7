"""Paired differences between runs: intervals by the bootstrap, tests and Holm's correction.

Accuracies are in percent and differences in points. Runs are *resampled* arrays [1 + B]: first the
measured value, then the value in each of B = `REPLICATES` bootstrap replicates of the test images.
The same images are drawn in the same replicates whoever is tested on them, so every function of
several runs (a difference, H, a mean) is paired image by image if it is applied to their arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

REPLICATES = 1000  # which give a standard error to 2 percent
LEVEL = 0.95  # of intervals; a test decides at 1 - LEVEL, both sides together
CHUNK = 4_000_000  # image draws made at once


def resample_images(right: NDArray[np.bool_], name: str) -> NDArray[np.float64]:
    """Return the accuracy [R, 1 + B] of R runs, measured and in each replicate, in percent.

    right: which of the N test images each run gets right, Boolean [R, N]. name: a name of these
    images, from which the draws follow: the same name gives the same draws.
    """
    n_images = right.shape[1]
    generator = np.random.default_rng(list(name.encode()))
    columns, weights = [100 * right.mean(axis=1)[:, None]], right.T.astype(np.float32)
    step = max(1, CHUNK // n_images)
    for start in range(0, REPLICATES, step):
        count = min(step, REPLICATES - start)
        drawn = generator.integers(n_images, size=(count, n_images))
        drawn += n_images * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * n_images).reshape(count, n_images)
        columns.append(100 * (times.astype(np.float32) @ weights).T.astype(float) / n_images)
    return np.hstack(columns)


class Difference(NamedTuple):
    """A mean difference in points, its standard error and what tests need of it."""

    estimate: float
    error: float  # of the mean over these datasets; test images and seeds are random
    freedom: float  # degrees of freedom of the error
    runs: int  # number of paired runs
    per_dataset: dict[str, float]  # the mean difference on each dataset

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval `(low, high)` of the difference on these datasets."""
        half = self.half_width
        return self.estimate - half, self.estimate + half

    @property
    def half_width(self) -> float:
        """Half the interval's width: the smallest difference from the margin that is decided."""
        return stats.t.ppf((1 + LEVEL) / 2, self.freedom) * self.error

    @property
    def over_datasets(self) -> tuple[float, float]:
        """The 95 % interval `(low, high)` if datasets are random too; NaN for a single one.

        It is Student's, of the datasets' mean differences.
        """
        values = list(self.per_dataset.values())
        if len(values) < 2:
            return np.nan, np.nan
        half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values)
        return self.estimate - half, self.estimate + half

    def __str__(self) -> str:
        """The difference and its interval, as `+1.2 [-0.3, 2.7]`."""
        return "{:+.1f} [{:.1f}, {:.1f}]".format(self.estimate, *self.interval)

    def above(self, margin: float) -> float:
        """Return the one-sided p value of: the difference is at most `margin`."""
        return self._tail(self.estimate - margin)

    def below(self, margin: float) -> float:
        """Return the one-sided p value of: the difference is at least `margin`."""
        return self._tail(margin - self.estimate)

    def _tail(self, distance):
        if self.error == 0:  # nothing varies: identical methods are not told apart, others are
            return float(np.heaviside(-distance, 0.5))
        return stats.t.sf(distance / self.error, self.freedom)


def difference(runs: dict[str, NDArray[np.float64]]) -> Difference:
    """Return the `Difference` of paired runs, `{dataset: resampled differences [S, 1 + B]}`.

    The mean is over seeds, then over datasets, which are fixed; seeds and test images are random.
    As in an analysis of variance with two crossed random factors, the variance of a dataset's mean
    is V_images + V_seeds - V_both:
        V_images  variance of the mean over seeds when the images are resampled;
        V_seeds   variance between the S runs, divided by S;
        V_both    what the first two count twice: the variance of the runs' deviations from their
                  mean when the images are resampled, divided by S.
    It is at least V_images. A single run has no variance between seeds: its interval is about test
    images alone. The degrees of freedom are Satterthwaite's, with S - 1 for V_seeds.
    """
    means: dict[str, float] = {}
    variance = uncertain = 0.0
    for name, values in runs.items():
        measured, replicates, seeds = values[:, 0], values[:, 1:], len(values)
        means[name] = float(measured.mean())
        total = replicates.mean(axis=0).var(ddof=1)
        if seeds > 1:
            between = measured.var(ddof=1) / seeds
            deviations = replicates - replicates.mean(axis=0)
            both = deviations.var(axis=1, ddof=1).sum() / (seeds * (seeds - 1))
            total += max(0.0, between - both)
            uncertain += (between / len(runs) ** 2) ** 2 / (seeds - 1)
        variance += total / len(runs) ** 2
    return Difference(float(np.mean(list(means.values()))), variance ** 0.5,
                      variance ** 2 / uncertain if uncertain else np.inf,
                      sum(map(len, runs.values())), means)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return Holm's adjusted p values, in the order of `p_values`.

    The k-th smallest of n is multiplied by n - k + 1; none is smaller than the one before it, and
    none larger than 1. Testing them all at a level errs anywhere in the family with at most that
    probability.
    """
    values = np.asarray(p_values, dtype=float)
    order = values.argsort(kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * values[order]))
    return adjusted
