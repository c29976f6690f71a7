"""Figures: what they show, that equal data give equal files, and that text stays text."""

import inspect
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from hostile import FORMULA, HOSTILE, NAMES, PRICES
from made_up_results import AAPE, PARTS, made_up, outcomes_of
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from promptstudy.claims.evidence import Evidence
from promptstudy.palette import COLOURS, MARKERS
from promptstudy.plots import accuracy, cases, inside
from promptstudy.plots.style import picture, save
from promptstudy.results import main_rows, transfer_runs


def test_figures_show_every_dataset_and_method(suite):
    frame = made_up(suite)
    evidence = Evidence(frame, outcomes_of(frame), suite)
    few_shot = accuracy.few_shot(main_rows(frame, suite))
    assert [axis.get_title() for axis in few_shot.axes if axis.get_visible()] == [
        "mean over datasets", "figures", "shapes"]
    main = main_rows(frame, suite)
    groups = accuracy.base_to_new(main).axes[0].containers
    assert [len(group.lines[0].get_xdata()) for group in groups] == [3] * 8  # base, new, H
    labels = suite.dualview.base_to_new_labels
    panels = accuracy.ablations(evidence, "dualview", "base_to_new", labels[0], labels).axes
    assert [axis.get_title() for axis in panels] == ["new", "H"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == labels[1:]
    panels = accuracy.trade_off(frame, main, suite.dualview.lambda_curve).axes
    assert [axis.get_title() for axis in panels if axis.get_visible()] == ["shapes"]
    curve, *others = panels[0].lines
    assert [line.get_label() for line in others] == [
        "Zero-shot CLIP", "Prompt ensemble", "CoOp", "ProGrad", "KgCoOp", "DuAl-PT", "AAPE"]
    assert curve.get_xydata().tolist() == [[72.5, 40.5], [69.5, 49.5]]  # weights 0 and 1
    panels = accuracy.ablations(evidence, "coop", "few_shot", "M4", ["M4-csc", "M4-middle"]).axes
    assert [axis.get_title() for axis in panels] == ["1 shot", "2 shots"]
    drawn, = accuracy.ablations(evidence, "dualpt", "few_shot", "N2-M4", list(PARTS)).axes
    points = drawn.containers[0].lines[0]
    assert list(points.get_xdata()) == [n - 61.5 for n in PARTS.values()]  # 1 shot, two seeds
    labels = suite.aape.base_to_new_labels
    new = accuracy.ablations(evidence, "aape", "base_to_new", labels[0], labels).axes[0]
    points = new.containers[0].lines[0]
    assert list(points.get_xdata()) == [n - 10 - 45 for n in AAPE.values()]
    gains = accuracy.typicality(main).axes[0].containers[0].lines[0].get_ydata()
    assert list(gains) == [10, 5, 0, -5]


@pytest.mark.parametrize("protocol, places, methods", [
    ("cross_dataset", ["shapes", "figures", "mean of the others"], 7),
    ("domain", ["shapes", "original", "lines", "photos", "mean of the shifts"], 8)])
def test_figures_of_transfer_show_every_place_and_method(suite, protocol, places, methods):
    frame = main_rows(made_up(suite), suite)
    axis = accuracy.transfer(frame, protocol).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == places
    drawn = sum(len(group.lines[0].get_xdata()) for group in axis.containers)
    assert drawn == methods * len(places)  # zero-shot CLIP is lines
    heights = transfer_runs(frame, protocol).loc["zero_shot"].iloc[0]
    lines = axis.collections[-1].get_segments()
    assert [segment[0][1] for segment in lines] == heights.tolist()
    coop = axis.containers[[c.get_label() for c in axis.containers].index("CoOp")]
    assert list(coop.lines[0].get_ydata()[:2]) == [81.5, 26.5 if methods == 7 else 80.5]


def seen(colour, without):
    """A colour in CIELAB, as people see it who lack one kind of cones (Machado et al., 2009)."""
    linear = colour_matrix(without) @ [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                                       for c in to_rgb(colour)]
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]]) @ linear.clip(0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def colour_matrix(without):
    return np.array({
        "nothing": np.eye(3),
        "long": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                 [-0.003882, -0.048116, 1.051998]],
        "medium": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]],
        "short": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                  [0.004733, 0.691367, 0.303900]]}[without])


@pytest.mark.parametrize("without", ["nothing", "long", "medium", "short"])
def test_methods_are_told_apart_by_colour_and_by_marker(without):
    places = {method: seen(colour, without) for method, colour in COLOURS.items()}
    for one, other in itertools.combinations(places, 2):
        assert np.linalg.norm(places[one] - places[other]) >= 20, (one, other)
    assert len(set(MARKERS.values())) == len(MARKERS) == len(COLOURS)


