"""The one way in which tables are shown, in pages and in notebooks."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from .cells import Cell, Interval
from .palette import COLOURS, MARKERS
from .rendering import render, slug
from .results import COLLAPSE, METHODS

CURVES = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C",
          Path.CLOSEPOLY: "L"}  # in SVG
DASH = "–"  # what a table shows where nothing was measured


class Quoted(NamedTuple):
    """A number as it is printed elsewhere, and the mark of how it came here."""

    text: str
    mark: str


class Table:
    """A DataFrame as it is shown: in a page through `html`, in a notebook as a cell's value.

    `Cell` is shown as mean ± deviation with its seeds, `Interval` as difference with its limits,
    other numbers with one decimal (three without a unit where the column or the row is called a
    cosine), a method with its name, colour and marker. What ± and the marks mean is added to the
    caption.
    """

    def __init__(self, frame: pd.DataFrame, caption: str, name: str, best: Iterable[str] = (),
                 units: dict[str, str] | None = None):
        """
        frame: columns in their order, without an index; caption: what is shown, where and how it
        was measured; name: of the element and of the CSV file; best: columns whose largest mean
        is bold; units: {column: unit}.
        """
        self.frame, self.name, self.units = frame, f"{slug(name)}-table", units or {}
        self._numeric = {column: _all_numbers(frame[column]) for column in frame}
        self.best = {column: _largest(frame[column]) for column in best if column in frame}
        self.caption = " ".join([caption, *self._legend()])

    @property
    def html(self) -> Markup:
        """The table as HTML."""
        heads = [{"text": column, "unit": self.units.get(str(column)),
                  "number": self._numeric[column]} for column in self.frame]
        rows = [[self._shown(column, value, row[0])
                 for column, value in zip(self.frame, row, strict=True)]
                for row in self.frame.itertuples(index=False)]
        return Markup(render("table.html", name=self.name, caption=self.caption, heads=heads,
                             rows=rows))

    def _repr_html_(self):
        return self.html

    def _shown(self, column, value, row):
        """What the template needs of a value: text, small print, number to sort by, classes."""
        if _missing(value):
            return {"text": DASH, "classes": ["n"] if self._numeric[column] else []}
        if isinstance(value, Cell):
            return self._shown_cell(column, value)
        if isinstance(value, Interval):
            mean, _, limits = str(value).partition(" ")
            return {"text": mean, "small": limits, "sort": f"{value.mean:.4f}", "classes": ["n"]}
        if isinstance(value, Quoted):
            return {"text": value.text, "sort": value.text, "title": value.mark,
                    "classes": ["n", f"origin-{slug(value.mark)}"]}
        if column == "method" and value in METHODS:
            return {"text": METHODS[value], "mark": mark(value), "classes": []}
        if self._numeric[column]:
            whole = float(value).is_integer() and not isinstance(value, float)
            # a cosine has no unit, which tells it from the accuracy of a variant of that name
            cosine = "cosine" in f"{column} {row}" and str(column) not in self.units
            form = "," if whole else ".3f" if cosine else ".1f"
            return {"text": f"{value:{form}}", "sort": f"{value:.4f}",
                    "classes": ["n"]}
        return {"text": str(value), "classes": [slug(value)] if column == "verdict" else []}

    def _shown_cell(self, column, cell):
        top, classes = self.best.get(column), ["n"]
        if top is not None and cell.mean == top.mean:
            classes.append("best")
        elif top is not None and top.mean - cell.mean <= max(top.std or 0, cell.std or 0):
            classes.append("tie")
        mean, _, spread = str(cell).partition(" ")
        flag = "" if not cell.apart else (
            f"⚠ {cell.mean_without:.1f} without seed {', '.join(map(str, cell.apart))}")
        seeds = ", ".join(f"{seed}: {value:.1f}" for seed, value in cell.seeds)
        return {"text": mean, "small": spread, "flag": flag, "sort": f"{cell.mean:.4f}",
                "classes": classes, "title": f"seeds {seeds}" if spread else ""}

    def _legend(self):
        """What the marks of this table mean, a sentence each."""
        cells = [cell for column in self.frame for cell in self.frame[column]
                 if isinstance(cell, Cell)]
        counts = sorted({len(cell.seeds) for cell in cells if cell.std is not None})
        if counts:
            yield (f"± is the sample standard deviation over {' or '.join(map(str, counts))} "
                   "seeds; numbers without it are of one run.")
        if any(top is not None for top in self.best.values()):
            yield ("Bold: highest of its column; dotted line: below it by no more than the larger "
                   "of the two deviations.")
        if any(cell.apart for cell in cells):
            yield (f"⚠: a seed lies more than {COLLAPSE:g} points from the median of its seeds; "
                   "the mean without it stands beside.")
        pairs = {value.pairs for column in self.frame for value in self.frame[column]
                 if isinstance(value, Interval) and value.pairs}
        if pairs:
            yield (f"Differences are means over {' or '.join(map(str, sorted(pairs)))} pairs of "
                   "runs with equal dataset, shots, seed and test images; in brackets the 95 % "
                   "interval over test images and seeds, as for the claims.")


def listed(values: dict[str, Any], caption: str, name: str, what: str, value: str,
           unit: str = "") -> Table:
    """Return a table of two columns: `what` holds the keys of `values`, `value` their values.

    unit: of all values.
    """
    frame = pd.DataFrame({what: list(values), value: list(values.values())})
    return Table(frame, caption, name, units={value: unit} if unit else None)


def claims_table(verdicts: pd.DataFrame) -> Table:
    """Return the claims' table as pages show it: the verdict beside the claim, few columns.

    verdicts: what `claims.table.claims` returns.
    """
    lines = [{"claim": claim["claim"], "verdict": claim["verdict"],
              "difference": Interval(claim["difference"], claim["low"], claim["high"], 0),
              "margin": claim["margin"], "p": f"{claim['p']:.2g}",
              "detectable": float(claim["detectable"]), "measured": claim["measured"],
              "runs that collapsed": f"{claim['collapsed']}; without them "
              f"{claim['verdict_without']}, {claim['difference_without']:+.1f}"
              if claim["collapsed"] else ""} for claim in verdicts.to_dict("records")]
    frame = pd.DataFrame(lines)
    if not verdicts["collapsed"].any():
        frame = frame.drop(columns="runs that collapsed", errors="ignore")
    return Table(frame, "The claims that this suite can test. Difference: of the least favourable "
                 "comparison, in points, with its 95 % interval; margin: the differences for which "
                 "the claim holds; detectable: the smallest difference from the margin that could "
                 "have been seen. Inferred: not said in the paper's abstract, but it follows from "
                 "its argument.", "claims")


def mark(method: str) -> Markup:
    """Return a method's marker in its colour as a small inline SVG, for tables and legends."""
    style = MarkerStyle(MARKERS[method])
    path = style.get_path().transformed(style.get_transform() + Affine2D().scale(10, -10))
    shape = "".join(CURVES[code] + " ".join(f"{place:.0f}" for place in places)
                    for places, code in path.iter_segments())
    return Markup(f'<svg class="mark" viewBox="-8 -8 16 16" aria-hidden="true"><path d="{shape}" '
                  f'fill="{COLOURS[method]}" stroke="{COLOURS[method]}"/></svg>')


def _all_numbers(values):
    """Are all values of a column numbers, those apart that are missing?"""
    there = [value for value in values if not _missing(value)]
    return bool(there) and all(isinstance(value, (Cell, Interval, Quoted, int, float))
                               or hasattr(value, "dtype") for value in there)


def _largest(values):
    cells = [value for value in values if isinstance(value, Cell)]
    return max(cells, key=lambda cell: cell.mean) if cells else None


def _missing(value):
    return value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA
