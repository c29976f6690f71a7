"""The papers' claims, decided from the results table."""

import itertools

import pandas as pd

from .params import ORIGINAL
from .results import (
    DESCRIPTIONS_ALONE,
    METHODS,
    TRANSFER,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    harmonic_mean,
    main_rows,
    over_seeds,
    shots_label,
    transfer_runs,
)

CLOSE = 3.0  # points of accuracy within which one method is called close to another


def claims(frame, params):
    """Return a table of the claims that the suite can test: claim, measured, verdict.

    Verdicts are `holds`, `does not hold` or `mixed`; numbers are means over datasets and seeds of
    top-1 accuracy in percent, written as mean ± standard deviation over seeds. Where both sides of
    a comparison have seeds, a difference that is not above the larger deviation is `mixed`. What
    the abstract of a paper does not say itself is marked as inferred.
    """
    verdicts = [*_few_shot(frame, params), *_base_to_new(frame, params), *_variants(frame, params),
                *_cross_dataset(frame, params), *_domain(frame, params),
                *_dualpt(frame, params), *_dualpt_variants(frame, params),
                *_dualview(frame, params), *_dualview_variants(frame, params),
                *_aape(frame, params), *_aape_gains(frame, params), *_aape_variants(frame, params)]
    return pd.DataFrame(verdicts, columns=["claim", "measured", "verdict"])


def _few_shot(frame, params):
    summary = _few_shot_summary(frame, params)
    shots = sorted(params.shots)
    most, low = shots[-1], [count for count in shots if count <= 4]
    zero_shot, ensemble = (summary.loc[(method, 0), "mean"] for method in ("zero_shot", "ensemble"))
    coop = summary.loc["coop"]
    probe = summary.loc["linear_probe"]

    rising = [(coop.loc[more], coop.loc[less]) for less, more in itertools.pairwise(shots)]
    yield ("CoOp improves with every doubling of the images",
           ", ".join(f"{count}: {_cell(coop.loc[count])}" for count in shots), _ahead(rising))
    ahead = [count for count in shots if coop.loc[count, "mean"] > zero_shot]
    yield ("CoOp beats the hand-crafted prompt from one or two shots on",
           f"zero-shot {zero_shot:.1f}; CoOp ahead at {_counts(ahead)}",
           _verdict(set(shots) - {1} <= set(ahead)))
    yield (f"CoOp beats the prompt ensemble at {most} shots",
           f"ensemble {ensemble:.1f}, CoOp {_cell(coop.loc[most])}",
           _verdict(coop.loc[most, "mean"] > ensemble))
    better = [count for count in low if coop.loc[count, "mean"] > probe.loc[count, "mean"]]
    yield ("CoOp beats the linear probe at 1 to 4 shots",
           ", ".join(f"{count}: CoOp {coop.loc[count, 'mean']:.1f}, probe "
                     f"{probe.loc[count, 'mean']:.1f}" for count in low),
           _verdict(len(better) == len(low), bool(better)))


def _few_shot_summary(frame, params):
    """Means and deviations of the main variants, averaged over datasets, by method and shots."""
    main = main_rows(frame[frame["protocol"] == "few_shot"], params)
    return over_seeds(average_over_datasets(main)).set_index(["method", "shots"])


def _base_to_new(frame, params):
    table = base_to_new_table(main_rows(frame, params))
    average = table.loc["average"].droplevel("variant")
    before, after = average.loc["zero_shot"], average.loc["coop"]
    yield ("CoOp gains on the classes it was trained on",
           f"base: zero-shot {before['base']:.1f}, CoOp {after['base']:.1f}",
           _verdict(after["base"] > before["base"]))
    per_dataset = table["new"].droplevel("variant").unstack("method")
    change = (per_dataset["coop"] - per_dataset["zero_shot"]).drop("average")
    yield ("CoOp loses on new classes (CoCoOp's critique)",
           f"new: zero-shot {before['new']:.1f}, CoOp {after['new']:.1f} ("
           + ", ".join(f"{name} {points:+.1f}" for name, points in change.items()) + ")",
           _verdict((change < 0).all(), after["new"] < before["new"] or (change < 0).any()))


