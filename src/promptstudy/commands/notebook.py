"""Execute a notebook for the suite and render it as a page of the report."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("notebook", help="path of the notebook, e.g. notebooks/03_coop.ipynb")
    parser.add_argument("--dataset", help="name of the dataset in params.yaml")


def run(args: Namespace) -> None:
    """Write reports/executed/NAME.ipynb and reports/NAME.html."""
    from ..notebooks import run_notebook
    params = load_params(args.params)
    name = Path(args.notebook).stem
    # through the environment, so that no path of this machine gets into the page
    os.environ["PROMPTSTUDY_PARAMS"] = str(params.root / "params.yaml")
    values, siblings = {}, []
    if args.dataset:
        values["dataset"] = params.dataset(args.dataset)
        siblings = [(dataset, f"{name}-{dataset}") for dataset in params.datasets]
        name = f"{name}-{args.dataset}"
    reports = params.root / "reports"
    run_notebook(args.notebook, values, reports / "executed" / f"{name}.ipynb",
                 reports / f"{name}.html", params.about_backbone, siblings,
                 f"Written by running the notebook {Path(args.notebook).name} on suite "
                 f"{params.suite}, backbone {params.backbone.name}, seeds "
                 f"{', '.join(map(str, params.seeds))}.")
