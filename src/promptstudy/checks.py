"""Checks of a suite before anything runs, in a second and without torch."""

import warnings

from safetensors import SafetensorError, safe_open

from .clip.catalogue import check_backbone
from .clip.lengths import check_lengths
from .files import stored_provenance
from .params import Params
from .pipeline import check_stages


def check(params: Params) -> list[str]:
    """Return notes, a list of sentences, on what is not available yet or is left out.

    Raises a `UserError` for the first thing that cannot be used: the stages, the backbone, a
    dataset's files (if `data_root` is set), or class names that are too long.
    """
    check_stages(params)
    notes = check_backbone(params)
    if params.data_root is None:
        names = {name: _stored_class_names(params, name) for name in params.datasets}
    else:
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            names = _check_datasets(params)
        notes += dict.fromkeys(str(remark.message) for remark in remarks)  # each once
    for name, class_names in names.items():
        check_lengths(params, name, class_names)
    return notes


def _check_datasets(params):
    """Read the lists of every dataset; return `{dataset: class names}`."""
    from .datasets.captions import load_captioned
    from .datasets.splits import image_folder, load_dataset
    from .datasets.subsets import labels_in
    datasets = {name: load_dataset(params, name) for name in params.every_dataset}
    for name in params.transfer.domain:
        labels_in(datasets[params.transfer.source].class_names, name,
                  datasets[name].class_names, datasets[name].imagenet_labels)
    for name in params.captioned:
        load_captioned(params, name)
        image_folder(params, name)
    return {name: datasets[name].class_names for name in params.datasets}


def _stored_class_names(params, name):
    """The class names of a stored feature pack; [] if it is not intact, which is reported later."""
    from .datasets.root import pack_path
    try:
        with safe_open(pack_path(params, name), framework="np") as file:
            return stored_provenance(file.metadata())["class_names"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return []
