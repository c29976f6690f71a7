"""The pages of the report that no notebook is: index.html, papers.html; and the README's table."""

from pathlib import Path

from .cells import base_to_new_cells, datasets_of, few_shot_cells
from .claims.evidence import Evidence
from .files import file_sha256, write_text
from .index_page import index_page
from .params import Params
from .params.methods import BLOCKS
from .published.comparison import compare
from .published.page import beside, headline, overview, papers_page
from .results import METHODS, main_rows, read_results, shots_label

PAGES = {  # stem: what it is called, what is on it, and is there one for every dataset?
    "00_pocket_clip": (
        "Pocket CLIP", "where the default backbone comes from, what it is and is not", False),
    "01_describe": ("Class descriptions",
                    "what a language model was asked, said, and is worth", True),
    "02_features": ("Features", "few-shot draws and zero-shot geometry", True),
    "03_coop": ("CoOp", "the prompt, the loss, the schedule, what was learned", True),
    "04_dualpt": (
        "DuAl-PT", "optimal transport, the two alignments, what prompts look at", True),
    "05_dualview": (
        "Dual-view", "two views of a text, their mutual information, augmentation of image "
        "features; KgCoOp and ProGrad", True),
    "06_aape": ("AAPE", "reference prompts, what the aggregator picks, retrieval", True),
    "07_evaluate": (
        "Evaluation", "scores on test images, classes that gain and lose, example predictions",
        False),
    "08_figures": ("Figures", "all figures of the results, and the papers' claims", False),
    "09_captioning": (
        "Captions and answers", "AAPE with a frozen language model that reads images", False)}


def write_report(params: Params) -> Path:
    """Write index.html, papers.html and results.md from results.csv; return the first's path.

    All are in reports/. papers.html holds the published numbers, and ours beside them; results.md
    is the small table that the README shows.
    """
    reports = params.root / "reports"
    results = read_results(reports / "results.csv")
    comparison = compare(results, params)
    write_text(reports / "papers.html", papers_page(comparison, params))
    write_text(reports / "index.html", index_page(
        Evidence.load(results, params),
        papers={"headline": headline(comparison), "overview": overview(comparison),
                "beside": beside(comparison)},
        pages=_pages(params), provenance=_provenance(params),
        digest=file_sha256(reports / "results.csv")[:12]))
    write_text(reports / "results.md", _readme_tables(main_rows(results, params)))
    return reports / "index.html"


def _readme_tables(main):
    few_shot = few_shot_cells(main, datasets_of(main, "few_shot")[0]).rename(columns=shots_label)
    halves = base_to_new_cells(main, datasets_of(main, "base_to_new")[0])
    return "\n".join(map(_markdown, (few_shot, halves)))


def _markdown(cells):
    frame = cells.astype(object).where(cells.notna(), "").rename(index=METHODS, level="method")
    frame = frame.reset_index()
    lines = [frame.columns, ["---"] * len(frame.columns), *frame.astype(str).values]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _pages(params):
    """The pages of the suite's stages, some of which may run after this one."""
    not_run = BLOCKS.keys() - params.methods.keys()
    pages = []
    for stem, (title, summary, per_dataset) in PAGES.items():
        if stem.partition("_")[2] in not_run:
            continue
        files = ([{"file": f"{stem}-{dataset}.html", "title": f"{title}, {dataset}"}
                  for dataset in params.datasets] if per_dataset
                 else [{"file": f"{stem}.html", "title": title}])
        pages.append({"short": title, "files": files, "summary": summary})
    return pages


def _provenance(params):
    digest = file_sha256(params.root / "params.yaml")[:12]
    packs = sorted(Path(params.root / "artefacts" / "features").glob("*.safetensors"))
    listing = ", ".join(f"{pack.stem} {file_sha256(pack)[:12]}" for pack in packs)
    return f"SHA-256 of params.yaml {digest}; of features: {listing}."
