"""Claims about several methods, on other datasets and on shifted images."""

from collections.abc import Iterator

import numpy as np

from ..params import ORIGINAL, Params
from ..results import METHODS, TRANSFER
from .comparisons import Claim, ahead, listing
from .evidence import Evidence, Runs


def claims(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Yield the Claims."""
    yield from cross_dataset(evidence, params)
    yield from domain(evidence, params)


def _measured(title, sides, methods):
    return f"{title}: " + listing({METHODS[method]: sides[method] for method in methods})


def cross_dataset(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Claims about other datasets than the one that was trained on."""
    source, methods = params.transfer.source, ("zero_shot", "coop", "dualview")
    others = [name for name in params.datasets if name != source]
    if not others:
        return
    home = {method: evidence.runs("cross_dataset", source, method) for method in methods}
    away = {method: Runs.mean(*(evidence.runs("cross_dataset", name, method) for name in others))
            for method in methods}

    def claim(paper, text, better, worse):
        pair = [method for method in methods if method in (better, worse)]
        return Claim(paper, text, "; ".join(
            (_measured(TRANSFER["cross_dataset"], away, pair), _measured("at home", home, pair))),
            [ahead(away[better], away[worse])])

    yield claim("CoCoOp's critique", "CoOp is worse than zero-shot CLIP on other datasets than its "
                "own (CoCoOp's critique)", "zero_shot", "coop")
    yield claim("Dual-view", "The dual-view method beats CoOp on other datasets than its own "
                "(inferred)", "dualview", "coop")


def domain(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Claims about shifted images of the classes that were trained on."""
    shifts = list(params.transfer.domain)
    if not shifts:
        return

    def runs(method, subset, variant=None):
        return evidence.runs("domain", subset, method, variant)

    def mean_of(method, variant=None):
        return Runs.mean(*(runs(method, shift, variant) for shift in shifts))

    mean = {method: mean_of(method) for method in METHODS}

    def claim(paper, text, better, *worse, more=""):
        return Claim(paper, text, _measured(TRANSFER["domain"], mean, (better, *worse)) + more,
                     [ahead(mean[better], mean[other], f"over {METHODS[other]}" * (len(worse) > 1))
                      for other in worse])

    changes = {shift: runs("coop", shift) - runs("zero_shot", shift) for shift in shifts}
    yield claim("CoOp", "CoOp is more robust to shifts of the images than zero-shot CLIP",
                "coop", "zero_shot", more=" (" + ", ".join(
                    f"{shift} {change.measured:+.1f}" for shift, change in changes.items()
                    if change) + ")")
    yield claim("CoOp", "CoOp is more robust to shifts than the linear probe",
                "coop", "linear_probe")
    before = ORIGINAL if runs("coop", ORIGINAL) else params.transfer.source
    kept = {method: Runs.combine(_percent, mean[method], runs(method, before))
            for method in ("zero_shot", "coop", "linear_probe")}
    yield Claim("CoOp", "Shifts cost the linear probe a larger share of its accuracy than CoOp",
                _measured("percent left", kept, kept), [ahead(kept["coop"], kept["linear_probe"])])
    yield claim("KgCoOp", "KgCoOp is more robust to shifts than CoOp", "kgcoop", "coop")
    yield claim("AAPE", "AAPE is more robust to shifts than zero-shot CLIP and CoOp",
                "aape", "zero_shot", "coop")
    short, long = params.coop.base_to_new, params.coop.few_shot
    if short.n_ctx < long.n_ctx:
        pair = [mean_of("coop", context.label) for context in (short, long)]
        yield Claim("CoOp", "CoOp with a shorter context is more robust to shifts",
                    f"{TRANSFER['domain']}: " + listing({f"M={short.n_ctx}": pair[0],
                                                         f"M={long.n_ctx}": pair[1]}),
                    [ahead(*pair)])


def _percent(part, whole):
    """Return how many percent of `whole` the `part` is; of nothing, 0."""
    return 100 * part / np.maximum(whole, np.finfo(float).tiny)
