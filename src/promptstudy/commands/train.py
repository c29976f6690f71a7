"""Train a method on a dataset: every setting of the suite, all seeds side by side.

It trains on the GPU if there is one.
What was already trained with the same code, data and params is not trained again.
"""

from argparse import ArgumentParser, Namespace

from ..params import load_params


def arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("method", help="name of the method in params.yaml, e.g. coop")
    parser.add_argument("--dataset", required=True, help="name of the dataset in params.yaml")


def run(args: Namespace) -> None:
    """Write the method's artefact."""
    from ..clip.backbone import best_device
    from ..methods import registry
    from ..task import Task
    from ..training import train_plan
    params = load_params(args.params)
    registry.load(args.method)
    train_plan(Task.load(params, params.dataset(args.dataset), best_device()), args.method)
