"""The table of all claims, in the order in which the report shows them."""

import pandas as pd

from ..results import collapsed_runs
from . import aape, coop, dualpt, dualview, transfer
from .comparisons import METHOD, RULE, VERDICTS, decide
from .evidence import Evidence

__all__ = ["METHOD", "RULE", "VERDICTS", "claims"]  # what pages show beside each other


def claims(evidence: Evidence) -> pd.DataFrame:
    """Return a table of the claims that the suite can test, a row each.

    `comparisons.RULE` is the rule of the verdicts. Differences are in points of top-1 accuracy (or
    recall, or percent) and of the claim's least favourable comparison.

    claim, measured   the claim and the numbers it is about: means over seeds, then over datasets,
                      in percent, ± sample deviation over seeds of the mean over datasets
    verdict           holds, does not hold, mixed or not decided
    paper             the method of whose paper it is; Holm's correction is over a paper's claims
    comparison        which comparison the numbers after it are of ("" if there is one)
    difference        the mean paired difference
    low, high         its 95 % interval over test images and seeds, datasets fixed
    margin            the differences for which the claim holds: "> 0", "> -3", "within ±2"
    p                 p value of the claim, two-sided, after Holm's correction
    detectable        half the interval's width: the smallest difference from the margin that could
                      have been seen
    n                 number of pairs of runs (datasets times seeds)
    low_datasets, high_datasets
                      its 95 % interval if datasets are random too (NaN for a single one)
    collapsed         number of pairs of runs, over all comparisons, with a run that collapsed
    difference_without, verdict_without
                      the same without these pairs (NaN and "" if there are none)
    comparisons       the differences and intervals of all comparisons, as text ("" if there is one)
    """
    decisions = others = decide(_all(evidence))
    if collapsed_runs(evidence.frame).any():
        others = decide(_all(evidence.without_collapsed()))
    without = {decision.claim.claim: decision for decision in others}
    rows = [_row(decision, without) for decision in decisions]
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["claim", "measured", "verdict", "paper", "comparison", "difference", "low", "high",
           "margin", "p", "detectable", "n", "low_datasets", "high_datasets", "collapsed",
           "difference_without", "verdict_without", "comparisons"]


def _all(evidence):
    """All Claims: of the modules for any suite, and of those of the methods that the suite runs."""
    modules = [coop, transfer]
    modules += [module for name, module in (("dualpt", dualpt), ("dualview", dualview),
                                            ("aape", aape)) if name in evidence.params.methods]
    return [claim for module in modules for claim in module.claims(evidence, evidence.params)]


def _numbers(test):
    """What the tables say of a comparison that was Tested."""
    found = test.difference
    low, high = found.interval
    return {"comparison": test.comparison.name, "difference": found.estimate, "low": low,
            "high": high, "margin": test.comparison.claimed,
            "p": min(1, 2 * min(test.p_for, test.p_against)), "detectable": found.half_width,
            "n": found.runs, "low_datasets": found.over_datasets[0],
            "high_datasets": found.over_datasets[1]}


def _every(tests):
    """All comparisons of a claim as text; nothing for one, which the other columns show."""
    return "; ".join(f"{test.comparison.name} {test.difference}" for test in tests
                     if len(tests) > 1)


def _row(decision, without):
    row = _numbers(decision.weakest) | {
        "claim": decision.claim.claim, "measured": decision.claim.measured,
        "verdict": decision.verdict, "paper": decision.claim.paper, "p": decision.p,
        "verdict_without": "", "comparisons": _every(decision.tests)}
    other = without.get(decision.claim.claim)
    left = sum(test.difference.runs for test in other.tests) if other else 0
    row["collapsed"] = sum(test.difference.runs for test in decision.tests) - left
    if row["collapsed"] and other:
        row["verdict_without"] = other.verdict
        row["difference_without"] = next(
            test.difference.estimate for test in other.tests
            if test.comparison.name == row["comparison"])
    return row
