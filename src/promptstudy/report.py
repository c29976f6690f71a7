"""reports/index.html, the page to open first: tables, figures, claims, links to notebooks."""

import json
from pathlib import Path

import pandas as pd

from .claims import claims
from .files import file_sha256, write_text
from .notebooks import render
from .results import METHODS, average_over_datasets, base_to_new_table, over_seeds, read_results

PAGES = {
    "00_pocket_clip": "Pocket CLIP: where the default backbone comes from, what it is and is not",
    "02_features": "features, few-shot draws and zero-shot geometry",
    "03_coop": "CoOp: the prompt, the loss, the schedule, training, what was learned",
    "07_evaluate": "scores on test images, classes that gain and lose, example predictions",
    "08_figures": "the figures of this page and the paper's claims"}


def write_index(params):
    """Write reports/index.html from results.csv and return its path."""
    reports = params.root / "reports"
    results = read_results(reports / "results.csv")
    seeds = ", ".join(map(str, params.seeds))
    backbone = ", ".join(results["backbone"].unique())
    scope = f"suite {params.suite}, backbone {backbone}, seeds {seeds}; data: results.csv"
    page = render(
        "index.html", suite=params.suite, backbone=backbone, seeds=seeds,
        about=_about(params), few_shot=_few_shot_tables(results),
        base_to_new=_base_to_new(results), base_to_new_shots=params.base_to_new_shots,
        claims=_html(claims(results, params)), pages=_pages(params),
        captions={
            "few_shot": "Accuracy against labelled images per class; error bars are the standard "
                        f"deviation over seeds. Stage figures; {scope}.",
            "base_to_new": "Accuracy on base and new classes and their harmonic mean. "
                           f"Stage figures; {scope}.",
            "studies": "Context length, class-specific contexts, place of the class name, initial "
                       f"words. Stage figures; {scope}."},
        provenance=_provenance(params))
    write_text(reports / "index.html", page)
    return reports / "index.html"


def _few_shot_tables(results):
    rows = results[results["protocol"] == "few_shot"]
    summary = over_seeds(pd.concat([average_over_datasets(rows), rows]))
    summary["cell"] = [f"{row.mean:.1f}" + (f" ± {row.std:.1f}" if row.seeds > 1 else "")
                       for row in summary[["mean", "std", "seeds"]].itertuples()]
    tables = []
    for dataset in ["average", *rows["dataset"].unique()]:
        wide = summary[summary["dataset"] == dataset].pivot(
            index=["method", "variant"], columns="shots", values="cell").fillna("")
        wide = wide.reindex([key for method in METHODS for key in wide.index if key[0] == method])
        wide.columns = ["no images" if shots == 0 else f"{shots} shots" for shots in wide.columns]
        wide = wide.rename(index=METHODS, level="method").reset_index()
        title = "Mean over datasets" if dataset == "average" else dataset
        tables.append((title, _html(wide)))
    return tables


def _base_to_new(results):
    wide = base_to_new_table(results).round(1).reset_index()
    wide["method"] = wide["method"].map(METHODS)
    wide = wide.rename(columns={"mean_of_h": "mean of H"})
    return _html(wide.astype(object).where(wide.notna(), ""))


def _html(frame):
    return frame.to_html(index=False, border=0, float_format=lambda value: f"{value:.1f}")


def _pages(params):
    found = []
    for stem, summary in PAGES.items():
        for page in sorted((params.root / "reports").glob(f"{stem}*.html")):
            found.append({"file": page.name, "title": page.stem, "summary": summary})
    return found


def _about(params):
    """The model's own description of itself, for backbones that carry one."""
    folder = params.root / params.backbone.name.removeprefix("local-dir:")
    record = folder / "build.json"
    return json.loads(record.read_text()).get("about", "") if record.is_file() else ""


def _provenance(params):
    digest = file_sha256(params.root / "params.yaml")[:12]
    packs = sorted(Path(params.root / "artefacts" / "features").glob("*.safetensors"))
    listing = ", ".join(f"{pack.stem} {file_sha256(pack)[:12]}" for pack in packs)
    return f"params.yaml {digest}; features {listing}."
