"""Claims about the dual-view method."""

from collections.abc import Iterator

from ..params import Params
from ..results import METHODS
from .comparisons import CLOSE, Claim, ahead, close, listing
from .evidence import Evidence

# how params.yaml calls the ablations that the claims are about
CE_ONLY, MI_ONLY, AUG_ONLY = "CE only", "MI only", "aug only"


def claims(evidence: Evidence, params: Params) -> Iterator[Claim]:
    """Yield the Claims."""
    yield from _main(evidence, params)
    yield from _variants(evidence, params)


def _main(evidence, params):
    rivals = [name for name in ("kgcoop", "prograd") if name in params.methods]
    base, new, h = ({method: evidence.base_to_new(subset, method)
                     for method in ("dualview", "zero_shot", "coop", *rivals)}
                    for subset in ("base", "new", "H"))

    def measured(sides, *methods):
        return listing({METHODS[method]: sides[method] for method in methods})

    yield Claim("Dual-view", "The dual-view method is close to CoOp on base classes (less than "
                f"{CLOSE:g} points below)", "base: " + measured(base, "dualview", "coop"),
                [close(base["dualview"], base["coop"])])
    yield Claim("Dual-view", "The dual-view method is close to zero-shot CLIP on new classes (less "
                f"than {CLOSE:g} points below) or above it",
                "new: " + measured(new, "dualview", "zero_shot", "coop"),
                [close(new["dualview"], new["zero_shot"])])
    *names, last = (METHODS[name] for name in ("coop", *rivals))
    yield Claim("Dual-view", "The dual-view method has a higher H than "
                f"{', '.join(['zero-shot CLIP', *names])} and {last} (inferred)",
                "H: " + measured(h, *h), [ahead(h["dualview"], h[method], f"over {METHODS[method]}")
                                          for method in h if method != "dualview"])


def _variants(evidence, params):
    """Claims about the dual-view method's parts, over the datasets of its ablations."""
    block = params.dualview
    main, ensembles = block.base_to_new, block.base_to_new.ensembles(block.ensembles)
    base, new, h = ({variant: evidence.base_to_new(subset, "dualview", variant)
                     for variant in (main.label, CE_ONLY, MI_ONLY, AUG_ONLY,
                                     *(other.label for other in ensembles))}
                    for subset in ("base", "new", "H"))

    def measured(**variants):
        return "; ".join(f"{subset}: " + listing(
            {name: sides[variant] for name, variant in variants.items()})
            for subset, sides in (("base", base), ("new", new), ("H", h)))

    yield Claim("Dual-view", "Mutual information raises accuracy on new classes, at less than "
                f"{CLOSE:g} points on base classes (inferred)",
                measured(without=CE_ONLY, alone=MI_ONLY),
                [ahead(new[MI_ONLY], new[CE_ONLY], "new"), close(base[MI_ONLY], base[CE_ONLY],
                                                                 "base")])
    yield Claim("Dual-view", "Augmentation raises accuracy on new classes (inferred)",
                measured(without=CE_ONLY, alone=AUG_ONLY), [ahead(new[AUG_ONLY], new[CE_ONLY])])
    yield Claim("Dual-view", "Mutual information and augmentation together have the highest H "
                "(inferred)",
                measured(both=main.label, information=MI_ONLY, augmentation=AUG_ONLY),
                [ahead(h[main.label], h[other], f"over {other}") for other in (MI_ONLY, AUG_ONLY)])
    for other in ensembles:
        yield Claim("Dual-view", f"Predicting with a share of {main.ensemble_a:g} of the "
                    f"hand-crafted view gives a higher H than with {other.ensemble_a:g} (inferred)",
                    measured(main=main.label, other=other.label),
                    [ahead(h[main.label], h[other.label])])
