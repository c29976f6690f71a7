"""Figures of the results table: accuracies of methods and of their variants."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from ..results import (
    METHODS,
    TRANSFER,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    over_seeds,
    shots_label,
    transfer_runs,
)
from .style import COLOURS, grid


def few_shot(frame):
    """Accuracy against shots, a panel for the mean over datasets and for every dataset.

    Error bars are the standard deviation over seeds; methods without training are dashed lines.
    Every method must be present with exactly one variant (see `results.main_rows`).
    """
    rows = frame[frame["protocol"] == "few_shot"]
    summary = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    datasets = list(dict.fromkeys(summary["dataset"]))
    figure, axes = grid(len(datasets))
    for axis, dataset in zip(axes, datasets, strict=True):
        panel = summary[summary["dataset"] == dataset]
        for method, label in METHODS.items():
            line = panel[panel["method"] == method].sort_values("shots")
            if line.empty:
                continue
            if (line["shots"] == 0).all():
                axis.axhline(line["mean"].item(), color=COLOURS[method], label=label,
                             linestyle="--" if method == "zero_shot" else ":")
            else:
                axis.errorbar(line["shots"], line["mean"], yerr=line["std"], marker="o",
                              markersize=4, capsize=2.5, color=COLOURS[method], label=label)
        axis.set_xscale("log", base=2)
        shots = sorted(set(panel["shots"]) - {0})
        axis.set_xticks(shots, [str(count) for count in shots])
        axis.minorticks_off()
        axis.set(title="mean over datasets" if dataset == "average" else dataset,
                 xlabel="labelled images per class", ylabel="top-1 accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def base_to_new(frame):
    """Base and new accuracy of every method, a panel for the mean and for every dataset.

    Every method must be present with exactly one variant (see `results.main_rows`).
    """
    summary = base_to_new_table(frame).reset_index()
    runs = over_seeds(frame[frame["protocol"] == "base_to_new"])
    datasets = _with_average(runs)
    methods = [method for method in METHODS if method in set(summary["method"])]
    width = 0.8 / len(methods)
    figure, axes = grid(len(datasets), columns=2, size=(6.2, 3.2))
    for axis, dataset in zip(axes, datasets, strict=True):
        panel = summary[summary["dataset"] == dataset].set_index("method")
        spread = runs[runs["dataset"] == dataset].set_index(["method", "subset"])["std"]
        for place, method in enumerate(methods):
            for offset, column in enumerate(("base", "new", "H")):
                value = panel.loc[method, column]
                middle = offset + (place - (len(methods) - 1) / 2) * width
                bar = axis.bar(middle, value, 0.92 * width, color=COLOURS[method],
                               label=METHODS[method],
                               yerr=spread.get((method, column), 0) or None, capsize=2)
                axis.bar_label(bar, fmt="%.0f", fontsize=7.5, color="#1d2733", padding=1)
        axis.set_xticks(range(3), ["base", "new", "H"])
        axis.grid(axis="x", visible=False)
        axis.set(title="mean over datasets" if dataset == "average" else dataset,
                 ylabel="top-1 accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=len(unique))
    return figure


def transfer(frame, protocol):
    """Accuracy of every method on each kind of test images of `cross_dataset` or `domain`.

    Error bars are the standard deviation over seeds, dashed lines zero-shot CLIP. Every method
    must be present with exactly one variant (see `results.main_rows`).
    """
    runs = transfer_runs(frame, protocol)
    means, deviations = runs.groupby("method").mean(), runs.groupby("method").std(ddof=0)
    methods = [method for method in METHODS if method in means.index and method != "zero_shot"]
    width, places = 0.8 / len(methods), np.arange(len(runs.columns))
    figure, axis = plt.subplots(figsize=(1.5 + 1.7 * len(places), 3.8), layout="constrained")
    for number, method in enumerate(methods):
        axis.bar(places + (number - (len(methods) - 1) / 2) * width, means.loc[method],
                 0.92 * width, yerr=deviations.loc[method].where(deviations.loc[method] > 0),
                 capsize=2, color=COLOURS[method], label=METHODS[method])
    axis.hlines(means.loc["zero_shot"], places - 0.45, places + 0.45, linestyles="--",
                color=COLOURS["zero_shot"], label=METHODS["zero_shot"])
    axis.set_xticks(places, [name.replace("_", " ")
                             for name in runs.rename(columns={"mean": TRANSFER[protocol]})])
    axis.grid(axis="x", visible=False)
    axis.set(ylabel="top-1 accuracy (%)")
    figure.legend(loc="outside lower center", ncols=5)
    return figure


def ablations(frame, method, variants):
    """Few-shot accuracy of a method's variants, a panel for every dataset that has them."""
    summary = over_seeds(complete_rows(frame, method, "few_shot", variants))
    datasets = sorted(summary["dataset"].unique())
    size = (_width(4.4, datasets), 3.4)
    figure, axes = grid(len(datasets), columns=3, size=size, sharex=False)
    for axis, dataset in zip(axes, datasets, strict=True):
        panel = summary[summary["dataset"] == dataset]
        shots = sorted(panel["shots"].unique())
        for count, colour in zip(shots, sns.color_palette("Oranges_d", len(shots)), strict=True):
            line = panel[panel["shots"] == count].set_index("variant").loc[variants]
            axis.errorbar(line["mean"], range(len(variants)), xerr=line["std"], fmt="o",
                          capsize=2.5, color=colour, label=shots_label(count))
        axis.set_yticks(range(len(variants)), variants)
        axis.invert_yaxis()
        axis.set(title=dataset, xlabel="top-1 accuracy (%)")
        axis.legend(fontsize=8)
    return figure


