"""reports/papers.html: ours beside the papers, and all published numbers with their origin."""

import pandas as pd

from ..params import Params
from ..rendering import render, slug
from ..results import METHODS, shots_label
from ..tables import Quoted, Table
from .comparison import CELL, TOLERANCES, PaperComparison
from .numbers import MARKS, load_datasets, load_numbers, load_sources, placed

# Tables of numbers.csv in the page's order: title, what a row is, what a column is.
TABLES = {
    "few_shot_rn50_16": ("Few-shot, RN50, 16 shots", ["target"], ["method", "metric", "mark"]),
    "few_shot_rn50": ("Few-shot, RN50, by number of shots",
                      ["target", "mark"], ["method", "shots"]),
    "few_shot_vit_b16": ("Few-shot, ViT-B/16, average of 11",
                         ["method", "variant", "mark"], ["shots"]),
    "few_shot_vit_b16_datasets": ("Few-shot, ViT-B/16, 1 and 2 shots",
                                  ["target", "mark"], ["method", "shots"]),
    "base_to_new_vit_b16": ("Base to new, ViT-B/16", ["target", "mark"], ["method", "classes"]),
    "base_to_new_vit_b16_averages": ("Base to new, ViT-B/16, further averages",
                                     ["paper", "method", "variant", "mark"], ["classes"]),
    "base_to_new_vit_b32": ("Base to new, ViT-B/32, averages",
                            ["method", "variant", "mark"], ["classes"]),
    "cross_dataset": ("From ImageNet to other datasets, ViT-B/16", ["target"], ["method", "mark"]),
    "domain": ("From ImageNet to shifted ImageNets, ViT-B/16",
               ["method", "variant", "mark"], ["target"]),
    "domain_by_backbone": ("From ImageNet to shifted ImageNets, by backbone",
                           ["backbone", "method", "variant", "mark"], ["target"]),
    "prompt_engineering": ("Hand-crafted, ensembled and learned prompts on ImageNet",
                           ["backbone", "mark"], ["method"]),
    "initial_words": ("CoOp from words or from noise, average of 11",
                      ["method", "mark"], ["variant"]),
    "retrieval": ("Texts found for an image",
                  ["backbone", "method", "mark"], ["target", "metric"]),
    "captioning": ("Captions by a frozen language model, CIDEr-D",
                   ["method", "mark"], ["target", "classes"]),
    "vqa": ("Answers of a frozen language model, VQAv2", ["method", "mark"], ["shots"])}
WORDS = {"mean_of_h": "mean of H", "gain": "gain over zero-shot", "top1": ""}
SCOPE = ["backbone", "shots", "classes"]  # columns that go without saying where they are constant


def papers_page(comparison: PaperComparison, params: Params) -> str:
    """Return the page as HTML: compared cells, why others are not, tolerances, all numbers."""
    numbers = load_numbers()
    published = [{"id": slug(title), "title": title, "papers": ", ".join(part["paper"].unique()),
                  "table": Table(_wide(_shown(part), rows, columns), f"{title}, as published.",
                                 f"published {title}").html, "notes": _notes(part)}
                 for part, (title, rows, columns) in _by_table(numbers)]
    compared = [{"title": title, "scope": _scope(part), "table": Table(
        _long(part), f"{title}: the paper's numbers and ours.", f"compared {title}").html}
                for part, (title, *_) in _by_table(comparison.cells)]
    tolerances = pd.DataFrame([tolerance[:3] for tolerance in TOLERANCES],
                              columns=["cells", "points", "why"])
    return render("papers.html", title="The papers' numbers, and ours beside them",
                  suite=params.suite, about=params.about_backbone,
                  headline=headline(comparison), set_aside=comparison.set_aside,
                  compared=compared, tolerances=Table(
                      tolerances, "In points; the first line that covers a cell applies to it.",
                      "tolerances").html,
                  published=published, n_published=len(numbers), marks=MARKS,
                  counts=numbers["mark"].map(_origin).value_counts().to_dict(),
                  sources=load_sources().to_dict())


def headline(comparison: PaperComparison) -> str:
    """Return in one sentence how many numbers are compared and how many lie within tolerance."""
    cells = comparison.cells
    if cells.empty:
        return ("None of this suite's results is compared with a paper's: none was measured under "
                "the conditions of a published number.")
    return (f"{len(cells)} published numbers have one of ours beside them: {cells['within'].sum()} "
            f"of ours lie within their tolerance and {(~cells['within']).sum()} outside.")


