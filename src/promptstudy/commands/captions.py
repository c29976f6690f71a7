"""Compute the features of a captioned dataset and train AAPE's retrieval on it."""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--dataset", required=True, help="name under captioned in params.yaml")


def run(args: Namespace) -> None:
    """Write the artefacts of its features and of AAPE."""
    from ..clip.backbone import load_backbone
    from ..clip.text import TextEncoder
    from ..datasets.packs import own_labels
    from ..features import features
    from ..methods import aape  # noqa: F401 -- which the training loads by name
    from ..task import Task
    from ..training import train_plan
    params = load_params(args.params)
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    pack, _ = features(params, args.dataset, backbone)
    pack.save(params.artefact("features", args.dataset))
    encoder = TextEncoder(backbone.model, backbone.tokenizer)
    train_plan(Task(params, own_labels(pack), backbone, encoder), "aape")
