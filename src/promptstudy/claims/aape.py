"""Claims about AAPE."""

import itertools

from ..results import average_over_datasets, complete_rows, main_rows
from .comparisons import (
    about_equal,
    all_ahead,
    base_to_new_summary,
    cell,
    few_shot_summary,
    verdict,
)


def claims(frame, params):
    """Yield each claim, what was measured, and the verdict."""
    yield from _main(frame, params)
    yield from _gains(frame, params)
    yield from _variants(frame, params)


def _main(frame, params):
    summary = few_shot_summary(frame, params)
    shots = sorted(params.shots)
    ours, coop = summary.loc["aape"], summary.loc["coop"]
    yield ("AAPE beats CoOp at every number of shots",
           "; ".join(f"{count}: AAPE {cell(ours.loc[count])}, CoOp {cell(coop.loc[count])}"
                     for count in shots),
           all_ahead([(ours.loc[count], coop.loc[count]) for count in shots]))
    summary = base_to_new_summary(main_rows(frame, params), "method")
    for subset, name in (("new", "on new classes"), ("H", "in H")):
        ours, coop = (summary.loc[subset, method] for method in ("aape", "coop"))
        yield (f"AAPE beats CoOp {name}",
               f"{subset}: AAPE {cell(ours)}, CoOp {cell(coop)}, zero-shot "
               f"{summary.loc[(subset, 'zero_shot'), 'mean']:.1f}", all_ahead([(ours, coop)]))


def _gains(frame, params):
    """Claims about where AAPE gains on zero-shot CLIP: in which images, and in retrieval."""
    rows = average_over_datasets(frame[frame["protocol"] == "typicality"])
    means = rows.groupby(["method", "subset"])["value"].mean()
    gains = means["aape"] - means["zero_shot"]
    yield ("AAPE gains most on images that are not typical of their class",
           "gain by quarter, the least typical first: "
           + ", ".join(f"{gain:+.1f}" for gain in gains),
           verdict(gains.iloc[0] > gains.iloc[1:].max(), gains.iloc[0] > gains.iloc[-1]))
    rows = average_over_datasets(frame[frame["protocol"] == "retrieval"]
                                 .query("metric == 'recall@1'").assign(shots=0))
    means = rows.groupby(["subset", "method"])["value"].mean().unstack()
    better = means["aape"] > means["zero_shot"]
    yield ("AAPE improves retrieval (here of class descriptions, for the most part)",
           "recall@1, " + "; ".join(
               f"{direction.replace('_', ' ')}: zero-shot {line['zero_shot']:.1f}, "
               f"AAPE {line['aape']:.1f}" for direction, line in means.iterrows()),
           verdict(better.all(), better.any()))


def _variants(frame, params):
    """Claims about AAPE's parts, over the datasets of its ablations, in base-to-new."""
    block = params.aape
    rows = complete_rows(frame, "aape", "base_to_new", block.base_to_new_labels)
    if block.ablation_protocol != "base_to_new" or rows.empty:
        return
    summary = base_to_new_summary(rows, "variant")
    main, ablations = block.base_to_new.label, block.ablations

    def pairs(*pairs, subset="H"):
        return [(summary.loc[subset, a], summary.loc[subset, b]) for a, b in pairs]

    def listing(variants, *subsets):
        return "; ".join(f"{subset}: " + ", ".join(
            f"{name} {cell(summary.loc[subset, variant])}" for name, variant in variants.items())
            for subset in subsets)

    others = [name for name, variant in ablations.items() if variant.aggregator != "attention"]
    if others:
        yield ("AAPE's attention beats other aggregators",
               listing({"attention": main} | {name: name for name in others}, "H"),
               all_ahead(pairs(*[(main, other) for other in others])))
    without = next((name for name, v in ablations.items() if not v.lambda_distill), None)
    if without:
        yield ("AAPE's distillation helps on base and on new classes",
               listing({"with": main, "without": without}, "base", "new"),
               all_ahead([pair for subset in ("base", "new")
                          for pair in pairs((main, without), subset=subset)]))
    weights = {variant.lambda_distill: name for name, variant in ablations.items()
               if variant.lambda_distill not in (0, block.base_to_new.lambda_distill)}
    if weights:
        close = about_equal(pairs(*[(main, name) for name in weights.values()]))
        weights[block.base_to_new.lambda_distill] = main
        yield ("AAPE does not depend much on the weight of its distillation",
               listing({f"{weight:g}": weights[weight] for weight in sorted(weights)}, "H"),
               close)
    counts = {variant.k: name for name, variant in ablations.items() if variant.k}
    if counts:
        counts = {str(k): counts[k] for k in sorted(counts)} | {"all": main}
        rising = [(more, less) for less, more in itertools.pairwise(counts.values())]
        yield ("AAPE improves with the number of reference prompts", listing(counts, "H"),
               all_ahead(pairs(*rising)))