def _variants(frame, params):
    """Claims about CoOp's variants, over the datasets and shots that have them all."""
    contexts = {context.label: context for context in (params.coop.few_shot, *params.coop.studies)}
    rows = frame[(frame["method"] == "coop") & frame["variant"].isin(contexts)
                 & (frame["protocol"] == "few_shot")
                 & frame["dataset"].isin(params.coop.study_datasets)
                 & frame["shots"].isin(params.coop.study_shots)]
    if rows.empty:
        return
    summary = over_seeds(average_over_datasets(rows)).set_index(["variant", "shots"])
    main = params.coop.few_shot

    def compare(**change):
        """Means and deviations of the main variant and of the one that differs by `change`."""
        other = main.model_copy(update=change).label
        return [(count, summary.loc[(main.label, count)], summary.loc[(other, count)])
                for count in sorted(params.coop.study_shots)
                if (other, count) in summary.index]

    def listing(pairs, first, second):
        return "; ".join(f"{shots_label(count)}: {first} {_cell(a)}, {second} {_cell(b)}"
                         for count, a, b in pairs)

    pairs = compare(class_specific=True)
    if pairs:
        yield ("With few images one context for all beats one a class",
               listing(pairs, "unified", "class-specific"),
               _ahead([pairs[0][1:]]))
    pairs = compare(position="middle")
    if pairs:
        yield ("The class name may stand at the end or in the middle: about equal",
               listing(pairs, "end", "middle"), _verdict(*_equal([pair[1:] for pair in pairs])))
    pairs = compare(n_ctx=4)
    if pairs:
        yield (f"A longer context helps: M={main.n_ctx} over M=4",
               listing(pairs, f"M={main.n_ctx}", "M=4"),
               _ahead([pair[1:] for pair in pairs]))
    short = {context.label for context in params.coop.studies if context.n_ctx == 4}
    if {"M4", "M4-words"} <= short:
        pairs = [(count, summary.loc[("M4", count)], summary.loc[("M4-words", count)])
                 for count in sorted(params.coop.study_shots)]
        yield ("Starting from words or from noise makes no difference",
               listing(pairs, "noise", "words"), _verdict(*_equal([pair[1:] for pair in pairs])))


def _cross_dataset(frame, params):
    """Claims about other datasets than the one that was trained on."""
    runs = transfer_runs(main_rows(frame, params), "cross_dataset")
    if "mean" not in runs:
        return
    home, away = (_over_runs(runs[column]) for column in (params.transfer.source, "mean"))

    def listing(*methods):
        return "; ".join(f"{title}: " + ", ".join(f"{METHODS[method]} {_cell(of.loc[method])}"
                                                  for method in methods)
                         for title, of in ((TRANSFER["cross_dataset"], away), ("at home", home)))

    yield ("CoOp is worse than zero-shot CLIP on other datasets than its own (CoCoOp's critique)",
           listing("zero_shot", "coop"), _ahead([(away.loc["zero_shot"], away.loc["coop"])]))
    yield ("The dual-view method beats CoOp on other datasets than its own (inferred)",
           listing("dualview", "coop"), _ahead([(away.loc["dualview"], away.loc["coop"])]))


