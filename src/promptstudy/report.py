"""reports/index.html, the page to open first: tables, figures, claims, links to other pages."""

from pathlib import Path

from .claims.table import claims
from .files import file_sha256, write_text
from .params.methods import BLOCKS
from .published.comparison import compare
from .published.page import headline, overview, papers_page
from .rendering import html_table, render
from .results import (
    METHODS,
    TRANSFER,
    average_over_datasets,
    base_to_new_table,
    complete_rows,
    main_rows,
    over_seeds,
    read_results,
    shots_label,
    transfer_runs,
)

PAGES = {  # stem: what is on the page, and is there one for every dataset?
    "00_pocket_clip": (
        "Pocket CLIP: where the default backbone comes from, what it is and is not", False),
    "01_describe": (
        "class descriptions: what a language model was asked, said, and is worth", True),
    "02_features": ("features, few-shot draws and zero-shot geometry", True),
    "03_coop": ("CoOp: the prompt, the loss, the schedule, training, what was learned", True),
    "04_dualpt": (
        "DuAl-PT: optimal transport, the two alignments, training, what prompts look at", True),
    "05_dualview": (
        "the dual-view method, KgCoOp and ProGrad: two views of a text, their mutual "
        "information, augmentation of image features, training", True),
    "06_aape": ("AAPE: reference prompts, what the aggregator picks, training, retrieval", True),
    "07_evaluate": (
        "scores on test images, here and elsewhere, classes that gain and lose, example "
        "predictions", False),
    "08_figures": ("the figures of this page and the papers' claims", False)}


def write_report(params):
    """Write index.html, papers.html and results.md from results.csv; return the first's path.

    All are in reports/. papers.html holds the published numbers, and ours beside them; results.md
    is the small table that the README shows.
    """
    reports = params.root / "reports"
    results = read_results(reports / "results.csv")
    seeds = ", ".join(map(str, params.seeds))
    backbone = ", ".join(results["backbone"].unique())
    scope = f"suite {params.suite}, backbone {backbone}, seeds {seeds}; data: results.csv"
    main = main_rows(results, params)
    comparison = compare(results, params)
    write_text(reports / "papers.html", papers_page(comparison, params))
    page = render(
        "index.html", suite=params.suite, backbone=backbone, seeds=seeds,
        about=params.about_backbone, few_shot=_few_shot_tables(results),
        base_to_new=_html(_base_to_new(main), 3), base_to_new_shots=params.base_to_new_shots,
        transfer=params.transfer, methods=params.methods,
        **{protocol: _html(_transfer(results, protocol), 2) for protocol in TRANSFER},
        ablations={method: _html(_ablations(results, method, params.methods[method]), 1)
                 for method in ("dualview", "aape") if method in params.methods},
        retrieval=_html(_retrieval(main), 3), claims=_html(claims(results, params), 3),
        pages=_pages(params),
        papers={"headline": headline(comparison), "overview": overview(comparison)},
        captions={
            "few_shot": "Accuracy against labelled images per class; error bars are the standard "
                        f"deviation over seeds. Stage figures; {scope}.",
            "base_to_new": "Accuracy on base and new classes and their harmonic mean. "
                           f"Stage figures; {scope}.",
            "cross_dataset": "Prompts learned on the first dataset and tested on each. Error bars "
                             "are the standard deviation over seeds, dashed lines zero-shot CLIP. "
                             f"Stage figures; {scope}.",
            "domain": "Prompts learned on the first dataset and tested on its images and on "
                      f"shifted ones; error bars and lines as above. Stage figures; {scope}.",
            "ablations": "Context length, class-specific contexts, place of the class name, "
                         f"initial words. Stage figures; {scope}.",
            "dualpt_ablations": "DuAl-PT without its alignments, with other numbers of prompts, "
                                f"other descriptions and uniform plans. Stage figures; {scope}.",
            "dualview_ablations": "The dual-view method without its parts, with other weights, "
                                  "bounds, critics and Mixup, and with other shares of its views. "
                                  f"Stage figures; {scope}.",
            "trade_off": "Accuracy on new against base classes; beside the curve stands the weight "
                         f"of mutual information. Stage figures; {scope}.",
            "aape_ablations": "AAPE without its distillation or with other weights of it, with "
                              "other aggregators, fewer or wrong prompts and other projections, "
                              "and with the AAPE of another image. "
                              f"Stage figures; {scope}.",
            "typicality": "Gain on zero-shot CLIP by how close an image is to the mean of its "
                          f"class's training images. Stage figures; {scope}."},
        provenance=_provenance(params))
    write_text(reports / "index.html", page)
    tables = [_markdown(_few_shot(main, "average")),
              _markdown(_base_to_new(main).query("dataset == 'average'").drop(columns="dataset"))]
    write_text(reports / "results.md", "\n".join(tables))
    return reports / "index.html"


