"""The papers' claims, decided from the results table."""

import pandas as pd

from .evaluation import DESCRIPTIONS_ALONE
from .results import (
    METHODS,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    main_rows,
    over_seeds,
    shots_label,
)

CLOSE = 3.0  # points of accuracy within which one method is called close to another


def claims(frame, params):
    """Return a table of the claims that the suite can test: claim, measured, verdict.

    Verdicts are `holds`, `does not hold` or `mixed`; numbers are means over datasets and seeds of
    top-1 accuracy in percent, written as mean ± standard deviation over seeds. What the abstract
    of a paper does not say itself is marked as inferred.
    """
    verdicts = [*_few_shot(frame, params), *_base_to_new(frame, params), *_variants(frame, params),
                *_dualpt(frame, params), *_dualpt_variants(frame, params),
                *_dualview(frame, params), *_dualview_variants(frame, params)]
    return pd.DataFrame(verdicts, columns=["claim", "measured", "verdict"])


def _few_shot(frame, params):
    summary = _few_shot_summary(frame, params)
    shots = sorted(params.shots)
    most, low = shots[-1], [count for count in shots if count <= 4]
    zero_shot, ensemble = (summary.loc[(method, 0), "mean"] for method in ("zero_shot", "ensemble"))
    coop = summary.loc["coop"]
    probe = summary.loc["linear_probe"]

    rising = coop.loc[shots, "mean"].is_monotonic_increasing
    yield ("CoOp improves with every doubling of the images",
           ", ".join(f"{count}: {_cell(coop.loc[count])}" for count in shots), _verdict(rising))
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
    names = [name for name in frame["dataset"].unique()]
    change = {name: per_dataset.loc[name, "coop"] - per_dataset.loc[name, "zero_shot"]
              for name in names}
    loses = [name for name in names if change[name] < 0]
    yield ("CoOp loses on new classes (CoCoOp's critique)",
           f"new: zero-shot {before['new']:.1f}, CoOp {after['new']:.1f} ("
           + ", ".join(f"{name} {points:+.1f}" for name, points in change.items()) + ")",
           _verdict(len(loses) == len(names), after["new"] < before["new"] or bool(loses)))


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
               _verdict(pairs[0][1]["mean"] > pairs[0][2]["mean"]))
    pairs = compare(position="middle")
    if pairs:
        yield ("The class name may stand at the end or in the middle: about equal",
               listing(pairs, "end", "middle"), _verdict(*_equal(pairs)))
    pairs = compare(n_ctx=4)
    if pairs:
        yield (f"A longer context helps: M={main.n_ctx} over M=4",
               listing(pairs, f"M={main.n_ctx}", "M=4"),
               _verdict(all(a["mean"] > b["mean"] for _, a, b in pairs),
                        any(a["mean"] > b["mean"] for _, a, b in pairs)))
    short = {context.label for context in params.coop.studies if context.n_ctx == 4}
    if {"M4", "M4-words"} <= short:
        pairs = [(count, summary.loc[("M4", count)], summary.loc[("M4-words", count)])
                 for count in sorted(params.coop.study_shots)]
        yield ("Starting from words or from noise makes no difference",
               listing(pairs, "noise", "words"), _verdict(*_equal(pairs)))


def _dualpt(frame, params):
    summary = _few_shot_summary(frame, params)
    shots = sorted(params.shots)
    ours, coop = summary.loc["dualpt"], summary.loc["coop"]
    ahead = [count for count in shots if ours.loc[count, "mean"] > coop.loc[count, "mean"]]
    yield ("DuAl-PT beats CoOp at every number of shots",
           "; ".join(f"{count}: DuAl-PT {_cell(ours.loc[count])}, CoOp {_cell(coop.loc[count])}"
                     for count in shots), _verdict(ahead == shots, bool(ahead)))
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

    def mean(variant, count):
        return summary.loc[(variant, count), "mean"]

    def listing(**variants):
        return "; ".join(f"{shots_label(count)}: " + ", ".join(
            f"{name} {_cell(summary.loc[(variant, count)])}" for name, variant in variants.items())
            for count in shots)

    for part in ("text", "local"):
        helps = [mean(f"{part} only", count) > mean("neither", count) for count in shots]
        yield (f"DuAl-PT's {part} alignment alone helps (inferred)",
               listing(without="neither", alone=f"{part} only"), _verdict(all(helps), any(helps)))
    best = [mean(main, count) >= max(mean("text only", count), mean("local only", count))
            for count in shots]
    yield ("DuAl-PT's two alignments together are best (inferred)",
           listing(both=main, text="text only", local="local only"),
           _verdict(all(best), any(best)))
    hurts = [mean("shuffled", count) < mean(main, count) for count in shots]
    yield ("Descriptions of other classes hurt DuAl-PT (inferred)",
           listing(own=main, others="shuffled"), _verdict(all(hurts), any(hurts)))