def test_saved_figures_are_equal_for_equal_data(suite, tmp_path):
    for name in ("one.png", "two.png"):
        save(accuracy.base_to_new(main_rows(made_up(suite), suite)), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# text that others wrote


def frame_of(suite):
    """The made-up results, where datasets, kinds of test images and a variant are hostile."""
    return made_up(suite).replace({
        "dataset": {"shapes": FORMULA, "figures": PRICES}, "variant": {"predicts": FORMULA},
        "subset": {"shapes": FORMULA, "figures": PRICES, "lines": HOSTILE[0], "photos": "$x$"}})


def pictures(count):
    return [torch.rand(8, 8, 3).numpy() for _ in range(count)]


def example():
    ranked = [(name, 100 / (place + 1)) for place, name in enumerate(NAMES)]
    return {"path": f"{FORMULA}/{PRICES}.png", "truth": FORMULA, "before": ranked, "after": ranked}


DRAWING = {name: found for module in (accuracy, cases, inside)
           for name, found in inspect.getmembers(module, inspect.isfunction)
           if found.__module__ == module.__name__ and not name.startswith("_")}
N = len(NAMES)
FIGURES = {  # name: how to draw it from hostile results, and what it has to show
    "few_shot": (lambda frame, main, params: (main,), [FORMULA, PRICES]),
    "base_to_new": (lambda frame, main, params: (main,), [FORMULA, PRICES]),
    "transfer": (lambda frame, main, params: (main, "domain"), [FORMULA, HOSTILE[0], "$x$"]),
    "ablations": (lambda frame, main, params: (
        Evidence(frame, outcomes_of(frame), params), "dualview", "base_to_new", "M4",
        ["CE only", "MI only", FORMULA]), [FORMULA]),
    "trade_off": (lambda frame, main, params: (frame, main, params.dualview.lambda_curve),
                  [FORMULA]),
    "typicality": (lambda frame, main, params: (frame,), [FORMULA, PRICES]),
    "training_curves": (lambda *_: ({name: torch.rand(5, 2) for name in NAMES}, [1, 2]), NAMES),
    "prompt_layouts": (lambda *_: ({name: [(name, "name")] for name in NAMES},), NAMES),
    "heat_map": (lambda *_: (torch.rand(N, N).numpy(), NAMES, NAMES, FORMULA, PRICES), NAMES),
    "similarities": (lambda *_: ({FORMULA: torch.rand(N, N), PRICES: torch.rand(N, N)}, NAMES),
                     NAMES),
    "feature_space": (lambda *_: ((torch.rand(N, 4), torch.arange(N)), {
        FORMULA: (torch.rand(N, 4), torch.arange(N))}, NAMES), NAMES),
    "matrices": (lambda *_: ({name: torch.rand(2, 2).numpy() for name in NAMES},), NAMES),
    "attention_maps": (lambda *_: (torch.rand(N, 2, 2, 2), NAMES, pictures(N)), NAMES),
    "sentence_weights": (lambda *_: ([[0.5] * N] * 2, [NAMES] * 2, [FORMULA, PRICES],
                                     pictures(2)), NAMES),
    "picture_grid": (lambda *_: ({name: pictures(2) for name in NAMES},), NAMES),
    "example_predictions": (lambda *_: ([example()] * 2, pictures(2), FORMULA), [
        f"{FORMULA}/{PRICES}.png ({FORMULA})", f"{FORMULA}  20%",
        f"zero-shot CLIP (left) and {FORMULA} (right); the right class is green"]),
    "class_changes": (lambda *_: ({name: pd.Series(range(N), index=NAMES) for name in NAMES[4:]},),
                      [*NAMES, f"{FORMULA}: 7 classes up, 0 down"])}


def test_every_function_that_draws_is_tried():
    assert set(DRAWING) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_show_text_as_it_stands(suite, tmp_path, name):
    frame = frame_of(suite)
    arguments, expected = FIGURES[name]
    figure = DRAWING[name](*arguments(frame, main_rows(frame, suite), suite))
    save(figure, tmp_path / "figure.png")
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert set(expected) <= {text.get_text() for text in texts}
    assert not [text for text in texts if text.get_parse_math()]
    for axis in figure.axes:  # labels that matplotlib writes as formulas stand nowhere
        labels = [label.get_text() for a in (axis.xaxis, axis.yaxis)
                  for label in a.get_ticklabels(which="both")]
        assert not [label for label in labels if r"\math" in label]
    plt.close(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_everything_that_a_page_s_figure_refers_to_is_in_it(suite, name):
    """A marker or a clip path that is not found is not drawn, without a word."""
    frame = frame_of(suite)
    figure = DRAWING[name](*FIGURES[name][0](frame, main_rows(frame, suite), suite))
    shown = BeautifulSoup(picture(figure, "alt"), "html.parser")
    defined = {node["id"] for node in shown.find_all(id=True)}
    drawn = {node["xlink:href"].removeprefix("#") for node in shown.find_all("use")}
    clipped = {node["clip-path"][5:-1] for node in shown.find_all(attrs={"clip-path": True})}
    assert drawn | clipped <= defined
    if name == "feature_space":
        assert len(drawn) > 1  # dots and the legend's
    plt.close(figure)


def test_figures_that_notebooks_draw_themselves_show_text_as_it_stands(tmp_path):
    figure, axis = plt.subplots()
    axis.set_xscale("log", base=2)  # as 03_coop does
    axis.set_xticks([1, 2, 4], [FORMULA, "2", "4"])
    axis.plot([1, 4], [1, 2], label=FORMULA)
    axis.set(title=FORMULA, xlabel=PRICES)
    axis.bar_label(axis.bar([1, 2], [1, 2]), [FORMULA, PRICES])
    axis.legend()
    save(figure, tmp_path / "figure.png")
    labels = [label.get_text() for label in axis.get_xticklabels(which="both") if label.get_text()]
    assert labels == [FORMULA, "2", "4"]
    plt.close(figure)
