"""Claims about DuAl-PT."""

from ..results import (
    DESCRIPTIONS_ALONE,
    average_over_datasets,
    base_to_new_table,
    main_rows,
    over_seeds,
    shots_label,
)
from .comparisons import all_ahead, cell, few_shot_summary, shot_counts, verdict


def claims(frame, params):
    """Yield each claim, what was measured, and the verdict."""
    yield from _main(frame, params)
    yield from _variants(frame, params)


def _main(frame, params):
    summary = few_shot_summary(frame, params)
    shots = sorted(params.shots)
    ours, coop = summary.loc["dualpt"], summary.loc["coop"]
    yield ("DuAl-PT beats CoOp at every number of shots",
           "; ".join(f"{count}: DuAl-PT {cell(ours.loc[count])}, CoOp {cell(coop.loc[count])}"
                     for count in shots),
           all_ahead([(ours.loc[count], coop.loc[count]) for count in shots]))
    average = base_to_new_table(main_rows(frame, params)).loc["average"].droplevel("variant")
    ours, coop = average.loc["dualpt"], average.loc["coop"]
    yield ("DuAl-PT beats CoOp on new classes",
           f"new: DuAl-PT {ours['new']:.1f}, CoOp {coop['new']:.1f}; base: DuAl-PT "
           f"{ours['base']:.1f}, CoOp {coop['base']:.1f}", verdict(ours["new"] > coop["new"]))
    alone = frame[(frame["method"] == "dualpt") & (frame["variant"] == DESCRIPTIONS_ALONE)]
    alone = alone["value"].mean()
    ours = summary.loc["dualpt"]
    ahead = [count for count in shots if ours.loc[count, "mean"] > alone]
    yield ("DuAl-PT beats its descriptions as a classifier of their own (inferred)",
           f"descriptions alone {alone:.1f}; DuAl-PT ahead at {shot_counts(ahead)}",
           verdict(ahead == shots, bool(ahead)))


def _variants(frame, params):
    """Claims about DuAl-PT's parts, over the datasets and shots of its ablations."""
    block = params.dualpt
    rows = frame[(frame["method"] == "dualpt") & (frame["protocol"] == "few_shot")
                 & frame["dataset"].isin(block.ablation_datasets)
                 & frame["shots"].isin(block.ablation_shots)]
    summary = over_seeds(average_over_datasets(rows)).set_index(["variant", "shots"])
    main, shots = block.few_shot.label, sorted(block.ablation_shots)
    if not {"neither", "text only", "local only", "shuffled"} <= set(block.ablations) or rows.empty:
        return

    def beats(variant, *others):
        return all_ahead([(summary.loc[(variant, count)], summary.loc[(other, count)])
                          for count in shots for other in others])

    def listing(**variants):
        return "; ".join(f"{shots_label(count)}: " + ", ".join(
            f"{name} {cell(summary.loc[(variant, count)])}" for name, variant in variants.items())
            for count in shots)

    for part in ("text", "local"):
        yield (f"DuAl-PT's {part} alignment alone helps (inferred)",
               listing(without="neither", alone=f"{part} only"), beats(f"{part} only", "neither"))
    yield ("DuAl-PT's two alignments together are best (inferred)",
           listing(both=main, text="text only", local="local only"),
           beats(main, "text only", "local only"))
    yield ("Descriptions of other classes hurt DuAl-PT (inferred)",
           listing(own=main, others="shuffled"), beats(main, "shuffled"))
