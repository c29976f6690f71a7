"""How large a suite's datasets are: from lists of images, stored packs, or what is published."""

import functools

from safetensors import SafetensorError, safe_open

from .clip.openclip import open_clip
from .cost import Size
from .datasets.captions import load_captioned
from .datasets.layouts import LAYOUTS
from .datasets.root import pack_path
from .datasets.splits import SPLITS, load_dataset
from .errors import DatasetError, UserError
from .files import stored_provenance

# Tokens of all class names of CoOp's datasets, as in its code, each with "." and the end of text.
TOKENS = {"imagenet": 4165, "caltech101": 347, "oxford_pets": 154, "stanford_cars": 2065,
          "oxford_flowers": 463, "food101": 421, "fgvc_aircraft": 724, "sun397": 1580, "dtd": 186,
          "eurosat": 44, "ucf101": 414}
PER_NAME = 4  # tokens of a class name where the names are not known


def size_of(params, name):
    """Return the `Size` of a dataset of the suite.

    It is that of the images at hand or of the stored pack; without either, that of the dataset's
    layout as published. Raises `DatasetError` if there is nothing to tell it from.
    """
    block = params.captioned.get(name) or params.every_dataset[name]
    layout = getattr(block, "layout", None)
    try:
        return _listed(params, name) if params.data_root is not None else _stored(params, name)
    except (UserError, OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if layout not in LAYOUTS:
            raise DatasetError(f"the size of dataset {name!r} is not known: {error}") from None
        classes, *images = LAYOUTS[layout].sizes
        return Size(classes, images[0], sum(images[1:]),
                    TOKENS.get(layout, (PER_NAME + 2) * classes))


def _listed(params, name):
    dataset = (load_captioned if name in params.captioned else load_dataset)(params, name)
    train, *others = (len(getattr(dataset, split)) for split in SPLITS)
    if name in params.captioned:  # every image is a class of its own
        return Size(train, train, sum(others), PER_NAME * train)
    return Size(len(dataset.class_names), train, sum(others), _tokens(dataset.class_names))


def _stored(params, name):
    with safe_open(pack_path(params, name), framework="np") as file:
        names = stored_provenance(file.metadata())["class_names"]
        train, *others = (file.get_slice(f"{split}.labels").get_shape()[0] for split in SPLITS)
    return Size(len(names), train, sum(others), _tokens(names))


def _tokens(class_names):
    encode = _tokenizer().encode
    return sum(len(encode(f"{name}.")) + 1 for name in class_names)


@functools.cache
def _tokenizer():
    return open_clip.get_tokenizer("RN50")  # all of CLIP's own models have the same
