"""A colour and a marker for each method; neither means anything else in a figure or table.

Each two colours differ by at least 20 in CIELAB, also as people see them who lack one of the three
kinds of cones (tests/test_plots.py measures it), and each has its own marker.
"""

from .params.methods import BLOCKS

COLOURS = {"zero_shot": "#56616d", "ensemble": "#a08e6e", "linear_probe": "#0b1026",
           "tip_adapter": "#4b00e1",
           **{name: block.colour for name, block in BLOCKS.items()}}
MARKERS = {"zero_shot": "_", "ensemble": "x", "linear_probe": "^", "tip_adapter": "*",
           **{name: block.marker for name, block in BLOCKS.items()}}
# colours of no method: text and axes, grids, what is in the background, right, wrong
INK, GRID, SOFT, GOOD, BAD = "#1d2733", "#e6eaee", "#c9d1d9", "#2a8f63", "#b3503f"
