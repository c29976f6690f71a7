"""Claims about the dual-view method."""

from ..results import METHODS, complete_rows, main_rows
from .comparisons import CLOSE, all_ahead, base_to_new_summary, cell, verdict


def claims(frame, params):
    """Yield each claim, what was measured, and the verdict."""
    yield from _main(frame, params)
    yield from _variants(frame, params)


def _main(frame, params):
    summary = base_to_new_summary(main_rows(frame, params), "method")
    base, new, h = (summary.loc[subset] for subset in ("base", "new", "H"))
    lost = base.loc["coop", "mean"] - base.loc["dualview", "mean"]
    yield (f"The dual-view method is close to CoOp on base classes (less than {CLOSE:g} points "
           "below)",
           f"base: dual-view {cell(base.loc['dualview'])}, CoOp {cell(base.loc['coop'])}",
           verdict(lost < CLOSE))
    lost = new.loc["zero_shot", "mean"] - new.loc["dualview", "mean"]
    yield (f"The dual-view method is close to zero-shot CLIP on new classes (less than {CLOSE:g} "
           "points below) or above it",
           f"new: dual-view {cell(new.loc['dualview'])}, zero-shot "
           f"{new.loc['zero_shot', 'mean']:.1f}, CoOp {cell(new.loc['coop'])}",
           verdict(lost < CLOSE))
    others = ["zero_shot", "coop",
              *(name for name in ("kgcoop", "prograd") if name in params.methods)]
    *names, last = (METHODS[name] for name in others[1:])
    yield (f"The dual-view method has a higher H than {', '.join(['zero-shot CLIP', *names])} and "
           f"{last} (inferred)", f"H: dual-view {cell(h.loc['dualview'])}; " + ", ".join(
               f"{METHODS[method]} {cell(h.loc[method])}" for method in others),
           all_ahead([(h.loc["dualview"], h.loc[method]) for method in others]))


def _variants(frame, params):
    """Claims about the dual-view method's parts, over the datasets of its ablations."""
    block = params.dualview
    main, variants = block.base_to_new.label, block.base_to_new_labels
    rows = complete_rows(frame, "dualview", "base_to_new", variants)
    if not {"CE only", "MI only", "aug only"} <= set(variants) or rows.empty:
        return
    summary = base_to_new_summary(rows, "variant")

    def beats(variant, *others, subset):
        return all_ahead([(summary.loc[subset, variant], summary.loc[subset, other])
                          for other in others])

    def listing(**variants):
        return "; ".join(f"{name}: " + ", ".join(
            f"{subset} {cell(summary.loc[subset, variant])}" for subset in ("base", "new", "H"))
            for name, variant in variants.items())

    lost = summary.loc[("base", "CE only"), "mean"] - summary.loc[("base", "MI only"), "mean"]
    better = beats("MI only", "CE only", subset="new")
    yield (f"Mutual information raises accuracy on new classes, at less than {CLOSE:g} points on "
           "base classes (inferred)", listing(without="CE only", alone="MI only"),
           better if lost < CLOSE or better == "does not hold" else "mixed")
    yield ("Augmentation raises accuracy on new classes (inferred)",
           listing(without="CE only", alone="aug only"), beats("aug only", "CE only", subset="new"))
    yield ("Mutual information and augmentation together have the highest H (inferred)",
           listing(both=main, information="MI only", augmentation="aug only"),
           beats(main, "MI only", "aug only", subset="H"))
    for other in block.base_to_new.ensembles(block.ensembles):
        yield (f"Predicting with a share of {block.base_to_new.ensemble_a:g} of the hand-crafted "
               f"view gives a higher H than with {other.ensemble_a:g} (inferred)",
               listing(main=main, other=other.label), beats(main, other.label, subset="H"))
