"""Figures of the notebooks and the report; each function returns a matplotlib figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from sklearn.decomposition import PCA

from .files import written_whole
from .params.methods import BLOCKS
from .results import (
    METHODS,
    TRANSFER,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    over_seeds,
    shots_label,
    transfer_runs,
)

COLOURS = {"zero_shot": "#5b6875", "ensemble": "#8f6fb0", "linear_probe": "#3a9a78",
           **{name: block.colour for name, block in BLOCKS.items()}}
# Text is drawn as it stands, in figures that notebooks draw themselves too: what stands between two
# `$` of a name or a sentence is no formula.
sns.set_theme(style="ticks", context="notebook", font_scale=0.9,
              rc={"axes.grid": True, "grid.color": "#e6eaee", "axes.spines.top": False,
                  "axes.spines.right": False, "figure.dpi": 110, "savefig.dpi": 150,
                  "legend.frameon": False, "svg.hashsalt": "promptstudy",
                  "text.parse_math": False})


def save(figure, path):
    """Save a figure as PNG, in one piece and without a date, so that equal figures are equal."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})


def _grid(count, columns=4, size=(3.4, 3.2), **options):
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained",
                                figsize=(size[0] * columns, size[1] * rows), **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def _with_average(frame):
    """The datasets of a table, behind `average` if they are several."""
    datasets = list(dict.fromkeys(frame["dataset"]))
    return datasets if len(datasets) == 1 else ["average", *datasets]


def _width(width, panels):
    """The width of a panel, more where they are few: a small figure would be shown too large."""
    return max(width, 8.8 / len(panels))


def few_shot(frame):
    """Accuracy against shots, a panel for the mean over datasets and for every dataset.

    Error bars are the standard deviation over seeds; methods without training are dashed lines.
    Every method needs to be there with one variant (see `results.main_rows`).
    """
    rows = frame[frame["protocol"] == "few_shot"]
    summary = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    datasets = list(dict.fromkeys(summary["dataset"]))
    figure, axes = _grid(len(datasets))
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

    Every method needs to be there with one variant (see `results.main_rows`).
    """
    summary = base_to_new_table(frame).reset_index()
    runs = over_seeds(frame[frame["protocol"] == "base_to_new"])
    datasets = _with_average(runs)
    methods = [method for method in METHODS if method in set(summary["method"])]
    width = 0.8 / len(methods)
    figure, axes = _grid(len(datasets), columns=2, size=(6.2, 3.2))
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
    needs to be there with one variant (see `results.main_rows`).
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


def studies(frame, method, variants):
    """Few-shot accuracy of a method's variants, a panel for every dataset that has them."""
    summary = over_seeds(complete_rows(frame, method, "few_shot", variants))
    datasets = sorted(summary["dataset"].unique())
    size = (_width(4.4, datasets), 3.4)
    figure, axes = _grid(len(datasets), columns=3, size=size, sharex=False)
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


def base_to_new_studies(frame, method, variants):
    """Base, new and H of a method's variants, for every dataset that has them and their mean.

    Error bars are the standard deviation over seeds.
    """
    rows = complete_rows(frame, method, "base_to_new", variants)
    summary = base_to_new_table(rows).droplevel("method")
    runs = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    spread = runs.set_index(["dataset", "variant", "subset"])["std"]
    datasets = _with_average(rows)
    size = (_width(3.3, datasets), 1.2 + 0.24 * len(variants))
    figure, axes = _grid(len(datasets), size=size, sharey=True)
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
    which a line joins them, over the datasets that have them all.
    """
    rows = complete_rows(frame, "dualview", "base_to_new", curve)
    datasets = _with_average(rows)
    variants = base_to_new_table(rows).droplevel("method")
    methods = base_to_new_table(main[main["dataset"].isin(datasets)]).droplevel("variant")
    figure, axes = _grid(len(datasets), columns=2, size=(5.2, 3.9))
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
    """What each method gains on zero-shot CLIP in every quarter of the test images by typicality.

    A panel for the mean over datasets and for every dataset; quarter 1 is the least typical.
    """
    rows = frame[frame["protocol"] == "typicality"]
    summary = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    datasets = list(dict.fromkeys(summary["dataset"]))
    figure, axes = _grid(len(datasets), sharey=False)
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


def training_curves(losses, learning_rates):
    """Training loss of each setting (mean over runs) beside the learning rate of every epoch.

    losses: {label: [steps, R]}; learning_rates: one value an epoch.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained",
                                         width_ratios=[2, 1])
    for (label, values), colour in zip(losses.items(), sns.color_palette("viridis", len(losses)),
                                       strict=True):
        steps = np.arange(1, len(values) + 1) / len(values)
        mean, low, high = values.mean(1), values.min(1).values, values.max(1).values
        left.plot(steps, mean, color=colour, label=label)
        left.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    left.set(xlabel="share of the training done", ylabel="loss (nats)",
             title="training loss: mean and range over seeds")
    left.legend(fontsize=8)
    right.plot(learning_rates, color="#0b5fa5")
    right.set(xlabel="epoch", ylabel="learning rate", title="schedule")
    return figure


