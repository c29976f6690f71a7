"""Figures: what they show, that equal data give equal files, and that text stays text."""

import inspect

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from hostile import FORMULA, HOSTILE, NAMES, PRICES
from made_up_results import AAPE, PARTS, made_up
from matplotlib.text import Text

from promptstudy.plots import accuracy, cases, inside
from promptstudy.plots.style import save
from promptstudy.results import main_rows, transfer_runs


def test_figures_show_every_dataset_and_method(suite):
    frame = made_up(suite)
    few_shot = accuracy.few_shot(main_rows(frame, suite))
    assert [axis.get_title() for axis in few_shot.axes if axis.get_visible()] == [
        "mean over datasets", "figures", "shapes"]
    main = main_rows(frame, suite)
    bars = accuracy.base_to_new(main).axes[0].patches
    assert len(bars) == 8 * 3  # base, new, H of all methods but the linear probe
    labels = suite.dualview.base_to_new_labels
    panels = accuracy.base_to_new_ablations(frame, "dualview", labels).axes
    assert [axis.get_title() for axis in panels] == ["shapes"]  # no mean of one dataset
    panels = accuracy.trade_off(frame, main, suite.dualview.lambda_curve).axes
    assert [axis.get_title() for axis in panels if axis.get_visible()] == ["shapes"]
    curve, *others = panels[0].lines
    assert [line.get_label() for line in others] == [
        "Zero-shot CLIP", "Prompt ensemble", "CoOp", "ProGrad", "KgCoOp", "DuAl-PT", "AAPE"]
    assert curve.get_xydata().tolist() == [[72.5, 40.5], [69.5, 49.5]]  # weights 0 and 1
    ablations = accuracy.ablations(frame, "coop", ["M4", "M4-csc", "M4-middle"])
    assert [axis.get_title() for axis in ablations.axes] == ["shapes"]
    ablations = accuracy.ablations(frame, "dualpt", ["N2-M4", *PARTS])
    assert [axis.get_title() for axis in ablations.axes] == ["shapes"]
    panels = accuracy.base_to_new_ablations(frame, "aape", suite.aape.base_to_new_labels).axes
    assert [axis.get_title() for axis in panels] == ["shapes"]
    base, new, _ = (container.lines[0].get_xdata() for container in panels[0].containers)
    assert list(base) == [65, *[70] * 5] and list(new) == [45, *(n - 10 for n in AAPE.values())]
    gains = accuracy.typicality(frame).axes[0].containers[0].lines[0].get_ydata()
    assert list(gains) == [10, 5, 0, -5]


@pytest.mark.parametrize("protocol, places, methods", [
    ("cross_dataset", ["shapes", "figures", "mean of the others"], 7),
    ("domain", ["shapes", "original", "lines", "photos", "mean of the shifts"], 8)])
def test_figures_of_transfer_show_every_place_and_method(suite, protocol, places, methods):
    frame = main_rows(made_up(suite), suite)
    axis = accuracy.transfer(frame, protocol).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == places
    assert len(axis.patches) == methods * len(places)  # all but zero-shot CLIP, which are lines
    heights = transfer_runs(frame, protocol).loc["zero_shot"].iloc[0]
    lines = axis.collections[-1].get_segments()
    assert [segment[0][1] for segment in lines] == heights.tolist()
    coop = axis.containers[[c.get_label() for c in axis.containers].index("CoOp")]
    assert [bar.get_height() for bar in coop][:2] == [81.5, 26.5 if methods == 7 else 80.5]


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
    "ablations": (lambda frame, main, params: (frame, "coop", ["M4", "M4-csc", "M4-middle"]),
                [FORMULA]),
    "base_to_new_ablations": (lambda frame, main, params: (
        frame, "dualview", ["M4", "CE only", "MI only", "aug only", FORMULA]), [FORMULA]),
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
