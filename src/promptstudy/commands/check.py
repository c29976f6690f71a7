"""Validate params.yaml and the folders that it names, and write its JSON schema for editors."""

import json

from ..files import write_text
from ..params import Params, load_params


def arguments(parser):
    """Declare what the command takes: nothing."""


def run(args):
    """Raise a `UserError` that lists every fault."""
    params = load_params(args.params)
    if params.data_root is not None:
        from ..datasets.captions import load_captioned
        from ..datasets.splits import labels_in, load_dataset
        datasets = {name: load_dataset(params, name) for name in params.every_dataset}
        for name in params.transfer.domain:
            labels_in(datasets[params.transfer.source].class_names, name,
                      datasets[name].class_names, datasets[name].imagenet_labels)
        for name in params.captioned:
            load_captioned(params, name)
    schema = json.dumps(Params.model_json_schema(), indent=2) + "\n"
    write_text(params.root / "artefacts" / "params.schema.json", schema)
