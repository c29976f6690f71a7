"""reports/index.html: findings, figures, tables and claims, in one file without any other."""

from typing import Any

import pandas as pd

from .cells import (
    base_to_new_cells,
    dataset_title,
    datasets_of,
    few_shot_cells,
    gain_cells,
    retrieval_cells,
    transfer_cells,
)
from .claims.evidence import Evidence
from .claims.table import METHOD, RULE, VERDICTS, claims
from .differences import base_to_new_differences, few_shot_differences
from .findings import findings
from .glossary import PARTS, explained
from .params.methods import BLOCKS
from .plots import accuracy
from .plots.style import Shown
from .rendering import render, slug
from .results import METHODS, TRANSFER, main_rows, shots_label
from .tables import Table, claims_table

SECTIONS = {"found": "What was found", "few-shot": "Few-shot", "base-to-new": "Base to new",
            "other-datasets": "Other datasets", "shifted-images": "Shifted images",
            "ablations": "Ablations", "typicality": "Typical images", "retrieval": "Retrieval",
            "claims": "The papers' claims", "paper-and-ours": "Paper and ours",
            "words": "Names of variants", "pages": "Pages", "cite": "Cite, sources"}
CITATION = """@software{{promptstudy,
  title  = {{promptstudy: four ways to learn the prompt of a frozen CLIP, reproduced}},
  author = {{{{promptstudy developers}}}},
  note   = {{suite {suite}, backbone {backbone}, results {digest}}}
}}"""


def index_page(evidence: Evidence, papers: dict[str, Any], pages: list[dict], provenance: str,
               digest: str) -> str:
    """Return the page as HTML.

    papers: headline, overview and first sentences of the comparison; pages: links to the
    notebooks' pages; provenance: a sentence; digest: the SHA-256 of results.csv.
    """
    results, params, verdicts = evidence.frame, evidence.params, claims(evidence)
    main = main_rows(results, params)
    backbone = ", ".join(results["backbone"].unique())
    learning = [METHODS[name] for name in BLOCKS if name in set(main["method"])]
    few_shot = _panels(main, "few_shot", few_shot_cells, accuracy.few_shot, shots_label,
                       "Accuracy by number of labelled images per class")
    counts = verdicts["verdict"].value_counts()
    return render(
        "index.html", title="How to learn the prompt of CLIP: methods compared",
        sections=[{"id": key, "title": title} for key, title in SECTIONS.items()],
        learning=", ".join(learning[:-1]) + f" and {learning[-1]}" if learning[1:] else learning[0],
        findings=findings(main, params, verdicts), about=params.about_backbone,
        suite=params.suite, backbone=backbone, seeds=", ".join(map(str, params.seeds)),
        chart=_chart(main), leaderboard=_leaderboard(main, params).html, few_shot=few_shot,
        tally={verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS},
        base_to_new_shots=params.base_to_new_shots, transfer=params.transfer,
        base_to_new=_panels(main, "base_to_new", base_to_new_cells, accuracy.base_to_new,
                            {}, "Accuracy on base and new classes"),
        **{protocol: _transfer(main, protocol) for protocol in TRANSFER},
        inferred=[f"{METHODS[name]} is re-implemented from its abstract; its equations and "
                  "constants are inferred."
                  for name, block in params.methods.items() if block.inferred],
        ablations=list(_ablations(evidence)), trade_off=_trade_off(results, main, params),
        typicality=_typicality(main), retrieval=_retrieval(main), rule=RULE,
        claims=claims_table(verdicts).html, method=METHOD,
        papers=papers, words=PARTS, pages=pages, provenance=provenance, rows=len(results),
        results_sha256=digest, citation=CITATION.format(
            suite=params.suite, backbone=backbone, digest=digest))


def _chart(main):
    dataset = datasets_of(main, "few_shot")[0]
    return Shown(accuracy.few_shot(main, [dataset]),
                 f"Accuracy against labelled images per class, {dataset_title(dataset)}; the same "
                 "numbers are in the table of few-shot recognition.",
                 f"Top-1 accuracy, {dataset_title(dataset)}. Point at a marker for its seeds.",
                 "first").html


def _leaderboard(main, params):
    """What each method reaches in every protocol, on average over datasets."""
    columns = {}
    few_shot = few_shot_cells(main, datasets_of(main, "few_shot")[0]).droplevel("variant")
    most = int(few_shot.columns.max())
    columns[shots_label(most)] = few_shot[most].combine_first(few_shot[0])
    halves = base_to_new_cells(main, datasets_of(main, "base_to_new")[0]).droplevel("variant")
    columns |= {"new": halves["new"], "H": halves["H"]}
    for protocol, title in (("cross_dataset", "other datasets"), ("domain", "shifted images")):
        if (main["protocol"] == protocol).any():
            cells = transfer_cells(main, protocol).droplevel("variant")
            if "mean" in cells:
                columns[title] = cells["mean"]
    frame = pd.DataFrame(columns).reindex([name for name in METHODS if name in set(main["method"])])
    return Table(frame.rename_axis("method").reset_index(),
                 "Accuracy in percent, mean over datasets; H: harmonic mean of base and new.",
                 "leaderboard", best=frame.columns)


