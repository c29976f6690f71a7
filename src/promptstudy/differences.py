"""Ablations as differences from the main variant, measured as the claims' differences are."""

import pandas as pd

from .cells import Cell, Interval
from .claims.evidence import Evidence, Runs
from .statistics import difference


def few_shot_differences(evidence: Evidence, method: str, main: str) -> pd.DataFrame:
    """Return accuracy and difference of every variant of a method but `main`, by shots.

    Columns: variant, shots, `accuracy` and `main` as cells (means over the datasets and seeds that
    have both), `difference` as an `Interval`. Empty if there is no other variant.
    """
    found = []
    for variant, shots in evidence.variants("few_shot", method):
        if variant == main:
            continue
        ours, theirs = _pairs(*(evidence.runs("few_shot", "all", method, label, shots)
                                for label in (variant, main)))
        if ours:
            found.append({"variant": variant, "shots": shots, "accuracy": _cell(ours),
                          "main": _cell(theirs), "difference": _interval(ours, theirs)})
    return pd.DataFrame(found)


def base_to_new_differences(evidence: Evidence, method: str, main: str) -> pd.DataFrame:
    """Return base, new, H and differences of every variant of a method but `main`.

    Columns: variant, `base`, `new` and `H` as cells (means over the datasets and seeds that have
    both), `difference in new`, `difference in H` as intervals. H is that of each run.
    """
    found = []
    for variant, _ in evidence.variants("base_to_new", method):
        if variant == main:
            continue
        sides = {subset: _pairs(*(evidence.base_to_new(subset, method, label)
                                  for label in (variant, main)))
                 for subset in ("base", "new", "H")}
        if sides["H"][0]:
            found.append({"variant": variant}
                         | {subset: _cell(ours) for subset, (ours, _) in sides.items()}
                         | {f"difference in {subset}": _interval(*sides[subset])
                            for subset in ("new", "H")})
    return pd.DataFrame(found)


def _pairs(ours, theirs):
    """Both sides on the datasets and seeds that both have."""
    return (Runs.combine(lambda one, _: one, ours, theirs),
            Runs.combine(lambda _, other: other, ours, theirs))


def _cell(runs):
    return Cell.of(runs.by_seed, runs.by_seed.values())


def _interval(ours, theirs):
    found = difference((ours - theirs).arrays())
    return Interval(found.estimate, *found.interval, found.runs)