def _dualview(frame, params):
    main = main_rows(frame[frame["protocol"] == "base_to_new"], params)
    h = base_to_new_table(main).loc["average"].droplevel("variant")["H"]
    halves = over_seeds(average_over_datasets(main)).set_index(["subset", "method"])
    base, new = halves.loc["base"], halves.loc["new"]
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
    ahead = [h["dualview"] > h[method] for method in others]
    yield ("The dual-view method has a higher H than zero-shot CLIP, CoOp, KgCoOp and ProGrad "
           "(inferred)", f"H: dual-view {h['dualview']:.1f}; " + ", ".join(
               f"{METHODS[method]} {h[method]:.1f}" for method in others),
           _verdict(all(ahead), any(ahead)))


def _dualview_variants(frame, params):
    """Claims about the dual-view method's parts, over the datasets of its studies."""
    block = params.dualview
    variants = block.base_to_new_labels
    rows = complete_rows(frame, "dualview", "base_to_new", variants)
    if not {"CE only", "MI only", "aug only"} <= set(variants) or rows.empty:
        return
    table = base_to_new_table(rows).loc["average"].droplevel("method")
    seeds = over_seeds(average_over_datasets(rows)).set_index(["variant", "subset"])

    def listing(**variants):
        return "; ".join(f"{name}: base {_cell(seeds.loc[variant, 'base'])}, new "
                         f"{_cell(seeds.loc[variant, 'new'])}, H {table.loc[variant, 'H']:.1f}"
                         for name, variant in variants.items())

    without, mi, aug, both = (table.loc[variant] for variant in
                              ("CE only", "MI only", "aug only", block.base_to_new.label))
    better, kept = mi["new"] > without["new"], mi["base"] > without["base"] - CLOSE
    yield (f"Mutual information raises accuracy on new classes, at less than {CLOSE:g} points on "
           "base classes (inferred)", listing(without="CE only", alone="MI only"),
           _verdict(better and kept, better))
    yield ("Augmentation raises accuracy on new classes (inferred)",
           listing(without="CE only", alone="aug only"), _verdict(aug["new"] > without["new"]))
    best = [both["H"] > part["H"] for part in (mi, aug)]
    yield ("Mutual information and augmentation together have the highest H (inferred)",
           listing(both=block.base_to_new.label, information="MI only", augmentation="aug only"),
           _verdict(all(best), any(best)))
    for weight in block.ensembles:
        ensemble = block.base_to_new.ensemble(weight)
        yield (f"The ensemble of both views (a = {weight:g}) has a higher H than a = "
               f"{block.base_to_new.ensemble_a:g} (inferred)",
               listing(ensemble=ensemble.label, main=block.base_to_new.label),
               _verdict(table.loc[ensemble.label, "H"] > both["H"]))


def _equal(pairs):
    """Whether all, and whether some, differences lie within a point or the spread over seeds."""
    close = [abs(a["mean"] - b["mean"]) <= max(1.0, a["std"], b["std"]) for _, a, b in pairs]
    return all(close), any(close)


def _cell(row):
    return f"{row['mean']:.1f} ± {row['std']:.1f}"


def _counts(shots):
    return f"{', '.join(map(str, shots))} shots" if shots else "no number of shots"


def _verdict(whole, partly=False):
    return "holds" if whole else "mixed" if partly else "does not hold"
