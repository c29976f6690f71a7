"""Figures of single images and classes: where prompts look, what is predicted, what changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..palette import BAD, COLOURS, GOOD, INK, SOFT
from .style import grid

if TYPE_CHECKING:
    from torch import Tensor


def picture_grid(pictures: dict[str, list[Any]]) -> Figure:
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


def attention_maps(maps: "Tensor", titles: Sequence[str],
                   pictures: Sequence[Any] | None = None) -> Figure:
    """Draw where each prompt looks: a row an image, a column a prompt.

    maps: [images, N, h, w], the weight of every place (the redder, the larger); titles: one an
    image; pictures: [H, W, 3] arrays that the maps are laid over, or None.
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


def sentence_weights(weights: list["Tensor"], sentences: list[list[str]], titles: Sequence[str],
                     pictures: Sequence[Any] | None = None, width: int = 110) -> Figure:
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
        axis.axvline(1 / len(texts), color=INK, linewidth=0.8)
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


def example_predictions(examples: list[dict[str, Any]], images: Sequence[Any] | None = None,
                        after: str = "CoOp") -> Figure:
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
            colours = [GOOD if name == example["truth"] else SOFT for name in names]
            bars = axis.barh(range(len(names)), shares, color=colours)
            axis.bar_label(bars, labels=[f"{name}  {share:.0f}%" for name, share in
                                         zip(names, shares, strict=True)],
                           padding=3, fontsize=8.5)
            axis.set(xlim=(0, 160), ylim=(len(names) - 0.4, -0.6), xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            axis.grid(visible=False)
        axes[row, -2].set_title(f"{example['path']} ({example['truth']})", fontsize=8.5,
                                loc="left", color=INK)
        axes[row, -1].set_title("", fontsize=8.5)
    figure.suptitle(f"zero-shot CLIP (left) and {after} (right); the right class is green",
                    fontsize=10)
    return figure


def class_changes(changes: dict[str, pd.Series], count: int = 6) -> Figure:
    """The classes whose accuracy rose and fell most: {dataset: Series of points by class name}."""
    figure, axes = grid(len(changes), columns=3, size=(4.2, 3.6))
    for axis, (dataset, change) in zip(axes, changes.items(), strict=True):
        change = change.sort_values()
        shown = change if len(change) <= 2 * count else pd.concat(
            [change.head(count), change.tail(count)])
        colours = [BAD if points < 0 else GOOD for points in shown]
        axis.barh(shown.index, shown, color=colours)
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.tick_params(axis="y", labelsize=8)
        axis.set(title=f"{dataset}: {(change > 0).sum()} classes up, {(change < 0).sum()} down",
                 xlabel="change in accuracy (points)")
    return figure