def base_to_new_ablations(frame, method, variants):
    """Base, new and H of a method's variants, for every dataset that has them and their mean.

    Error bars are the standard deviation over seeds.
    """
    rows = complete_rows(frame, method, "base_to_new", variants)
    summary = base_to_new_table(rows).droplevel("method")
    runs = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    spread = runs.set_index(["dataset", "variant", "subset"])["std"]
    datasets = _with_average(rows)
    size = (_width(3.3, datasets), 1.2 + 0.24 * len(variants))
    figure, axes = grid(len(datasets), size=size, sharey=True)
    for axis, dataset in zip(axes, datasets, strict=True):
        for column, colour in zip(("base", "new", "H"), ("#0b5fa5", "#d1492e", "#1d2733"),
                                  strict=True):
            values = summary.loc[dataset, column].loc[variants]
            deviation = None if column == "H" else [spread[dataset, v, column] for v in variants]
            axis.errorbar(values, range(len(variants)), xerr=deviation, fmt="o", markersize=4.5,
                          capsize=2, color=colour, label=column)
        axis.set_yticks(range(len(variants)), variants)
        axis.set(title="mean over datasets" if dataset == "average" else dataset,
                 xlabel="top-1 accuracy (%)")
    axes[0].invert_yaxis()  # of all panels, which share it
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def trade_off(frame, main, curve):
    """New against base accuracy of every method, and of the dual-view variants as a curve.

    main: the rows of every method's main variant; curve: {variant: lambda_mi}, in the order in
    which a line joins them. Only datasets that have all of these variants are shown.
    """
    rows = complete_rows(frame, "dualview", "base_to_new", curve)
    datasets = _with_average(rows)
    variants = base_to_new_table(rows).droplevel("method")
    methods = base_to_new_table(main[main["dataset"].isin(datasets)]).droplevel("variant")
    figure, axes = grid(len(datasets), columns=2, size=(5.2, 3.9))
    for axis, dataset in zip(axes, datasets, strict=True):
        points, line = methods.loc[dataset], variants.loc[dataset].loc[list(curve)]
        axis.plot(line["base"], line["new"], marker="o", markersize=5, color=COLOURS["dualview"],
                  label=f"{METHODS['dualview']}, by weight")
        for variant, value in curve.items():
            axis.annotate(f"{value:g}", line.loc[variant, ["base", "new"]], fontsize=8,
                          textcoords="offset points", xytext=(5, 4))
        for method in [m for m in METHODS if m in points.index and m != "dualview"]:
            axis.plot(*points.loc[method, ["base", "new"]], marker="D", markersize=7,
                      linestyle="none", color=COLOURS[method], label=METHODS[method])
        axis.set(title="mean over datasets" if dataset == "average" else dataset,
                 xlabel="accuracy on base classes (%)", ylabel="accuracy on new classes (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def typicality(frame):
    """What each method gains over zero-shot CLIP in every quarter of the test images by typicality.

    A panel for the mean over datasets and for every dataset; quarter 1 is the least typical.
    """
    rows = frame[frame["protocol"] == "typicality"]
    summary = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    datasets = list(dict.fromkeys(summary["dataset"]))
    figure, axes = grid(len(datasets), sharey=False)
    for axis, dataset in zip(axes, datasets, strict=True):
        panel = summary[summary["dataset"] == dataset].set_index("subset")
        before = panel.loc[panel["method"] == "zero_shot", "mean"]
        for method in METHODS:
            line = panel[panel["method"] == method]
            if method != "zero_shot" and not line.empty:
                axis.errorbar(line.index.str[-1], line["mean"] - before, yerr=line["std"],
                              marker="o", markersize=4, capsize=2.5, color=COLOURS[method],
                              label=METHODS[method])
        axis.axhline(0, color=COLOURS["zero_shot"], linestyle="--")
        axis.set(title="mean over datasets" if dataset == "average" else dataset,
                 xlabel="quarter by typicality (1: least typical)", ylabel="gain (points)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _with_average(frame):
    """Return the datasets of a table, after `average` if there are several."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    return datasets if len(datasets) == 1 else ["average", *datasets]


def _width(width, panels):
    """Return a panel's width, larger where panels are few: a small figure is shown too large."""
    return max(width, 8.8 / len(panels))