def _domain(frame, params):
    """Claims about shifted images of the classes that were trained on."""
    runs = transfer_runs(main_rows(frame, params), "domain")
    if "mean" not in runs:
        return
    shifted = {column: _over_runs(runs[column]) for column in runs}
    mean = shifted["mean"]

    def listing(*methods):
        return f"{TRANSFER['domain']}: " + ", ".join(
            f"{METHODS[method]} {_cell(mean.loc[method])}" for method in methods)

    yield ("CoOp is more robust to shifts of the images than zero-shot CLIP",
           listing("zero_shot", "coop") + " (" + ", ".join(
               f"{name} {of.loc['coop', 'mean'] - of.loc['zero_shot', 'mean']:+.1f}"
               for name, of in shifted.items() if name in params.transfer.domain) + ")",
           _ahead([(mean.loc["coop"], mean.loc["zero_shot"])]))
    yield ("CoOp is more robust to shifts than the linear probe",
           listing("coop", "linear_probe"), _ahead([(mean.loc["coop"], mean.loc["linear_probe"])]))
    before = ORIGINAL if ORIGINAL in runs else params.transfer.source
    kept = _over_runs(100 * runs["mean"] / runs[before])
    yield ("Shifts cost the linear probe a larger share of its accuracy than CoOp",
           "percent left: " + ", ".join(f"{METHODS[method]} {_cell(kept.loc[method])}"
                                        for method in ("zero_shot", "coop", "linear_probe")),
           _ahead([(kept.loc["coop"], kept.loc["linear_probe"])]))
    yield ("KgCoOp is more robust to shifts than CoOp",
           listing("kgcoop", "coop"), _ahead([(mean.loc["kgcoop"], mean.loc["coop"])]))
    yield ("AAPE is more robust to shifts than zero-shot CLIP and CoOp",
           listing("aape", "zero_shot", "coop"),
           _ahead([(mean.loc["aape"], mean.loc[other]) for other in ("zero_shot", "coop")]))
    short, long = params.coop.base_to_new, params.coop.few_shot
    if short.n_ctx < long.n_ctx:
        of_coop = _over_runs(transfer_runs(frame, "domain").loc["coop"]["mean"], by="variant")
        pair = [of_coop.loc[context.label] for context in (short, long)]
        yield ("CoOp with a shorter context is more robust to shifts",
               f"{TRANSFER['domain']}: M={short.n_ctx} {_cell(pair[0])}, M={long.n_ctx} "
               f"{_cell(pair[1])}", _ahead([pair]))


def _over_runs(values, by="method"):
    """Means and deviations over seeds of a column of `transfer_runs`, by method or variant."""
    grouped = values.groupby(by)
    return pd.DataFrame({"mean": grouped.mean(), "std": grouped.std(ddof=0)})


def _dualpt(frame, params):
    summary = _few_shot_summary(frame, params)
    shots = sorted(params.shots)
    ours, coop = summary.loc["dualpt"], summary.loc["coop"]
    yield ("DuAl-PT beats CoOp at every number of shots",
           "; ".join(f"{count}: DuAl-PT {_cell(ours.loc[count])}, CoOp {_cell(coop.loc[count])}"
                     for count in shots),
           _ahead([(ours.loc[count], coop.loc[count]) for count in shots]))
    average = base_to_new_table(main_rows(frame, params)).loc["average"].droplevel("variant")
    ours, coop = average.loc["dualpt"], average.loc["coop"]
    yield ("DuAl-PT beats CoOp on new classes",
           f"new: DuAl-PT {ours['new']:.1f}, CoOp {coop['new']:.1f}; base: DuAl-PT "
           f"{ours['base']:.1f}, CoOp {coop['base']:.1f}", _verdict(ours["new"] > coop["new"]))
    alone = frame[(frame["method"] == "dualpt") & (frame["variant"] == DESCRIPTIONS_ALONE)]
    alone = alone["value"].mean()
    ours = summary.loc["dualpt"]
    ahead = [count for count in shots if ours.loc[count, "mean"] > alone]
    yield ("DuAl-PT beats its descriptions as a classifier of their own (inferred)",
           f"descriptions alone {alone:.1f}; DuAl-PT ahead at {_counts(ahead)}",
           _verdict(ahead == shots, bool(ahead)))


def _dualpt_variants(frame, params):
    """Claims about DuAl-PT's parts, over the datasets and shots of its studies."""
    block = params.dualpt
    rows = frame[(frame["method"] == "dualpt") & (frame["protocol"] == "few_shot")
                 & frame["dataset"].isin(block.study_datasets)
                 & frame["shots"].isin(block.study_shots)]
    summary = over_seeds(average_over_datasets(rows)).set_index(["variant", "shots"])
    main, shots = block.few_shot.label, sorted(block.study_shots)
    if not {"neither", "text only", "local only", "shuffled"} <= set(block.studies) or rows.empty:
        return

    def beats(variant, *others):
        return _ahead([(summary.loc[(variant, count)], summary.loc[(other, count)])
                       for count in shots for other in others])

    def listing(**variants):
        return "; ".join(f"{shots_label(count)}: " + ", ".join(
            f"{name} {_cell(summary.loc[(variant, count)])}" for name, variant in variants.items())
            for count in shots)

    for part in ("text", "local"):
        yield (f"DuAl-PT's {part} alignment alone helps (inferred)",
               listing(without="neither", alone=f"{part} only"), beats(f"{part} only", "neither"))
    yield ("DuAl-PT's two alignments together are best (inferred)",
           listing(both=main, text="text only", local="local only"),
           beats(main, "text only", "local only"))
    yield ("Descriptions of other classes hurt DuAl-PT (inferred)",
           listing(own=main, others="shuffled"), beats(main, "shuffled"))