def prompt_layouts(tables):
    """Draw which token stands where: `tables` is {title: list of (token text, kind)}.

    Kinds: `fixed` (the same for all classes), `context` (learned), `name`.
    """
    colours = {"fixed": "#dfe4ea", "context": "#f6c3b7", "name": "#bcd8f0"}
    figure, axis = plt.subplots(figsize=(10, 0.62 * len(tables) + 0.2), layout="constrained")
    for row, (title, tokens) in enumerate(tables.items()):
        axis.text(-0.15, row, title, ha="right", va="center")
        for column, (text, kind) in enumerate(tokens):
            axis.add_patch(plt.Rectangle((column, row - 0.36), 0.94, 0.72, color=colours[kind]))
            axis.text(column + 0.47, row, text, ha="center", va="center", fontsize=8)
    axis.set(xlim=(-2.2, max(map(len, tables.values()))), ylim=(len(tables) - 0.5, -0.5))
    axis.axis("off")
    return figure


def heat_map(matrix, rows, columns, title, label):
    """A labelled heat map of a matrix [len(rows), len(columns)]."""
    names = max(1.0, 0.075 * max(map(len, rows)))  # room for the rows' names, in inches
    figure, axis = plt.subplots(layout="constrained",
                                figsize=(1.2 + names + 0.42 * len(columns), 1 + 0.34 * len(rows)))
    sns.heatmap(matrix, xticklabels=columns, yticklabels=rows, cmap="rocket_r", ax=axis,
                cbar_kws={"label": label})
    axis.set_title(title)
    axis.tick_params(axis="x", rotation=60)
    return figure


def similarities(tables, names):
    """Draw cosines between the same classes side by side: `tables` is {title: [C, C]}."""
    side = 1.2 + 0.22 * len(names)
    figure, axes = plt.subplots(1, len(tables), figsize=(side * len(tables) + 1.5, side + 0.8),
                                squeeze=False, layout="constrained", sharey=True)
    low = min(table.min().item() for table in tables.values())
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        sns.heatmap(table, vmin=low, vmax=1, cmap="rocket_r", xticklabels=names, yticklabels=names,
                    square=True, ax=axis, cbar=axis is axes[0, -1],
                    cbar_kws={"label": "cosine", "shrink": 0.7})
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.tick_params(axis="x", rotation=90)
    return figure


def feature_space(real, panels, names):
    """Draw features on the two main axes of the real ones, beside what was made of them.

    real: `(features [N, d], labels [N])`; panels: {title: such a pair of drawn features}, where a
    label of len(names) stands for mixtures of classes; names: of the classes, in label order.
    """
    plane = PCA(n_components=2).fit(real[0])
    colours = [*sns.color_palette("tab10", len(names)), "#5b6875"]
    figure, axes = _grid(len(panels), columns=3, size=(3.7, 3.4), sharex=True, sharey=True)
    for axis, (title, drawn) in zip(axes, panels.items(), strict=True):
        for (features, labels), marker, size in ((drawn, "x", 12), (real, "o", 22)):
            shades = [colours[label] for label in labels]
            axis.scatter(*plane.transform(features).T, c=shades, marker=marker, s=size,
                         linewidths=0.8, edgecolors="white" if marker == "o" else None)
        axis.set(title=title, xticks=[], yticks=[])
    handles = [plt.Line2D([], [], marker="o", linestyle="none", color=colour)
               for colour in colours[:len(names)]]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def matrices(tables):
    """Draw matrices of numbers from 0 to 1 side by side: `tables` is {title: [n, m]}."""
    figure, axes = plt.subplots(1, len(tables), figsize=(2.6 * len(tables), 2.2), squeeze=False,
                                layout="constrained")
    for axis, (title, matrix) in zip(axes[0], tables.items(), strict=True):
        sns.heatmap(matrix, vmin=0, vmax=1, cmap="rocket_r", cbar=False, annot=True, fmt=".2f",
                    annot_kws={"fontsize": 8}, xticklabels=False, yticklabels=False, ax=axis)
        axis.set_title(title, fontsize=10)
    return figure


