"""Figures of the inside of a method: its prompts, its training, cosines, plans and features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from ..palette import INK
from .style import grid

if TYPE_CHECKING:
    from torch import Tensor


def prompt_layouts(tables: dict[str, list[tuple[str, str]]]) -> Figure:
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


def training_curves(losses: dict[str, "Tensor"], learning_rates: Sequence[float]) -> Figure:
    """Training loss of each setting (mean over runs) beside the learning rate of every epoch.

    losses: {label: [steps, R]}; learning_rates: one value per epoch.
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
    right.plot(learning_rates, color=INK)
    right.set(xlabel="epoch", ylabel="learning rate", title="schedule")
    return figure


def heat_map(matrix: "Tensor", rows: Sequence[str], columns: Sequence[str], title: str,
             label: str) -> Figure:
    """A labelled heat map of a matrix [len(rows), len(columns)]."""
    names = max(1.0, 0.075 * max(map(len, rows)))  # room for the rows' names, in inches
    figure, axis = plt.subplots(layout="constrained",
                                figsize=(1.2 + names + 0.42 * len(columns), 1 + 0.34 * len(rows)))
    sns.heatmap(matrix, xticklabels=columns, yticklabels=rows, cmap="rocket_r", ax=axis,
                cbar_kws={"label": label})
    axis.set_title(title)
    axis.tick_params(axis="x", rotation=60)
    return figure


def similarities(tables: dict[str, "Tensor"], names: Sequence[str]) -> Figure:
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


def matrices(tables: dict[str, "Tensor"]) -> Figure:
    """Draw matrices of numbers from 0 to 1 side by side: `tables` is {title: [n, m]}."""
    figure, axes = plt.subplots(1, len(tables), figsize=(2.6 * len(tables), 2.2), squeeze=False,
                                layout="constrained")
    for axis, (title, matrix) in zip(axes[0], tables.items(), strict=True):
        sns.heatmap(matrix, vmin=0, vmax=1, cmap="rocket_r", cbar=False, annot=True, fmt=".2f",
                    annot_kws={"fontsize": 8}, xticklabels=False, yticklabels=False, ax=axis)
        axis.set_title(title, fontsize=10)
    return figure


def feature_space(real: tuple["Tensor", "Tensor"], panels: dict[str, tuple["Tensor", "Tensor"]],
                  names: list[str]) -> Figure:
    """Draw features on the two main axes of the real ones, beside what was made of them.

    real: `(features [N, d], labels [N])`; panels: {title: such a pair of drawn features}, where a
    label of len(names) stands for mixtures of classes; names: of the classes, in label order.
    """
    plane = PCA(n_components=2).fit(real[0])
    colours = [*sns.color_palette("tab10", len(names)), INK]
    figure, axes = grid(len(panels), columns=3, size=(3.7, 3.4), sharex=True, sharey=True)
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
