"""Our results beside the published numbers, cell by cell, where both were measured alike."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from ..params import Params
from ..results import harmonic_mean
from .numbers import (
    TRANSFER,
    averages,
    load_datasets,
    load_numbers,
    placed,
    published_backbone,
    published_dataset,
)

# Two numbers belong to the same cell if all of these are equal. The test images are those of
# `target`, which is checked by their number.
CELL = ["backbone", "protocol", "method", "variant", "shots", "target", "classes", "metric"]
SOURCE = "imagenet"  # where the papers' prompts come from that are tested on other datasets


class Tolerance(NamedTuple):
    """How far from the published number ours may lie in a kind of cell, in points, and why."""

    cells: str
    points: float
    why: str
    covers: Callable[[Any], bool]  # is it for a cell, a row of `PaperComparison.cells`?


# The first that covers a cell is the cell's.
TOLERANCES = (
    Tolerance("zero-shot CLIP", 0.3, "nothing is trained; the papers' half precision alone moves "
              "accuracy by about as much", lambda cell: cell.method == "zero_shot"),
    Tolerance("base to new, new classes", 5.0, "published runs of CoOp with the same settings "
              "differ by 4.8", lambda cell: cell.classes == "new"),
    Tolerance("base to new, H", 3.0, "as new classes make it: those runs differ by 2.9",
              lambda cell: cell.classes in ("H", "mean_of_h")),
    Tolerance("average over datasets", 1.0, "chosen; published runs of CoOp with 16 shots differ "
              "by 0.1", lambda cell: cell.target.startswith("average_")),
    Tolerance("one dataset, 8 or 16 shots", 1.5, "published runs of CoOp with 16 shots differ by "
              "up to 1.2", lambda cell: cell.shots >= 8),
    Tolerance("one dataset, 1 to 4 shots", 3.0, "chosen: few images make more of a difference, and "
              "no two published runs were found", lambda cell: True))


class PaperComparison(NamedTuple):
    """Our numbers beside the papers', and why other results are not compared."""

    # a row for every published number that has one of ours: all columns of `load_numbers`, `CELL`,
    # ours as `mean`, `std` and `seeds`, `difference` = ours - published, `tolerance` and `within`
    cells: pd.DataFrame
    set_aside: list[str]  # why results are not compared, a sentence for each reason


def compare(results: pd.DataFrame, params: Params) -> PaperComparison:
    """Return the `PaperComparison` of a results table with the published numbers.

    Compared are cells with equal backbone and weights, dataset (by name and number of test
    images), protocol, method, variant, shots and metric, zero-shot CLIP's only with the published
    template. An average is compared once every dataset of it is there, H and the mean of the
    datasets' H are taken of means over seeds, as published ones are.
    """
    rows, set_aside = _alike(results, params)
    cells = placed(load_numbers()).merge(_measured(rows), on=CELL)
    cells["difference"] = cells["mean"] - cells["value"]
    cells["tolerance"] = [tolerance(cell).points for cell in cells.itertuples()]
    cells["within"] = cells["difference"].abs().round(6) <= cells["tolerance"]
    return PaperComparison(cells, set_aside)


def tolerance(cell: Any) -> Tolerance:
    """Return the `Tolerance` of a cell: anything that has `CELL` as attributes."""
    return next(tolerance for tolerance in TOLERANCES if tolerance.covers(cell))


def _alike(results, params):
    """Return the results that published numbers may exist for, placed, and why not the others."""
    datasets, set_aside, kept = load_datasets(), [], []
    rows = placed(results[results["metric"] == "top1"])
    rows = rows[rows["protocol"].isin(["few_shot", "base_to_new", *TRANSFER])]
    for label, of_backbone in rows.groupby("backbone", sort=False):
        backbone = published_backbone(str(label))
        if backbone is None:
            set_aside.append(f"The papers have no numbers of the backbone {label}.")
            continue
        for name, part in of_backbone.groupby("target", sort=False):
            key = published_dataset(str(name), datasets)
            fault = _fault(name, key, part, datasets)
            if fault:
                set_aside.append(fault)
                continue
            assert key is not None  # it would be a fault
            zero_shot = part["method"] == "zero_shot"
            theirs = datasets.loc[key, "template"]
            ours = params.template_of(name) if name in params.every_dataset else None
            if zero_shot.any() and ours != theirs:
                part = part[~zero_shot]
                set_aside.append(f"Zero-shot accuracy on {name} is with {ours!r}, the papers' "
                                 f"with {theirs!r}.")
            kept.append(part.assign(backbone=backbone, target=key))
    rows = pd.concat(kept) if kept else rows[:0]
    sources = [name for name in rows["dataset"].unique()
               if published_dataset(name, datasets) == SOURCE]
    elsewhere = rows["protocol"].isin(TRANSFER) & ~rows["dataset"].isin(sources)
    if elsewhere.any():
        set_aside.append("Prompts that are tested on other datasets come from ImageNet in the "
                         f"papers, here from {', '.join(rows[elsewhere]['dataset'].unique())}.")
    return rows[~elsewhere].drop_duplicates([*CELL, "seed"]), set_aside


def _fault(name, key, part, datasets):
    """Say why the results on a dataset, `part`, are not of the papers' test images; or None."""
    if key is None:
        return f"The papers have no dataset {name}."
    sizes = part.drop_duplicates(["protocol", "classes", "n_test"])
    found = sizes.groupby("protocol")["n_test"].sum()  # base and new images together are all
    wanted = datasets.loc[key, "n_test"]
    if (found != wanted).any():
        return (f"{name} has {', '.join(f'{n:,}' for n in found.unique())} test images here, "
                f"{wanted:,} in the papers' split.")
    return None


def _measured(rows):
    """Return mean, spread over seeds and number of seeds of every cell, averages and H included."""
    groups = averages(load_datasets())
    means = _completed(rows.groupby(CELL)["value"].mean(), groups)
    runs = _completed(rows.set_index([*CELL, "seed"])["value"], groups).groupby(CELL)
    return pd.DataFrame({"mean": means, "std": runs.std(ddof=0), "seeds": runs.size()}) \
        .reset_index()


def _completed(values, groups):
    """Add averages over datasets, H, and the mean of the datasets' H to a Series by cell."""
    values = pd.concat([values, _averages(values, groups)])
    halves = values.unstack("classes").reindex(columns=["base", "new"])
    h = _at(harmonic_mean(halves["base"], halves["new"]).dropna(), values, classes="H")
    mean_of_h = _averages(h, groups).rename(index={"H": "mean_of_h"}, level="classes")
    return pd.concat([values, h, mean_of_h])


def _averages(values, groups):
    """Average a Series by cell over each group of targets, where it has them all."""
    found = []
    for name, members in groups.items():
        of_group = values[values.index.isin(members, level="target")]
        over = of_group.groupby([level for level in values.index.names if level != "target"])
        found.append(_at(over.mean()[over.size() == len(members)], values, target=name))
    return pd.concat(found)


def _at(values, like, **level):
    """Return a Series with one more level of its index, in the order of another one's levels."""
    (name, value), = level.items()
    return pd.concat({value: values}, names=[name]).reorder_levels(like.index.names)
