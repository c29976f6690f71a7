"""What all figures share: the theme (set on import), panels, saving, and how they are shown."""

import base64
import hashlib
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from IPython import get_ipython
from markupsafe import Markup
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from ..files import written_whole
from ..palette import COLOURS, GRID, INK, MARKERS
from ..rendering import render, slug

# Text is drawn as it is written, also in figures that notebooks draw themselves: what stands
# between two `$` in a name or a sentence is not a formula.
sns.set_theme(style="ticks", context="notebook", font_scale=0.9,
              rc={"axes.grid": True, "grid.color": GRID, "axes.spines.top": False,
                  "axes.spines.right": False, "figure.dpi": 110, "savefig.dpi": 150,
                  "legend.frameon": False, "svg.hashsalt": "promptstudy", "svg.fonttype": "none",
                  "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
                  "ytick.color": INK, "text.parse_math": False})
SVG = "http://www.w3.org/2000/svg"
# What parts the texts of a line's points in its `gid`; a line break would not survive XML.
TIPS = "\u2029"
NUMBER = re.compile(r"\d+\.\d{3,}")  # more digits than a screen can show
REFERENCE = re.compile(r"#([\w.-]+)")  # to a marker or a clip path, unless it is a colour
FONT = re.compile(r"font-family:[^;]+;")
LARGEST_SVG = 120_000  # characters; a figure of more parts is shown as a picture of its pixels
ET.register_namespace("", SVG)
ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def save(figure: Figure, path: str | Path) -> None:
    """Save a figure as PNG, in one piece and without a date, so that equal figures are equal."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})


def grid(count: int, columns: int = 4, size: tuple[float, float] = (3.4, 3.2),
         **options: Any) -> tuple[Figure, Any]:
    """Return a figure and the axes of its `count` panels, each of that size in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained",
                                figsize=(size[0] * columns, size[1] * rows), **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def method_style(method: str) -> dict[str, Any]:
    """Return the colour and the marker of a method as options of matplotlib."""
    return {"color": COLOURS[method], "marker": MARKERS[method]}


def tips(line: Line2D, texts: list[str]) -> None:
    """Give each point of a line a text, which a page shows when the point is pointed at."""
    line.set_gid(TIPS + TIPS.join(texts))


class Shown:
    """A figure as it is shown, in a page through `html`, in a notebook as a cell's value.

    It is closed, so that a notebook does not show it a second time.
    """

    def __init__(self, figure: Figure, alt: str, caption: str, name: str) -> None:
        """
        alt: what the figure shows, for those who do not see it; caption: what is to be seen, and
        how it was measured; name: of the element in the page, without `-chart`.
        """
        self.html = Markup(render("figure.html", name=f"{slug(name)}-chart", caption=caption,
                                  picture=picture(figure, alt)))
        plt.close(figure)

    def _repr_html_(self):
        return self.html


def picture(figure: Figure, alt: str) -> Markup:
    """Return a figure as HTML: SVG, or PNG with two pixels a point where it holds pixels itself.

    Equal figures give equal bytes.
    """
    if not figure.findobj(lambda artist: isinstance(artist, (AxesImage, QuadMesh))):
        svg = _svg(figure, alt)
        if len(svg) <= LARGEST_SVG:
            return Markup(svg)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=144, bbox_inches="tight", metadata={"Software": None})
    data = base64.b64encode(file.getvalue()).decode()
    width = round(figure.get_figwidth() * 72 * 4 / 3)
    return Markup('<img src="data:image/png;base64,{}" alt="{}" width="{}">').format(
        data, alt, width)


def described(figure: Figure) -> str:
    """Return what a figure shows in words, from its titles, labels and legends."""
    parts = []
    for axis in figure.axes:
        if not axis.get_visible() or not axis.has_data():
            continue
        words = [axis.get_title() or axis.get_title(loc="left")]
        words += [f"{name}: {text}" for name, text in
                  (("horizontal", axis.get_xlabel()), ("vertical", axis.get_ylabel())) if text]
        labels = axis.get_legend_handles_labels()[1]
        words += [f"shown: {', '.join(dict.fromkeys(labels))}"] if labels else []
        parts.append("; ".join(filter(None, words)))
    parts = list(filter(None, dict.fromkeys(parts)))
    return f"Figure of {len(parts) or len(figure.axes)} panels. " + ". ".join(parts)


def _svg(figure, alt):
    """The figure as an SVG element for the body of a page, with texts of its points."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True,
                   metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ET.fromstring(file.getvalue())
    own = "f" + hashlib.sha256(file.getvalue().encode()).hexdigest()[:6]
    ids = {node.get("id") for node in root.iter()}
    wanted = dict.fromkeys(name for name in REFERENCE.findall(file.getvalue())
                           if name in ids)  # other ids serve nobody
    names = {name: f"{own}-{number}" for number, name in enumerate(wanted)}  # unique in a page
    for node in root.iter():
        name = node.attrib.pop("id", "")
        if name.startswith(TIPS):
            for point, text in zip(node.iter(f"{{{SVG}}}use"), name[1:].split(TIPS), strict=True):
                ET.SubElement(point, f"{{{SVG}}}title").text = text
        for key, value in node.attrib.items():
            node.set(key, REFERENCE.sub(lambda found: f"#{names.get(found[1], found[1])}",
                                        _shortened(value)))
        if name in names:
            node.set("id", names[name])
        styles = {child.get("style") for child in node}
        if len(node) > 1 and len(styles) == 1 and all(child.tag.endswith("}use")
                                                      for child in node):
            node.set("style", _shortened(styles.pop() or ""))  # once for all points of a line
            for child in node:
                child.attrib.pop("style", None)
        node.tail = None  # line breaks
        node.text = node.text if (node.text or "").strip() else None
    for name in ("metadata", "defs"):  # what is drawn by, and a style for all of the page
        for node in root.findall(f"{{{SVG}}}{name}"):
            if node.find(f"{{{SVG}}}clipPath") is None:
                root.remove(node)
    root.set("role", "img")
    root.set("aria-label", alt)
    return ET.tostring(root, encoding="unicode")


def _shortened(value):
    """An attribute without digits that no screen shows, spaces and the font: it is the page's."""
    value = FONT.sub("", NUMBER.sub(lambda found: f"{float(found[0]):.2f}", value))
    return re.sub(r"\s+", " ", value).strip()


def _show_in_notebooks():
    """Let notebooks show every figure with a description, also those that they draw themselves.

    Asked for after each cell as well, since matplotlib's inline backend forgets it when it starts,
    with the first figure; that is before it shows the figures of the cell.
    """
    shell = get_ipython()
    if shell is not None:
        def show():
            shell.display_formatter.formatters["text/html"].for_type(
                Figure, lambda figure: picture(figure, described(figure)))

        show()
        shell.events.register("post_execute", show)


_show_in_notebooks()
