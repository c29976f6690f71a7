"""Figures of the results table: accuracies of methods and of their variants.

A method has its colour and its marker (`palette`); error bars are the sample standard deviation
over seeds. What is drawn are the cells that tables of the same results show (`cells`).
"""

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..cells import (
    base_to_new_cells,
    dataset_title,
    datasets_of,
    few_shot_cells,
    gain_cells,
    means,
    spreads,
    transfer_cells,
)
from ..claims.evidence import Evidence
from ..differences import base_to_new_differences, few_shot_differences
from ..palette import COLOURS, INK
from ..results import METHODS, TRANSFER, base_to_new_table, complete_rows, shots_label
from .style import grid, method_style, tips

# lines across the figure
UNTRAINED: dict[str, Literal["--", ":"]] = {"zero_shot": "--", "ensemble": ":"}


def few_shot(frame: pd.DataFrame, datasets: list[str] | None = None) -> Figure:
    """Accuracy against shots, a panel for the mean over datasets and for every dataset.

    Methods without training are lines across. datasets: those shown, `AVERAGE` among them; None:
    all. Every method must be present with exactly one variant (see `results.main_rows`).
    """
    datasets = datasets or datasets_of(frame, "few_shot")
    figure, axes = grid(len(datasets), size=(_width(3.4, datasets, 7.2), 3.4))
    for axis, dataset in zip(axes, datasets, strict=True):
        cells: Any = few_shot_cells(frame, dataset).droplevel("variant")
        shots = [count for count in cells if count]
        for method, row in cells.iterrows():
            points = row[shots].dropna()
            if points.empty:
                axis.axhline(row[0].mean, color=COLOURS[method], label=METHODS[method],
                             linestyle=UNTRAINED.get(method, "-."))
            else:
                _points(axis, points.index, points, method, shots_label, linestyle="-")
        axis.set_xscale("log", base=2)
        axis.set_xticks(shots, [str(count) for count in shots])
        axis.minorticks_off()
        axis.set(title=dataset_title(dataset), xlabel="labelled images per class",
                 ylabel="top-1 accuracy (%)")
    _legend(figure, axes)
    return figure


def base_to_new(frame: pd.DataFrame, datasets: list[str] | None = None) -> Figure:
    """Base and new accuracy of every method, a panel for the mean and for every dataset.

    See `few_shot`.
    """
    datasets = datasets or datasets_of(frame, "base_to_new")
    figure, axes = grid(len(datasets), columns=2, size=(_width(5.2, datasets, 7.2), 3.4))
    for axis, dataset in zip(axes, datasets, strict=True):
        cells = base_to_new_cells(frame, dataset).droplevel("variant")[["base", "new", "H"]]
        _side_by_side(axis, cells)
        axis.set(title=dataset_title(dataset), ylabel="top-1 accuracy (%)")
    _legend(figure, axes)
    return figure


def transfer(frame: pd.DataFrame, protocol: str) -> Figure:
    """Accuracy of every method on each kind of test images of `cross_dataset` or `domain`.

    Dashed lines are zero-shot CLIP. Every method must be present with exactly one variant.
    """
    cells: Any = transfer_cells(frame, protocol).droplevel("variant")
    cells = cells.rename(columns={"mean": TRANSFER[protocol]})
    size = (max(7.2, 1.5 + 1.3 * len(cells.columns)), 3.6)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    _side_by_side(axis, cells.drop(index="zero_shot"))
    places = range(len(cells.columns))
    axis.hlines([cell.mean for cell in cells.loc["zero_shot"]], [x - 0.45 for x in places],
                [x + 0.45 for x in places], linestyles=UNTRAINED["zero_shot"],
                color=COLOURS["zero_shot"], label=METHODS["zero_shot"])
    axis.set(ylabel="top-1 accuracy (%)")
    _legend(figure, [axis])
    return figure


def ablations(evidence: Evidence, method: str, protocol: str, main: str,
              variants: Sequence[str]) -> Figure:
    """What each variant of a method gains or loses against `main`, with 95 % intervals.

    Panels are shot counts for `few_shot`, new classes and H for `base_to_new`. variants: in the
    order in which they are shown.
    """
    if protocol == "few_shot":
        table: Any = few_shot_differences(evidence, method, main)
        panels = {shots_label(shots): part.set_index("variant")["difference"]
                  for shots, part in table.groupby("shots")}
    else:
        table = base_to_new_differences(evidence, method, main).set_index("variant")
        panels = {name: table[f"difference in {name}"] for name in ("new", "H")}
    shown = [name for name in variants if name in set(table.reset_index()["variant"])]
    size = (_width(3.4, panels, 7.2), 1.2 + 0.26 * len(shown))
    figure, axes = grid(len(panels), columns=3, size=size, sharey=True)
    for axis, (name, column) in zip(axes, panels.items(), strict=True):
        found = column.reindex(shown).dropna()
        places = [shown.index(variant) for variant in found.index]
        middle = [each.mean for each in found]
        reach = [[each.mean - each.low for each in found],
                 [each.high - each.mean for each in found]]
        drawn = axis.errorbar(middle, places, xerr=reach, linestyle="none", capsize=2.5,
                              markersize=5, **method_style(method))
        tips(drawn.lines[0], [f"{variant}: {each} points" for variant, each in found.items()])
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(shown)), shown)
        axis.set(title=name)
    figure.supxlabel(f"difference from {main} (points)", fontsize="medium")
    axes[0].invert_yaxis()  # of all panels, which share it
    return figure


def trade_off(frame: pd.DataFrame, main: pd.DataFrame, curve: dict[str, float]) -> Figure:
    """New against base accuracy of every method, and of the dual-view variants as a curve.

    main: the rows of every method's main variant; curve: {variant: lambda_mi}, in the order in
    which a line joins them. Only datasets that have all of these variants are shown.
    """
    rows = complete_rows(frame, "dualview", "base_to_new", list(curve))
    datasets = datasets_of(rows, "base_to_new")
    variants = base_to_new_table(rows).droplevel("method")
    methods = base_to_new_table(main[main["dataset"].isin(datasets)]).droplevel("variant")
    figure, axes = grid(len(datasets), columns=2, size=(_width(5.2, datasets, 7.2), 3.9))
    for axis, dataset in zip(axes, datasets, strict=True):
        points, line = methods.loc[dataset], variants.loc[dataset].loc[list(curve)]
        axis.plot(line["base"], line["new"], markersize=6, **method_style("dualview"),
                  label=f"{METHODS['dualview']}, by weight")
        for variant, value in curve.items():
            axis.annotate(f"{value:g}", line.loc[variant, ["base", "new"]], fontsize=8,
                          textcoords="offset points", xytext=(5, 4))
        for method in [m for m in METHODS if m in points.index and m != "dualview"]:
            axis.plot(*points.loc[method, ["base", "new"]], markersize=8, linestyle="none",
                      **method_style(method), label=METHODS[method])
        axis.set(title=dataset_title(dataset), xlabel="accuracy on base classes (%)",
                 ylabel="accuracy on new classes (%)")
    _legend(figure, axes)
    return figure


def typicality(frame: pd.DataFrame, datasets: list[str] | None = None) -> Figure:
    """What each method gains over zero-shot CLIP in every quarter of the test images by typicality.

    A panel for the mean over datasets and for every dataset; quarter 1 is the least typical.
    """
    datasets = datasets or datasets_of(frame, "typicality")
    figure, axes = grid(len(datasets), sharey=False, size=(_width(3.4, datasets, 7.2), 3.2))
    for axis, dataset in zip(axes, datasets, strict=True):
        for method, row in gain_cells(frame, dataset).droplevel("variant").iterrows():
            _points(axis, row.index.str[-1], row, method, "quarter {}".format, linestyle="-")
        axis.axhline(0, color=COLOURS["zero_shot"], linestyle=UNTRAINED["zero_shot"],
                     label=METHODS["zero_shot"])
        axis.set(title=dataset_title(dataset), xlabel="quarter by typicality (1: least typical)",
                 ylabel="gain (points)")
    _legend(figure, axes)
    return figure


def _side_by_side(axis, cells):
    """A group of points for every column of cells, in it a point for each row, a method."""
    shift = 0.8 / len(cells)
    for number, (method, row) in enumerate(cells.iterrows()):
        places = [place + (number - (len(cells) - 1) / 2) * shift
                  for place, there in enumerate(row.notna()) if there]
        _points(axis, places, row.dropna(), method, _place, linestyle="none")
    axis.set_xticks(range(len(cells.columns)), list(map(_place, cells)))
    axis.set_xlim(-0.55, len(cells.columns) - 0.45)
    axis.grid(axis="x", visible=False)


def _place(column):
    return column.replace("_", " ")


def _points(axis, places, row, method, words, linestyle):
    """Draw a method's cells, each with its column (said in `words`), numbers and seeds as text."""
    numbers = row.to_frame()
    drawn = axis.errorbar(places, means(numbers)[row.name],
                          yerr=spreads(numbers)[row.name].fillna(0), linestyle=linestyle,
                          markersize=6, label=METHODS[method], **method_style(method))
    tips(drawn.lines[0], [
        f"{METHODS[method]}, {words(column)}: {cell}" + ("" if cell.std is None else " (seeds "
        + ", ".join(f"{value:.1f}" for _, value in cell.seeds) + ")")
        for column, cell in row.items()])


def _legend(figure, axes):
    """One legend for all panels: the methods of each, once."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center",
                  ncols=min(len(found), 5 if len(axes) < 3 else 9))


def _width(width, panels, alone):
    """Return a panel's width; a figure of few panels is not shown smaller than `alone`."""
    return max(width, alone / len(panels))