def attention_maps(maps, titles, pictures=None):
    """Draw where each prompt looks: a row an image, a column a prompt.

    maps: [images, N, h, w], the weight of every place, shown the redder the more it is; titles: one
    an image; pictures: [H, W, 3] arrays that the maps are laid over, or None.
    """
    count, n_prompts, height, width = maps.shape
    columns = n_prompts + (pictures is not None)
    figure, axes = plt.subplots(count, columns, squeeze=False, layout="constrained",
                                figsize=(1.7 * columns, 1.85 * count))
    extent, top = (0, width, height, 0), maps.max().item()
    for row, title in enumerate(titles):
        for prompt, axis in enumerate(axes[row, columns - n_prompts:]):
            weights = maps[row, prompt]
            if pictures is not None:
                axis.imshow(pictures[row], extent=extent)
            axis.imshow(weights, extent=extent, cmap="Reds", vmin=0, vmax=top,
                        alpha=None if pictures is None else (weights / top).numpy())
            axis.set_title(f"prompt {prompt + 1}" if row == 0 else "", fontsize=9)
        if pictures is not None:
            axes[row, 0].imshow(pictures[row])
        axes[row, 0].set_ylabel(title, fontsize=8.5)
        for axis in axes[row]:
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
    return figure


def sentence_weights(weights, sentences, titles, pictures=None, width=110):
    """Draw how much each sentence of an image counts: a row an image, a bar a sentence.

    weights: a list of [K]; sentences: as many lists of K texts, cut to `width` characters; titles:
    one an image; pictures: the images themselves, or None.
    """
    figure, axes = plt.subplots(len(weights), 2 if pictures else 1, squeeze=False,
                                layout="constrained", figsize=(11, 0.5 + 1.6 * len(weights)),
                                width_ratios=[1, 6] if pictures else None)
    for row, (shares, texts) in enumerate(zip(weights, sentences, strict=True)):
        axis = axes[row, -1]
        axis.barh(range(len(texts)), shares, color=COLOURS["aape"])
        axis.axvline(1 / len(texts), color="#1d2733", linewidth=0.8)
        end = max(max(shares), 1 / len(texts))
        for place, text in enumerate(texts):
            axis.text(1.05 * end, place, text if len(text) <= width else f"{text[:width]}...",
                      va="center", fontsize=8)
        axis.set(xlim=(0, 4 * end), ylim=(len(texts) - 0.4, -0.6), xticks=[], yticks=[])
        axis.set_title(titles[row], fontsize=9, loc="left")
        axis.grid(visible=False)
        if pictures:
            axes[row, 0].imshow(pictures[row])
            axes[row, 0].axis("off")
    return figure


def picture_grid(pictures):
    """Show pictures, a row for each title of {title: [picture, ...]}."""
    count = max(map(len, pictures.values()))
    figure, axes = plt.subplots(len(pictures), count, squeeze=False, layout="constrained",
                                figsize=(2.1 * count, 1.6 * len(pictures)))
    for row, (title, images) in zip(axes, pictures.items(), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
        row[0].set_ylabel(title, fontsize=9)
    return figure


def example_predictions(examples, images=None, after="CoOp"):
    """Draw the classes that zero-shot CLIP and `after` rank highest for a few images, as bars.

    examples: dicts with `path`, `truth` and `before`, `after` = lists of (class name, percent);
    images: the pictures themselves, or None where only their features are at hand.
    """
    columns = 3 if images else 2
    figure, axes = plt.subplots(len(examples), columns, squeeze=False, layout="constrained",
                                figsize=(3.6 * columns + 1, 1.35 * len(examples)))
    for row, example in enumerate(examples):
        if images:
            axes[row, 0].imshow(images[row])
            axes[row, 0].axis("off")
        for axis, key in zip(axes[row, -2:], ("before", "after"), strict=True):
            names, shares = zip(*example[key], strict=True)
            colours = ["#3a9a78" if name == example["truth"] else "#c9d1d9" for name in names]
            bars = axis.barh(range(len(names)), shares, color=colours)
            axis.bar_label(bars, labels=[f"{name}  {share:.0f}%" for name, share in
                                         zip(names, shares, strict=True)],
                           padding=3, fontsize=8.5)
            axis.set(xlim=(0, 160), ylim=(len(names) - 0.4, -0.6), xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            axis.grid(visible=False)
        axes[row, -2].set_title(f"{example['path']} ({example['truth']})", fontsize=8.5,
                                loc="left", color="#5b6875")
        axes[row, -1].set_title("", fontsize=8.5)
    figure.suptitle(f"zero-shot CLIP (left) and {after} (right); the right class is green",
                    fontsize=10)
    return figure


def class_changes(changes, count=6):
    """The classes whose accuracy rose and fell most: {dataset: Series of points by class name}."""
    figure, axes = _grid(len(changes), columns=3, size=(4.2, 3.6))
    for axis, (dataset, change) in zip(axes, changes.items(), strict=True):
        change = change.sort_values()
        shown = change if len(change) <= 2 * count else pd.concat(
            [change.head(count), change.tail(count)])
        colours = ["#d1492e" if points < 0 else "#3a9a78" for points in shown]
        axis.barh(shown.index, shown, color=colours)
        axis.axvline(0, color="#1d2733", linewidth=0.8)
        axis.tick_params(axis="y", labelsize=8)
        axis.set(title=f"{dataset}: {(change > 0).sum()} classes up, {(change < 0).sum()} down",
                 xlabel="change in accuracy (points)")
    return figure