def _dualview(frame, params):
    summary = _base_to_new_summary(main_rows(frame, params), "method")
    base, new, h = (summary.loc[subset] for subset in ("base", "new", "H"))
    lost = base.loc["coop", "mean"] - base.loc["dualview", "mean"]
    yield (f"The dual-view method is close to CoOp on base classes (less than {CLOSE:g} points "
           "below)",
           f"base: dual-view {_cell(base.loc['dualview'])}, CoOp {_cell(base.loc['coop'])}",
           _verdict(lost < CLOSE))
    lost = new.loc["zero_shot", "mean"] - new.loc["dualview", "mean"]
    yield (f"The dual-view method is close to zero-shot CLIP on new classes (less than {CLOSE:g} "
           "points below) or above it",
           f"new: dual-view {_cell(new.loc['dualview'])}, zero-shot "
           f"{new.loc['zero_shot', 'mean']:.1f}, CoOp {_cell(new.loc['coop'])}",
           _verdict(lost < CLOSE))
    others = ("zero_shot", "coop", "kgcoop", "prograd")
    yield ("The dual-view method has a higher H than zero-shot CLIP, CoOp, KgCoOp and ProGrad "
           "(inferred)", f"H: dual-view {_cell(h.loc['dualview'])}; " + ", ".join(
               f"{METHODS[method]} {_cell(h.loc[method])}" for method in others),
           _ahead([(h.loc["dualview"], h.loc[method]) for method in others]))


