"""What all figures share: the theme (set on import), methods' colours, panels, saving."""

import matplotlib.pyplot as plt
import seaborn as sns

from ..files import written_whole
from ..params.methods import BLOCKS

COLOURS = {"zero_shot": "#5b6875", "ensemble": "#8f6fb0", "linear_probe": "#3a9a78",
           **{name: block.colour for name, block in BLOCKS.items()}}
# Text is drawn as it is written, also in figures that notebooks draw themselves: what stands
# between two `$` in a name or a sentence is not a formula.
sns.set_theme(style="ticks", context="notebook", font_scale=0.9,
              rc={"axes.grid": True, "grid.color": "#e6eaee", "axes.spines.top": False,
                  "axes.spines.right": False, "figure.dpi": 110, "savefig.dpi": 150,
                  "legend.frameon": False, "svg.hashsalt": "promptstudy",
                  "text.parse_math": False})


def save(figure, path):
    """Save a figure as PNG, in one piece and without a date, so that equal figures are equal."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})


def grid(count, columns=4, size=(3.4, 3.2), **options):
    """Return a figure and the axes of its `count` panels, each of that size in inches."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False, layout="constrained",
                                figsize=(size[0] * columns, size[1] * rows), **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]