def _panels(main, protocol, cells_of, figure_of, names, what):
    """A figure and a table for every dataset and their mean."""
    shown: list[dict] = []
    for dataset in datasets_of(main, protocol):
        title = dataset_title(dataset)
        cells = cells_of(main, dataset).rename(columns=names)
        at_the_top = protocol == "few_shot" and not shown
        figure = "" if at_the_top else Shown(
            figure_of(main, [dataset]), f"{what}, {title}; the numbers are in the table below.",
            f"{what}, {title}. Point at a marker for its seeds.",
            f"{protocol} {dataset}").html
        table = Table(cells.reset_index(), f"{what}, {title}.", f"{protocol} {dataset}",
                      best=cells.columns, units=dict.fromkeys(cells.columns, "%"))
        shown.append({"id": slug(title), "title": title, "figure": figure, "table": table.html})
    return shown


def _transfer(main, protocol):
    what = {"cross_dataset": "Accuracy on each dataset; the first is the one trained on",
            "domain": "Accuracy on the dataset trained on and on its shifted images"}[protocol]
    if not (main["protocol"] == protocol).any():
        return {"figure": "", "table": ""}
    cells = transfer_cells(main, protocol).rename(columns={"mean": TRANSFER[protocol]})
    cells = cells.rename(columns=lambda name: name.replace("_", " "))
    return {"figure": Shown(accuracy.transfer(main, protocol), f"{what}; the numbers are in the "
                            "table below.", f"{what}. Dashed: zero-shot CLIP.",
                            protocol).html,
            "table": Table(cells.reset_index(), f"{what}.", protocol, best=cells.columns,
                           units=dict.fromkeys(cells.columns, "%")).html}


def _ablations(evidence):
    """Each method's variants, a table for each protocol that has some."""
    for method, block in evidence.params.methods.items():
        meaning = explained(block)
        for protocol, title, of in (("few_shot", "few-shot", few_shot_differences),
                                    ("base_to_new", "base to new", base_to_new_differences)):
            main = getattr(block, protocol, None)
            if main is None:
                continue
            found = of(evidence, method, main.label)
            found = found[found["variant"].isin(meaning)] if len(found) else found
            if found.empty:
                continue
            order = {label: place for place, label in enumerate(meaning)}
            found = found.sort_values("variant", key=lambda names: names.map(order),  # noqa: B023
                                      kind="stable")
            what = found["variant"].map(meaning)
            found.insert(1, "what changes", what)
            last = found.columns[-1]
            found["outcome"] = [each.outcome for each in found[last]]
            name = f"{METHODS[method]}, {title}"
            yield {"id": slug(name), "title": name, "table": Table(
                found, f"Variants of {METHODS[method]}, {title}; the main variant is {main.label}. "
                f"Outcome: of the column {last}, where the interval leaves out 0.",
                f"ablations {name}").html}


def _trade_off(results, main, params):
    if not params.dualview:
        return ""
    figure = accuracy.trade_off(results, main, params.dualview.lambda_curve)
    return Shown(figure, "Accuracy on new classes against accuracy on base classes: the dual-view "
                 "method by weight of mutual information, and the other methods.",
                 "Accuracy on new against base classes. Beside the curve of the dual-view method "
                 "stands the weight of mutual information.", "trade-off").html


def _typicality(main):
    dataset = datasets_of(main, "typicality")[0]
    cells = gain_cells(main, dataset)
    what = "Gain on zero-shot CLIP in points by quarter of typicality; quarter 1 is the least " \
           f"typical. {dataset_title(dataset).capitalize()}"
    return {"figure": Shown(accuracy.typicality(main, [dataset]), f"{what}; the numbers are in "
                            "the table below.", f"{what}.", "typicality").html,
            "table": Table(cells.reset_index(), f"{what}.", "typicality", best=cells.columns,
                           units=dict.fromkeys(cells.columns, "points")).html}


def _retrieval(main):
    cells = retrieval_cells(main)
    frame = cells.reset_index().rename(columns={"subset": "direction"})
    frame["direction"] = frame["direction"].str.replace("_", " ")
    return Table(frame, "Recall: share of queries with a match among the k best.",
                 "retrieval", units=dict.fromkeys(cells.columns, "%")).html
