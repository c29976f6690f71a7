"""Claims about CoOp: its paper's, and CoCoOp's critique."""

import itertools
from collections.abc import Iterator

from ..params import Params
from ..results import shots_label
from .comparisons import Claim, ahead, ahead_by_shots, equal, listing
from .evidence import Evidence


def claims(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Yield the Claims."""
    yield from _few_shot(evidence, params)
    yield from _base_to_new(evidence)
    yield from _variants(evidence, params)


def _few_shot(evidence, params):
    shots = sorted(params.shots)
    most, low = shots[-1], [count for count in shots if count <= 4]
    zero_shot, ensemble = (evidence.runs("few_shot", "all", method)
                           for method in ("zero_shot", "ensemble"))
    coop, probe = (evidence.by_shots(method, shots) for method in ("coop", "linear_probe"))
    yield Claim("CoOp", "CoOp improves with every doubling of the images",
                listing({f"{count}:": coop[count] for count in shots}),
                [ahead(coop[more], coop[less], f"{more} over {shots_label(less)}")
                 for less, more in itertools.pairwise(shots)])
    yield Claim("CoOp", "CoOp beats the hand-crafted prompt from two shots on",
                listing({"zero-shot": zero_shot} | {f"{count}:": coop[count] for count in shots}),
                [ahead(coop[count], zero_shot, shots_label(count))
                 for count in shots if count > 1])
    yield Claim("CoOp", f"CoOp beats the prompt ensemble at {shots_label(most)}",
                listing({"ensemble": ensemble, "CoOp": coop[most]}),
                [ahead(coop[most], ensemble)])
    yield ahead_by_shots("CoOp", "CoOp beats the linear probe at 1 to 4 shots",
                         {count: coop[count] for count in low}, probe, ("CoOp", "probe"))


def _base_to_new(evidence):
    sides = {subset: {name: evidence.base_to_new(subset, method)
                      for name, method in (("zero-shot", "zero_shot"), ("CoOp", "coop"))}
             for subset in ("base", "new")}
    base, new = sides["base"], sides["new"]
    yield Claim("CoOp", "CoOp gains on the classes it was trained on",
                "base: " + listing(base), [ahead(base["CoOp"], base["zero-shot"])])
    change = new["CoOp"] - new["zero-shot"]
    yield Claim("CoCoOp's critique", "CoOp loses on new classes (CoCoOp's critique)",
                "new: " + listing(new) + " ("
                + ", ".join(f"{name} {change.on([name]).measured:+.1f}" for name in change) + ")",
                [ahead(new["zero-shot"], new["CoOp"])])


def _variants(evidence, params):
    """Claims about CoOp's variants, at each number of shots and on the datasets that have both."""
    main = params.coop.few_shot

    def compare(compared, one, other, first, second, counts):
        """The text and the comparisons of two variants, each with its name."""
        pairs = {count: [evidence.runs("few_shot", "all", "coop", label, count)
                         for label in (one, other)] for count in counts}
        pairs = {count: pair for count, pair in pairs.items() if pair[0] - pair[1]}
        return ("; ".join(f"{shots_label(count)}: " + listing({first: a, second: b})
                          for count, (a, b) in pairs.items()),
                [compared(a, b, shots_label(count)) for count, (a, b) in pairs.items()])

    def variant(**change):
        return main.model_copy(update=change).label

    counts = sorted(params.coop.ablation_shots)
    yield Claim("CoOp", "With few images one context for all beats one per class",
                *compare(ahead, main.label, variant(class_specific=True), "unified",
                         "class-specific", counts[:1]))
    yield Claim("CoOp", "The class name may stand at the end or in the middle: about equal",
                *compare(equal, main.label, variant(position="middle"), "end", "middle", counts))
    yield Claim("CoOp", f"A longer context helps: M={main.n_ctx} over M=4",
                *compare(ahead, main.label, variant(n_ctx=4), f"M={main.n_ctx}", "M=4",
                         counts if main.n_ctx > 4 else ()))
    yield Claim("CoOp", "Starting from words or from noise makes no difference",
                *compare(equal, "M4", "M4-words", "noise", "words", counts))
