"""Commands of the pipeline: `python -m promptstudy COMMAND --help`."""

import argparse
import json
import os
import sys

from .files import DamagedFile, save_tensors, write_text
from .lifetime import end_with_dvc
from .params import Params, ParamsError, load_params

# Heavy packages are imported by the command that needs them, so that `check` answers at once.


def check(args):
    """Validate params.yaml and the folders it names; write its JSON schema for editors."""
    params = load_params(args.params)
    if params.data_root is not None:
        from .datasets.captions import load_captioned
        from .datasets.splits import load_dataset
        for name in params.datasets:
            load_dataset(params, name)
        for name in params.captioned:
            load_captioned(params, name)
    schema = json.dumps(Params.model_json_schema(), indent=2) + "\n"
    write_text(params.root / "artefacts" / "params.schema.json", schema)


def notebook(args):
    """Execute a notebook for the suite and render it as a page of the report."""
    from pathlib import Path

    from .notebooks import run_notebook
    params = load_params(args.params)
    name = Path(args.notebook).stem
    # through the environment, so that no path of this machine gets into the page
    os.environ["PROMPTSTUDY_PARAMS"] = str(params.root / "params.yaml")
    values = {}
    if args.dataset:
        values["dataset"] = params.dataset(args.dataset)
        name = f"{name}-{args.dataset}"
    reports = params.root / "reports"
    run_notebook(args.notebook, values, reports / "executed" / f"{name}.ipynb",
                 reports / f"{name}.html", params.about_backbone)


def linear_probe(args):
    """Fit the linear probes of a dataset: every shot count and seed of the suite."""
    from .clip.backbone import load_backbone
    from .datasets.packs import FeaturePack
    from .methods.linear_probe import fit_all, origin
    params = load_params(args.params)
    name = params.dataset(args.dataset)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    pack = FeaturePack.load(params.artefact("features", name),
                            {"image_fingerprint": backbone.image_fingerprint})
    tensors = fit_all(params, pack, progress=f"linear probes of {name}")
    save_tensors(params.artefact("linear_probe", name), tensors, origin(params, pack, backbone))


def captions(args):
    """Compute the features of a captioned dataset and train AAPE's retrieval on it."""
    from .clip.backbone import load_backbone
    from .clip.descriptions import encode_descriptions
    from .clip.text import TextEncoder
    from .datasets.captions import load_captions, own_labels
    from .features import features
    from .methods.aape_retrieval import Retriever
    from .training import train_plan
    params = load_params(args.params)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    pack, _ = features(params, args.dataset, backbone)
    pack.save(params.artefact("features", args.dataset))
    texts = load_captions(params, args.dataset)
    prompts = encode_descriptions(encoder, texts, pack.train.paths, f"captions of {args.dataset}")

    def build(setting, names, draws):
        return Retriever(encoder.dim, setting.variant, backbone.logit_scale, params.seeds, prompts)

    train_plan(params, "aape", own_labels(pack), backbone, build, texts)


def ask(args):
    """Ask the LLM of params.yaml for the class descriptions that have no reply yet."""
    from .features import class_names
    from .llm import ask as asking
    from .llm.log import log_path, read_log
    from .llm.parse import parse, summary
    from .llm.queries import requests
    params = load_params(args.params)
    failed = 0
    for name in args.datasets or params.datasets:
        names = class_names(params, params.dataset(name))
        plan = asking.plan(params, name, names)
        print(f"{name}: {len(plan.todo)} of {plan.n_requests} requests to send, "
              f"about ${plan.most_usd:.2f} at most")
        if args.dry_run:
            continue
        outcome = asking.ask(params, name, names)
        parsed = parse(requests(params, name, names), read_log(log_path(params, name)))
        for request, reason in outcome.failed:
            print(f"failed: {request.class_name}, query {request.query}: {reason}")
        print(f"{outcome.n_answered} replies for ${outcome.usd:.2f}; tried again: "
              f"{dict(outcome.retried) or 'nothing'}")
        print(f"{sum(map(len, parsed.sentences.values()))} sentences for {len(names)} classes; "
              f"left out: {summary(parsed.problems)}")
        failed += len(outcome.failed)
    if failed:
        raise ValueError(f"{failed} requests have no reply; run this again to send only them")


def llm(args):
    """Serve a small LLM that `make llm` has installed, for `ask`, until it is interrupted."""
    from .llm.serve import serve
    serve(load_params(args.params).root / ".work" / "llm", args.model, args.port)


def report(args):
    """Write reports/index.html, the page to open first, and the README's table."""
    from .report import write_report
    params = load_params(args.params)
    print(f"report: {write_report(params)}")


def packs(args):
    """Compute the feature packs in data/packs from the images under data_root."""
    from .features import build_packs
    params = load_params(args.params)
    build_packs(params, args.datasets or list(params.datasets))


def main():
    """Parse the command line and run one command; expected errors end in one message."""
    end_with_dvc()
    parser = argparse.ArgumentParser(prog="python -m promptstudy", description=__doc__)
    parser.add_argument("--params", help="params.yaml of the suite (default: the project's)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, *arguments in (
            (check,), (notebook, "notebook", "--dataset"), (linear_probe, "--dataset"),
            (captions, "--dataset"), (report,),
            (packs, "datasets"), (ask, "datasets", "--dry-run"), (llm, "model", "--port")):
        command = commands.add_parser(function.__name__.replace("_", "-"),
                                      help=function.__doc__, description=function.__doc__)
        for argument in arguments:
            command.add_argument(argument, **ARGUMENTS[argument])
        command.set_defaults(function=function)
    args = parser.parse_args()
    try:
        args.function(args)
    except (ParamsError, DamagedFile, FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


ARGUMENTS = {
    "notebook": {"help": "path of the notebook, e.g. notebooks/03_coop.ipynb"},
    "--dataset": {"help": "name of the dataset in params.yaml"},
    "datasets": {"help": "names of datasets in params.yaml (default: all)", "nargs": "*"},
    "--dry-run": {"help": "say how many requests would be sent, and send none",
                  "action": "store_true"},
    "model": {"help": "as `make llm` calls it"},
    "--port": {"help": "where to listen (default: 8000)", "type": int, "default": 8000}}

if __name__ == "__main__":
    main()
