"""Claims as comparisons of paired runs, and the rule by which they are decided."""

from typing import NamedTuple

from ..results import shots_label
from ..statistics import LEVEL, REPLICATES, Difference, difference, holm
from .evidence import Runs

# The margins, in points of accuracy, were named before any interval had been computed.
CLOSE = 3.0  # "close to": less than so much below
EQUAL = 2.0  # "about equal": less than so much apart

VERDICTS = ("holds", "does not hold", "mixed", "not decided")
# One sentence, to be printed beside the verdicts, and how its numbers are made.
RULE = (
    "A claim holds if its difference lies on the claimed side of the margin and does not hold if "
    "it lies on the other side (mixed: some of its comparisons hold, others do not; all must), but "
    "is not decided unless p, two-sided and after Holm's correction over the claims of its paper, "
    f"is at most {1 - LEVEL:.2g}.")
METHOD = (
    "Differences are paired: the same dataset, seed and test images on both sides; they are "
    "averaged over seeds, then over datasets. H is that of each run, then averaged. The 95 % "
    f"intervals are about other test images ({REPLICATES:,} bootstrap replicates) and other seeds "
    "(Student's t) on the same datasets; without the correction, p is at most 0.05 if the margin "
    f"lies outside them. Margins were named beforehand: 0 for better, {CLOSE:g} points below for "
    f"close, {EQUAL:g} points either way for about equal (two one-sided tests). Of several "
    "comparisons the least favourable one is shown. Half an interval's width is the smallest "
    "difference from the margin that could have been seen. ± is the sample standard deviation "
    "(division by n - 1) over seeds.")


class Comparison(NamedTuple):
    """One of the comparisons that a claim is about."""

    name: str
    runs: Runs  # the paired differences, in points
    margin: float = 0.0  # claimed: above it, or with `equal` less than it away from 0
    equal: bool = False

    @property
    def claimed(self) -> str:
        """Which differences the claim is about, as text."""
        return f"within ±{self.margin:g}" if self.equal else f"> {self.margin:g}"


def ahead(first: Runs, second: Runs, name: str = "") -> Comparison:
    """Return the Comparison that claims that the first is better than the second."""
    return Comparison(name, first - second)


def close(first: Runs, second: Runs, name: str = "") -> Comparison:
    """Return the Comparison that claims: the first is less than `CLOSE` points below."""
    return Comparison(name, first - second, -CLOSE)


def equal(first: Runs, second: Runs, name: str = "") -> Comparison:
    """Return the Comparison that claims that the two are less than `EQUAL` points apart."""
    return Comparison(name, first - second, EQUAL, equal=True)


class Claim(NamedTuple):
    """A paper's claim, what was measured, as text, and the comparisons that decide it."""

    paper: str  # the method that the paper is about; Holm's correction is over its claims
    claim: str
    measured: str
    comparisons: list[Comparison]


class Tested(NamedTuple):
    """A Comparison's Difference, and the one-sided p values for and against what is claimed."""

    comparison: Comparison
    difference: Difference
    p_for: float  # small: it holds
    p_against: float  # small: it does not hold


def tested(comparison: Comparison) -> Tested:
    """Return the Tested of a Comparison."""
    found, margin = difference(comparison.runs.arrays()), comparison.margin
    if comparison.equal:  # two one-sided tests
        return Tested(comparison, found, max(found.above(-margin), found.below(margin)),
                      min(found.above(margin), found.below(-margin)))
    return Tested(comparison, found, found.above(margin), found.below(margin))


class Decision(NamedTuple):
    """A Claim, its comparisons as they were Tested, its p value (both sides) and the verdict."""

    claim: Claim
    tests: list[Tested]
    p: float  # after Holm's correction
    verdict: str  # holds, does not hold, mixed or not decided

    @property
    def weakest(self) -> Tested:
        """The least favourable comparison."""
        return max(self.tests, key=lambda each: each.p_for)


def decide(claims: list[Claim]) -> list[Decision]:
    """Return the Decisions on Claims by `RULE`; without runs to compare a Claim is left out.

    That all of k comparisons hold has the largest of their p values; that one of them does not has
    k times the smallest.
    """
    claims = [claim for claim in claims if claim.comparisons
              and all(comparison.runs for comparison in claim.comparisons)]
    results = [[tested(comparison) for comparison in claim.comparisons] for claim in claims]
    sides = [(max(t.p_for for t in tests), min(1, len(tests) * min(t.p_against for t in tests)))
             for tests in results]
    adjusted: dict[int, float] = {}
    for paper in dict.fromkeys(claim.paper for claim in claims):
        family = [place for place, claim in enumerate(claims) if claim.paper == paper]
        adjusted |= zip(family, holm([min(1, 2 * min(sides[place])) for place in family]),
                        strict=True)
    return [Decision(claim, tests, adjusted[place],
                     _verdict(tests, adjusted[place], *sides[place]))
            for place, (claim, tests) in enumerate(zip(claims, results, strict=True))]


def _verdict(tests, p, p_for, p_against):
    alpha = 1 - LEVEL
    if p > alpha:
        return "not decided"
    if p_for < p_against:
        return "holds"
    return "mixed" if any(2 * each.p_for <= alpha for each in tests) else "does not hold"


def ahead_by_shots(paper: str, claim: str, first: dict[int, Runs], second: dict[int, Runs],
                   names: tuple[str, str]) -> Claim:
    """Return the Claim that the first is better than the second at every number of shots.

    Both are `{shots: Runs}`; names: what the two are called in the text of what was measured.
    """
    return Claim(paper, claim,
                 "; ".join(listing({f"{shots}: {names[0]}": first[shots], names[1]: second[shots]})
                           for shots in first),
                 [ahead(first[shots], second[shots], shots_label(shots)) for shots in first])


def listing(sides: dict[str, Runs]) -> str:
    """Return `{name: Runs}` as text, on the datasets that all of them have."""
    common = set.intersection(*map(set, sides.values()))
    return ", ".join(f"{name} {runs.on(common)}" for name, runs in sides.items()) if common else ""
