"""Claims about DuAl-PT."""

from collections.abc import Iterator

from ..params import Params
from ..results import DESCRIPTIONS_ALONE, shots_label
from .comparisons import Claim, ahead, ahead_by_shots, listing
from .evidence import Evidence

# how params.yaml calls the ablations that the claims are about
NEITHER, OTHERS = "neither", "shuffled"
ALONE = {"text": "text only", "local": "local only"}


def claims(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Yield the Claims."""
    yield from _main(evidence, params)
    yield from _variants(evidence, params)


def _main(evidence, params):
    shots = sorted(params.shots)
    ours, coop = (evidence.by_shots(method, shots) for method in ("dualpt", "coop"))
    yield ahead_by_shots("DuAl-PT", "DuAl-PT beats CoOp at every number of shots", ours, coop,
                         ("DuAl-PT", "CoOp"))
    sides = {subset: {name: evidence.base_to_new(subset, method)
                      for name, method in (("DuAl-PT", "dualpt"), ("CoOp", "coop"))}
             for subset in ("new", "base")}
    yield Claim("DuAl-PT", "DuAl-PT beats CoOp on new classes",
                "; ".join(f"{subset}: {listing(pair)}" for subset, pair in sides.items()),
                [ahead(sides["new"]["DuAl-PT"], sides["new"]["CoOp"])])
    alone = evidence.runs("few_shot", "all", "dualpt", DESCRIPTIONS_ALONE)
    yield Claim("DuAl-PT", "DuAl-PT beats its descriptions as a classifier of their own (inferred)",
                listing({"descriptions alone": alone} | {f"{count}:": ours[count]
                                                         for count in shots}),
                [ahead(ours[count], alone, shots_label(count)) for count in shots])


def _variants(evidence, params):
    """Claims about DuAl-PT's parts, over the datasets and shots of its ablations."""
    main, shots = params.dualpt.few_shot.label, sorted(params.dualpt.ablation_shots)
    runs = {variant: {count: evidence.runs("few_shot", "all", "dualpt", variant, count)
                      for count in shots} for variant in (main, NEITHER, OTHERS, *ALONE.values())}

    def measured(**variants):
        return "; ".join(f"{shots_label(count)}: " + listing(
            {name: runs[variant][count] for name, variant in variants.items()})
            for count in shots)

    def beats(variant, *others):
        return [ahead(runs[variant][count], runs[other][count],
                      f"{shots_label(count)}, over {other}") for count in shots for other in others]

    for part, variant in ALONE.items():
        yield Claim("DuAl-PT", f"DuAl-PT's {part} alignment alone helps (inferred)",
                    measured(without=NEITHER, alone=variant), beats(variant, NEITHER))
    yield Claim("DuAl-PT", "DuAl-PT's two alignments together are best (inferred)",
                measured(both=main, **ALONE), beats(main, *ALONE.values()))
    yield Claim("DuAl-PT", "Descriptions of other classes hurt DuAl-PT (inferred)",
                measured(own=main, others=OTHERS), beats(main, OTHERS))