def _few_shot_tables(results):
    datasets = results[results["protocol"] == "few_shot"]["dataset"].unique()
    names = {"average": "Mean over datasets"} | {name: name for name in datasets}
    return [(title, _html(_few_shot(results, name), 2)) for name, title in names.items()]


def _few_shot(results, dataset):
    """Few-shot accuracy of a dataset or of `average`: a row a variant, a column a shot count."""
    rows = results[results["protocol"] == "few_shot"]
    rows = (average_over_datasets(rows) if dataset == "average"
            else rows[rows["dataset"] == dataset])
    summary = over_seeds(rows)
    summary["cell"] = [f"{row.mean:.1f}" + (f" ± {row.std:.1f}" if row.seeds > 1 else "")
                       for row in summary[["mean", "std", "seeds"]].itertuples()]
    wide = summary.pivot(index=["method", "variant"], columns="shots", values="cell").fillna("")
    wide = wide.reindex([key for method in METHODS for key in wide.index if key[0] == method])
    wide.columns = [shots_label(shots) for shots in wide.columns]
    return wide.rename(index=METHODS, level="method").reset_index()


def _base_to_new(results):
    """Base, new and H: the mean over datasets first, methods in their usual order."""
    wide = base_to_new_table(results).round(1).reset_index().rename_axis(columns=None)
    order = {name: place for place, name in enumerate(("average", *results["dataset"].unique()))}
    places = {method: place for place, method in enumerate(METHODS)}
    wide = wide.sort_values(["dataset", "method"],
                            key=lambda column: column.map({**order, **places}))
    wide["method"] = wide["method"].map(METHODS)
    wide = wide.rename(columns={"mean_of_h": "mean of H"})
    return wide.astype(object).where(wide.notna(), "")


def _transfer(results, protocol):
    """Accuracy on each kind of test images, a row a variant, methods in their usual order."""
    runs = transfer_runs(results, protocol).groupby(["method", "variant"])
    means, deviations = runs.mean(), runs.std(ddof=0)
    cells = means.map("{:.1f}".format) + deviations.map(
        lambda value: f" ± {value:.1f}").where(runs.size() > 1, "")
    cells = cells.loc[[key for method in METHODS for key in cells.index if key[0] == method]]
    cells = cells.rename(index=METHODS, level="method")
    return cells.rename(columns={"mean": TRANSFER[protocol]}).reset_index()


def _ablations(results, method, block):
    """Base, new and H of a method's variants, as means over the ablations' datasets."""
    variants = block.base_to_new_labels
    wide = _base_to_new(complete_rows(results, method, "base_to_new", variants))
    wide = wide.query("dataset == 'average'").drop(columns=["dataset", "method"])
    return wide.set_index("variant").loc[variants].reset_index()


def _retrieval(results):
    """Recall of every method's retrieval, a column for each rank, in both directions."""
    rows = over_seeds(results[results["protocol"] == "retrieval"])
    rows["direction"] = rows["subset"].str.replace("_", " ")
    rows["method"] = rows["method"].map(METHODS)
    ranks = sorted(rows["metric"].unique(), key=lambda metric: int(metric.split("@")[1]))
    wide = rows.pivot(index=["dataset", "direction", "method"], columns="metric", values="mean")
    return wide[ranks].rename_axis(columns=None).reset_index()


def _html(frame, text_columns):
    return html_table(frame, classes=f"text{text_columns}",
                      float_format=lambda value: f"{value:.1f}")


def _markdown(frame):
    lines = [frame.columns, ["---"] * len(frame.columns), *frame.astype(str).values]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _pages(params):
    """The pages of the suite's stages, some of which may run after this one."""
    not_run = BLOCKS.keys() - params.methods.keys()
    return [{"file": f"{name}.html", "title": name, "summary": summary}
            for stem, (summary, per_dataset) in PAGES.items()
            if stem.partition("_")[2] not in not_run
            for name in ([f"{stem}-{dataset}" for dataset in params.datasets]
                         if per_dataset else [stem])]


def _provenance(params):
    digest = file_sha256(params.root / "params.yaml")[:12]
    packs = sorted(Path(params.root / "artefacts" / "features").glob("*.safetensors"))
    listing = ", ".join(f"{pack.stem} {file_sha256(pack)[:12]}" for pack in packs)
    return f"params.yaml {digest}; features {listing}."
