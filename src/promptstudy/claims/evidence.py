"""What the claims are decided by: accuracies of runs, paired by dataset, seed and test image."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..outcomes import Outcomes, Place, read_outcomes
from ..params import Params
from ..results import collapsed_runs, harmonic_mean, main_rows
from ..statistics import resample_images

HAND_CRAFTED = 0  # the seed of what has no seeds


class Runs(dict[str, dict[int, NDArray[np.float64]]]):
    """Some value of every run: `{dataset: {seed: resampled value [1 + B]}}` (see `statistics`).

    A hand-crafted classifier has one run, which is compared with the runs of every seed.
    """

    @classmethod
    def combine(cls, function: Callable, *sides: "Runs") -> "Runs":
        """Return the Runs of a function of several sides' values.

        They are of the datasets and seeds that all sides have.
        """
        combined = cls()
        for dataset in sides[0]:
            parts = [side.get(dataset, {}) for side in sides]
            trained = [part.keys() for part in parts if part.keys() != {HAND_CRAFTED}]
            seeds = sorted(set.intersection(*map(set, trained))) if trained else [HAND_CRAFTED]
            values = {seed: function(*(part.get(seed, part.get(HAND_CRAFTED)) for part in parts))
                      for seed in seeds}
            if values:
                combined[dataset] = values
        return combined

    @classmethod
    def mean(cls, *sides: "Runs") -> "Runs":
        """Return the mean of several sides in every run."""
        return cls.combine(lambda *values: np.mean(values, axis=0), *sides)

    def __sub__(self, other: "Runs") -> "Runs":
        return self.combine(np.subtract, self, other)

    def on(self, datasets: Collection[str]) -> "Runs":
        """Return the Runs on some datasets."""
        return Runs({name: seeds for name, seeds in self.items() if name in datasets})

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return `{dataset: [S, 1 + B]}`."""
        return {name: np.stack(list(seeds.values())) for name, seeds in self.items()}

    @property
    def measured(self) -> float:
        """The measured value, averaged over seeds, then over datasets."""
        return np.mean([values[:, 0].mean() for values in self.arrays().values()])

    @property
    def by_seed(self) -> dict[int, float]:
        """The measured values, averaged over datasets, of the seeds that all datasets have."""
        seeds = sorted(set.intersection(*map(set, self.values())))
        return {seed: np.mean([runs[seed][0] for runs in self.values()]) for seed in seeds}

    def __str__(self) -> str:
        """The measured value, ± the sample deviation over seeds of the mean over datasets."""
        of_seeds = list(self.by_seed.values())
        if len(of_seeds) < 2:
            return f"{self.measured:.1f}"
        return f"{self.measured:.1f} ± {np.std(of_seeds, ddof=1):.1f}"


class Evidence:
    """The results with what each run gets right; main variants are `results.main_rows`."""

    def __init__(self, frame: pd.DataFrame, outcomes: Outcomes, params: Params) -> None:
        self.frame, self.params, self._outcomes = frame, params, outcomes
        self._main = set(main_rows(frame, params).index)
        self._groups: dict[tuple, list[Any]] = {}  # the rows by what `runs` is asked for
        for row in frame.itertuples():
            kind = row.protocol, row.subset, row.method, row.metric
            self._groups.setdefault(kind, []).append(row)
        self._resampled: dict[Place, NDArray[np.float64]] = {}

    @classmethod
    def load(cls, frame: pd.DataFrame, params: Params) -> "Evidence":
        """Return the Evidence of a suite's results, with the outcomes that evaluation stored."""
        return cls(frame, read_outcomes(params.root / "reports" / "outcomes.safetensors", frame),
                   params)

    def without_collapsed(self) -> "Evidence":
        """Return the Evidence without the runs that collapsed (see `results.collapsed_runs`)."""
        left = Evidence(self.frame[~collapsed_runs(self.frame)], self._outcomes, self.params)
        left._resampled = self._resampled
        return left

    def runs(self, protocol: str, subset: str, method: str, variant: str | None = None,
             shots: int | None = None, metric: str = "top1") -> Runs:
        """Return the Runs of a method's variant (default: the main one) on a subset.

        Rows count that were trained with so many `shots`, or on no image; without `shots` all.
        Raises `ValueError` if that gives two rows for a run.
        """
        found = Runs()
        for row in self._groups.get((protocol, subset, method, metric), []):
            of_variant = row.Index in self._main if variant is None else row.variant == variant
            if of_variant and (shots is None or row.shots in (0, shots)):
                runs = found.setdefault(row.dataset, {})
                if row.seed in runs:
                    raise ValueError(f"two results of {method}, {protocol}, {subset} for one run")
                place = row.dataset, protocol, subset
                number = self._outcomes.places[place].get_loc(row.Index)
                runs[row.seed] = self._of(place)[number]
        return found

    def variants(self, protocol: str, method: str) -> list[tuple[str, int]]:
        """Return every variant of a method with every number of shots that it was trained with."""
        rows = self.frame[(self.frame["protocol"] == protocol) & (self.frame["method"] == method)]
        return sorted(set(zip(rows["variant"], rows["shots"], strict=True)))

    def by_shots(self, method: str, shots: Iterable[int]) -> dict[int, Runs]:
        """Return the few-shot Runs of a method's main variant, `{shots: Runs}`."""
        return {count: self.runs("few_shot", "all", method, shots=count) for count in shots}

    def _of(self, place):
        if place not in self._resampled:
            self._resampled[place] = resample_images(self._outcomes.right(place),
                                                     self._outcomes.images[place])
        return self._resampled[place]

    def base_to_new(self, subset: str, method: str, variant: str | None = None) -> Runs:
        """Return the Runs on `base` or `new` classes, or of every run's own `H` of the two."""
        halves = [self.runs("base_to_new", half, method, variant)
                  for half in (("base", "new") if subset == "H" else (subset,))]
        return Runs.combine(harmonic_mean, *halves) if subset == "H" else halves[0]