def _dualview_variants(frame, params):
    """Claims about the dual-view method's parts, over the datasets of its studies."""
    block = params.dualview
    main, variants = block.base_to_new.label, block.base_to_new_labels
    rows = complete_rows(frame, "dualview", "base_to_new", variants)
    if not {"CE only", "MI only", "aug only"} <= set(variants) or rows.empty:
        return
    summary = _base_to_new_summary(rows, "variant")

    def beats(variant, *others, subset):
        return _ahead([(summary.loc[subset, variant], summary.loc[subset, other])
                       for other in others])

    def listing(**variants):
        return "; ".join(f"{name}: " + ", ".join(
            f"{subset} {_cell(summary.loc[subset, variant])}" for subset in ("base", "new", "H"))
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


def _aape(frame, params):
    summary = _few_shot_summary(frame, params)
    shots = sorted(params.shots)
    ours, coop = summary.loc["aape"], summary.loc["coop"]
    yield ("AAPE beats CoOp at every number of shots",
           "; ".join(f"{count}: AAPE {_cell(ours.loc[count])}, CoOp {_cell(coop.loc[count])}"
                     for count in shots),
           _ahead([(ours.loc[count], coop.loc[count]) for count in shots]))
    summary = _base_to_new_summary(main_rows(frame, params), "method")
    for subset, name in (("new", "on new classes"), ("H", "in H")):
        ours, coop = (summary.loc[subset, method] for method in ("aape", "coop"))
        yield (f"AAPE beats CoOp {name}",
               f"{subset}: AAPE {_cell(ours)}, CoOp {_cell(coop)}, zero-shot "
               f"{summary.loc[(subset, 'zero_shot'), 'mean']:.1f}", _ahead([(ours, coop)]))


def _aape_gains(frame, params):
    """Claims about where AAPE gains on zero-shot CLIP: in which images, and in retrieval."""
    rows = average_over_datasets(frame[frame["protocol"] == "typicality"])
    means = rows.groupby(["method", "subset"])["value"].mean()
    gains = means["aape"] - means["zero_shot"]
    yield ("AAPE gains most on images that are not typical of their class",
           "gain by quarter, the least typical first: "
           + ", ".join(f"{gain:+.1f}" for gain in gains),
           _verdict(gains.iloc[0] > gains.iloc[1:].max(), gains.iloc[0] > gains.iloc[-1]))
    rows = average_over_datasets(frame[frame["protocol"] == "retrieval"]
                                 .query("metric == 'recall@1'").assign(shots=0))
    means = rows.groupby(["subset", "method"])["value"].mean().unstack()
    better = means["aape"] > means["zero_shot"]
    yield ("AAPE improves retrieval (here of class descriptions, for the most part)",
           "recall@1, " + "; ".join(
               f"{direction.replace('_', ' ')}: zero-shot {line['zero_shot']:.1f}, "
               f"AAPE {line['aape']:.1f}" for direction, line in means.iterrows()),
           _verdict(better.all(), better.any()))


def _aape_variants(frame, params):
    """Claims about AAPE's parts, over the datasets of its studies, in base-to-new."""
    block = params.aape
    rows = complete_rows(frame, "aape", "base_to_new", block.base_to_new_labels)
    if block.study_protocol != "base_to_new" or rows.empty:
        return
    summary = _base_to_new_summary(rows, "variant")
    main, studies = block.base_to_new.label, block.studies

    def pairs(*pairs, subset="H"):
        return [(summary.loc[subset, a], summary.loc[subset, b]) for a, b in pairs]

    def listing(variants, *subsets):
        return "; ".join(f"{subset}: " + ", ".join(
            f"{name} {_cell(summary.loc[subset, variant])}" for name, variant in variants.items())
            for subset in subsets)

    others = [name for name, variant in studies.items() if variant.aggregator != "attention"]
    if others:
        yield ("AAPE's attention beats other aggregators",
               listing({"attention": main} | {name: name for name in others}, "H"),
               _ahead(pairs(*[(main, other) for other in others])))
    without = next((name for name, v in studies.items() if not v.lambda_distill), None)
    if without:
        yield ("AAPE's distillation helps on base and on new classes",
               listing({"with": main, "without": without}, "base", "new"),
               _ahead([pair for subset in ("base", "new")
                       for pair in pairs((main, without), subset=subset)]))
    weights = {variant.lambda_distill: name for name, variant in studies.items()
               if variant.lambda_distill not in (0, block.base_to_new.lambda_distill)}
    if weights:
        close = _equal(pairs(*[(main, name) for name in weights.values()]))
        weights[block.base_to_new.lambda_distill] = main
        yield ("AAPE does not depend much on the weight of its distillation",
               listing({f"{weight:g}": weights[weight] for weight in sorted(weights)}, "H"),
               _verdict(*close))
    counts = {variant.k: name for name, variant in studies.items() if variant.k}
    if counts:
        counts = {str(k): counts[k] for k in sorted(counts)} | {"all": main}
        rising = [(more, less) for less, more in itertools.pairwise(counts.values())]
        yield ("AAPE improves with the number of reference prompts", listing(counts, "H"),
               _ahead(pairs(*rising)))


def _base_to_new_summary(frame, by):
    """Means and deviations over seeds of base, new and H, averaged over datasets.

    Index: subset, then method or variant. As in `base_to_new_table`, H is that of the means.
    """
    rows = average_over_datasets(frame[frame["protocol"] == "base_to_new"])
    runs = rows.pivot_table(index=[by, "seed"], columns="subset", values="value")
    runs["H"] = harmonic_mean(runs["base"], runs["new"])
    means, deviations = runs.groupby(by).mean(), runs.groupby(by).std(ddof=0)
    means["H"] = harmonic_mean(means["base"], means["new"])
    return pd.DataFrame({"mean": means.T.stack(), "std": deviations.T.stack()})


def _ahead(pairs):
    """Return the verdict on the first of each pair being better than the second.

    It holds if all differences are above the spread over seeds, and is mixed if some are above 0.
    """
    gains = [(a["mean"] - b["mean"], max(a["std"], b["std"])) for a, b in pairs]
    return _verdict(all(gain > spread for gain, spread in gains),
                    any(gain > 0 for gain, _ in gains))


def _equal(pairs):
    """Whether all, and whether some, differences lie within a point or the spread over seeds."""
    close = [abs(a["mean"] - b["mean"]) <= max(1.0, a["std"], b["std"]) for a, b in pairs]
    return all(close), any(close)


def _cell(row):
    return f"{row['mean']:.1f} ± {row['std']:.1f}"


def _counts(shots):
    return f"{', '.join(map(str, shots))} shots" if shots else "no number of shots"


def _verdict(whole, partly=False):
    return "holds" if whole else "mixed" if partly else "does not hold"
