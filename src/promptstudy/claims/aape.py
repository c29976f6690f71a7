"""Claims about AAPE."""

import itertools
from collections.abc import Iterator

from ..params import Params
from ..params.methods.aape import OTHERS_AAPE
from .comparisons import Claim, ahead, ahead_by_shots, equal, listing
from .evidence import Evidence


def claims(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Yield the Claims."""
    yield from _main(evidence, params)
    yield from _gains(evidence)
    yield from _variants(evidence, params)


def _main(evidence, params):
    shots = sorted(params.shots)
    ours, coop = (evidence.by_shots(method, shots) for method in ("aape", "coop"))
    yield ahead_by_shots("AAPE", "AAPE beats CoOp at every number of shots", ours, coop,
                         ("AAPE", "CoOp"))
    for subset, name in (("new", "on new classes"), ("H", "in H")):
        ours, coop, zero_shot = (evidence.base_to_new(subset, method)
                                 for method in ("aape", "coop", "zero_shot"))
        yield Claim("AAPE", f"AAPE beats CoOp {name}", f"{subset}: " + listing(
            {"AAPE": ours, "CoOp": coop, "zero-shot": zero_shot}), [ahead(ours, coop)])


def _gains(evidence):
    """Claims about where AAPE gains on zero-shot CLIP: in which images, and in retrieval."""
    gains = {number: evidence.runs("typicality", f"quarter {number}", "aape")
             - evidence.runs("typicality", f"quarter {number}", "zero_shot")
             for number in range(1, 5)}
    yield Claim("AAPE", "AAPE gains most on images that are not typical of their class",
                "gain by quarter, the least typical first: "
                + listing({f"{number}:": gains[number] for number in gains}),
                [ahead(gains[1], gains[number], f"over quarter {number}") for number in (2, 3, 4)])
    sides = {direction: {name: evidence.runs("retrieval", direction, method, metric="recall@1")
                         for name, method in (("zero-shot", "zero_shot"), ("AAPE", "aape"))}
             for direction in ("image_to_text", "text_to_image")}
    yield Claim("AAPE", "AAPE improves retrieval (here of class descriptions, for the most part)",
                "recall@1, " + "; ".join(f"{direction.replace('_', ' ')}: {listing(pair)}"
                                         for direction, pair in sides.items()),
                [ahead(pair["AAPE"], pair["zero-shot"], direction.replace("_", " "))
                 for direction, pair in sides.items()])


def _variants(evidence, params):
    """Claims about AAPE's parts, over the datasets of its ablations, in base-to-new."""
    block = params.aape
    main, ablations = block.base_to_new, block.ablations
    runs = {subset: {name: evidence.base_to_new(subset, "aape", name)
                     for name in block.base_to_new_labels} for subset in ("base", "new", "H")}
    h = runs["H"]

    def measured(variants, *subsets):
        return "; ".join(f"{subset}: " + listing(
            {name: runs[subset][variant] for name, variant in variants.items()})
            for subset in subsets)

    others = [name for name, variant in ablations.items() if variant.aggregator != "attention"]
    yield Claim("AAPE", "AAPE's attention beats other aggregators",
                measured({"attention": main.label} | {name: name for name in others}, "H"),
                [ahead(h[main.label], h[other], f"over {other}") for other in others])
    for without in [name for name, variant in ablations.items()
                    if not variant.lambda_distill][:1]:
        yield Claim("AAPE", "AAPE's distillation helps on base and on new classes",
                    measured({"with": main.label, "without": without}, "base", "new"),
                    [ahead(runs[subset][main.label], runs[subset][without], subset)
                     for subset in ("base", "new")])
    yield Claim("AAPE", "AAPE needs the image's own AAPE: with another image's it has a lower H "
                "(inferred)", measured({"own": main.label, "another's": OTHERS_AAPE}, "base", "H"),
                [ahead(h[main.label], h[OTHERS_AAPE])])
    for text, field in (
            ("The language model's sentences give AAPE a higher H than other texts", "reference"),
            ("AAPE's language path gives a higher H than other projections", "projection")):
        others = [name for name, variant in ablations.items()
                  if getattr(variant, field) != getattr(main, field)]
        yield Claim("AAPE", f"{text} (inferred)",
                    measured({"main": main.label} | {name: name for name in others}, "H"),
                    [ahead(h[main.label], h[other], f"over {other}") for other in others])
    weights = {variant.lambda_distill: name for name, variant in ablations.items()
               if variant.lambda_distill not in (0, main.lambda_distill)}
    every = weights | {main.lambda_distill: main.label}
    yield Claim("AAPE", "AAPE does not depend much on the weight of its distillation",
                measured({f"{weight:g}:": every[weight] for weight in sorted(every)}, "H"),
                [equal(h[main.label], h[name], name) for name in weights.values()])
    counts = {variant.k: name for name, variant in ablations.items() if variant.k}
    names = [counts[k] for k in sorted(counts)] + [main.label]
    yield Claim("AAPE", "AAPE improves with the number of reference prompts",
                measured({str(k): counts[k] for k in sorted(counts)} | {"all": main.label}, "H"),
                [ahead(h[more], h[less], f"{more} over {less}")
                 for less, more in itertools.pairwise(names)])