def beside(comparison: PaperComparison) -> list[str]:
    """Return sentences that set few-shot numbers of papers beside ours, one for each dataset.

    They are zero-shot CLIP's and those with the most shots; of averages over datasets only, if
    there are any. A number that several papers print is taken from the first.
    """
    cells = comparison.cells
    cells = cells[(cells["protocol"] == "few_shot") & (cells["metric"] == "top1")]
    cells = cells[cells["shots"].isin([0, cells["shots"].max()])]
    averages = cells["target"].str.startswith("average_")
    if averages.any():
        cells = cells[averages]
    shown = _shown(cells.drop_duplicates(CELL))
    return [f"{target}, {backbone}. " + "; ".join(map(_paper_and_ours, part.itertuples())) + "."
            for (target, backbone), part in shown.groupby(["target", "backbone"], sort=False)]


def _paper_and_ours(cell):
    name = cell.method if cell.method == METHODS["zero_shot"] else f"{cell.method}, {cell.shots}"
    return f"{name}: paper {cell.value:.1f} %, yours {cell.mean:.1f} %"


def overview(comparison: PaperComparison) -> str:
    """Return an HTML table of how the compared cells of each published table came out, or ""."""
    lines = [{"published table": title, "cells": len(part), "within": part["within"].sum(),
              "outside": (~part["within"]).sum(),
              "mean difference": f"{part['difference'].mean():+.2f}",
              "largest": f"{part.loc[part['difference'].abs().idxmax(), 'difference']:+.2f}"}
             for part, (title, *_) in _by_table(comparison.cells)]
    return Table(pd.DataFrame(lines), "How the compared numbers of each published table came out, "
                 "differences in points.", "paper and ours").html if lines else ""


def _by_table(frame):
    """Pairs of a table's rows and its entry in `TABLES`, of those that have rows."""
    return [(part, about) for name, about in TABLES.items()
            if not (part := frame[frame["table"] == name]).empty]


def _shown(frame):
    """Published numbers or compared cells with the words that a reader sees."""
    titles = load_datasets()["title"].to_dict()
    shown = placed(frame).replace({"classes": WORDS, "metric": WORDS})
    shown["target"] = [titles.get(name, name.replace("_", " of ").capitalize()
                                  if name.startswith("average_") else name)
                       for name in shown["target"]]
    shown["method"] = [METHODS.get(name, name) for name in shown["method"]]
    shown["shots"] = [shots_label(count) if pd.notna(count) else "" for count in shown["shots"]]
    shown["mark"] = "[" + shown["mark"] + "]"
    return shown


def _wide(shown, rows, columns):
    """A published table, its rows and columns in the order of numbers.csv."""
    shown = shown.assign(quoted=[Quoted(cell.printed, _origin(cell.mark.strip("[]")))
                                 for cell in shown.itertuples()])
    wide = shown.pivot_table(index=rows, columns=columns, values="quoted", aggfunc="first",
                             sort=False)
    if wide.columns.nlevels > 1:
        wide.columns = [" ".join(filter(None, column)) for column in wide.columns]
    return wide.rename_axis(columns=None).reset_index().rename(columns={"target": "dataset"})


def _origin(mark):
    """The kind of a mark, without its source: one of `MARKS`."""
    return mark.replace(":", " ").split()[0]


def _scope(cells):
    """What all compared cells of a table have in common, in words."""
    return ", ".join(f"{name} {cells[name].iloc[0]}" for name in SCOPE
                     if cells[name].nunique() == 1)


def _long(cells):
    """Compared cells, one per row, without what they all have in common."""
    shown = _shown(cells)
    spread = [f" ± {cell.std:.2f}" if cell.seeds > 1 else "" for cell in shown.itertuples()]
    trained = shown["variant"].where(cells["method"] != "zero_shot", "")
    return pd.DataFrame({
        "dataset": shown["target"], "method": (shown["method"] + " " + trained).str.strip(),
        **{name: cells[name].replace(WORDS) for name in SCOPE if cells[name].nunique() > 1},
        "paper": shown["printed"], "mark": shown["mark"],
        "ours": shown["mean"].map("{:.2f}".format) + spread, "seeds": shown["seeds"],
        "difference": (shown["difference"].round(2) + 0.0).map("{:+.2f}".format),  # no -0.00
        "tolerance": shown["tolerance"],
        "": shown["within"].map({True: "within", False: "outside"})})


def _notes(part):
    """What is to be known of some numbers of a table: `methods: note`, each note once."""
    notes = _shown(part[part["note"] != ""]).groupby("note", sort=False)["method"].unique()
    return [f"{', '.join(methods)}: {note}." for note, methods in notes.items()]

