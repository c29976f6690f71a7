"""Claims about CoOp: its paper's, and CoCoOp's critique."""

import itertools

from ..results import average_over_datasets, base_to_new_table, main_rows, over_seeds, shots_label
from .comparisons import about_equal, all_ahead, cell, few_shot_summary, shot_counts, verdict


def claims(frame, params):
    """Yield each claim, what was measured, and the verdict."""
    yield from _few_shot(frame, params)
    yield from _base_to_new(frame, params)
    yield from _variants(frame, params)


def _few_shot(frame, params):
    summary = few_shot_summary(frame, params)
    shots = sorted(params.shots)
    most, low = shots[-1], [count for count in shots if count <= 4]
    zero_shot, ensemble = (summary.loc[(method, 0), "mean"] for method in ("zero_shot", "ensemble"))
    coop = summary.loc["coop"]
    probe = summary.loc["linear_probe"]

    rising = [(coop.loc[more], coop.loc[less]) for less, more in itertools.pairwise(shots)]
    yield ("CoOp improves with every doubling of the images",
           ", ".join(f"{count}: {cell(coop.loc[count])}" for count in shots), all_ahead(rising))
    ahead = [count for count in shots if coop.loc[count, "mean"] > zero_shot]
    yield ("CoOp beats the hand-crafted prompt from one or two shots on",
           f"zero-shot {zero_shot:.1f}; CoOp ahead at {shot_counts(ahead)}",
           verdict(set(shots) - {1} <= set(ahead)))
    yield (f"CoOp beats the prompt ensemble at {most} shots",
           f"ensemble {ensemble:.1f}, CoOp {cell(coop.loc[most])}",
           verdict(coop.loc[most, "mean"] > ensemble))
    better = [count for count in low if coop.loc[count, "mean"] > probe.loc[count, "mean"]]
    yield ("CoOp beats the linear probe at 1 to 4 shots",
           ", ".join(f"{count}: CoOp {coop.loc[count, 'mean']:.1f}, probe "
                     f"{probe.loc[count, 'mean']:.1f}" for count in low),
           verdict(len(better) == len(low), bool(better)))


def _base_to_new(frame, params):
    table = base_to_new_table(main_rows(frame, params))
    average = table.loc["average"].droplevel("variant")
    before, after = average.loc["zero_shot"], average.loc["coop"]
    yield ("CoOp gains on the classes it was trained on",
           f"base: zero-shot {before['base']:.1f}, CoOp {after['base']:.1f}",
           verdict(after["base"] > before["base"]))
    per_dataset = table["new"].droplevel("variant").unstack("method")
    change = (per_dataset["coop"] - per_dataset["zero_shot"]).drop("average")
    yield ("CoOp loses on new classes (CoCoOp's critique)",
           f"new: zero-shot {before['new']:.1f}, CoOp {after['new']:.1f} ("
           + ", ".join(f"{name} {points:+.1f}" for name, points in change.items()) + ")",
           verdict((change < 0).all(), after["new"] < before["new"] or (change < 0).any()))


def _variants(frame, params):
    """Claims about CoOp's variants, over the datasets and shots that have them all."""
    contexts = {context.label: context
                for context in (params.coop.few_shot, *params.coop.ablations)}
    rows = frame[(frame["method"] == "coop") & frame["variant"].isin(contexts)
                 & (frame["protocol"] == "few_shot")
                 & frame["dataset"].isin(params.coop.ablation_datasets)
                 & frame["shots"].isin(params.coop.ablation_shots)]
    if rows.empty:
        return
    summary = over_seeds(average_over_datasets(rows)).set_index(["variant", "shots"])
    main = params.coop.few_shot

    def compare(**change):
        """Means and deviations of the main variant and of the one that differs by `change`."""
        other = main.model_copy(update=change).label
        return [(count, summary.loc[(main.label, count)], summary.loc[(other, count)])
                for count in sorted(params.coop.ablation_shots)
                if (other, count) in summary.index]

    def listing(pairs, first, second):
        return "; ".join(f"{shots_label(count)}: {first} {cell(a)}, {second} {cell(b)}"
                         for count, a, b in pairs)

    pairs = compare(class_specific=True)
    if pairs:
        yield ("With few images one context for all beats one a class",
               listing(pairs, "unified", "class-specific"),
               all_ahead([pairs[0][1:]]))
    pairs = compare(position="middle")
    if pairs:
        yield ("The class name may stand at the end or in the middle: about equal",
               listing(pairs, "end", "middle"), about_equal([pair[1:] for pair in pairs]))
    pairs = compare(n_ctx=4)
    if pairs:
        yield (f"A longer context helps: M={main.n_ctx} over M=4",
               listing(pairs, f"M={main.n_ctx}", "M=4"),
               all_ahead([pair[1:] for pair in pairs]))
    short = {context.label for context in params.coop.ablations if context.n_ctx == 4}
    if {"M4", "M4-words"} <= short:
        pairs = [(count, summary.loc[("M4", count)], summary.loc[("M4-words", count)])
                 for count in sorted(params.coop.ablation_shots)]
        yield ("Starting from words or from noise makes no difference",
               listing(pairs, "noise", "words"), about_equal([pair[1:] for pair in pairs]))
