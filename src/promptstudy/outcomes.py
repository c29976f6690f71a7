"""Which test images each run gets right, in `reports/outcomes.safetensors` beside the results.

One bit for every run and test image, so that runs can be compared image by image afterwards,
without features, models or torch.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from .errors import DamagedFile, MissingFile
from .files import written_whole
from .results import KEY

Place = tuple[str, str, str]
PLACE = ["dataset", "protocol", "subset"]  # rows of results with the same test images
AGAIN = "make it again with `dvc repro evaluate`"


class Outcomes:
    """What `write_outcomes` stored: of every row of the results, which test images are right.

    `places` are the groups of rows with the same test images, `{(dataset, protocol, subset): labels
    of the rows}`; `right(place)` is Boolean [rows, images], and `images[place]` names the images:
    two places with the same name have the same images in the same order.
    """

    def __init__(self, places: dict[Place, pd.Index], packed: dict[Place, NDArray[np.uint8]],
                 images: dict[Place, str]) -> None:
        self.places, self._packed, self.images = places, packed, images

    def right(self, place: Place) -> NDArray[np.bool_]:
        """Return which images [rows, N] of a place are right in each of its rows."""
        return np.unpackbits(self._packed[place], axis=0, count=len(self.places[place])).view(bool)


def write_outcomes(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write which images are right, in one piece.

    rows: dicts with the columns of the results, `right` (Boolean, one value per test image) and
    `images`, a name of these test images. Raises `ValueError` if two rows of one place (`PLACE`)
    are not about the same images.
    """
    tensors, images = {}, {}
    for place, index in _places(pd.DataFrame(rows, columns=KEY)).items():
        names = {rows[label]["images"] for label in index}
        if len(names) > 1:
            raise ValueError(f"runs of {' '.join(place)} are not about the same test images")
        # eight runs of one image share a byte: they are much alike, so the file compresses well
        tensors[_name(place)] = np.packbits([rows[label]["right"] for label in index], axis=0)
        images[_name(place)] = names.pop()
    record = json.dumps({"images": images, "sha256": _sha256(tensors, images)}, sort_keys=True)
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"record": record})


def read_outcomes(path: Path, frame: pd.DataFrame) -> Outcomes:
    """Return the `Outcomes` of a results table, as `results.read_results` returns it.

    Raises `MissingFile`, or `DamagedFile` if the file has changed since it was written or is not of
    these results: every accuracy must be the share of images that are right.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            record = json.loads(file.metadata()["record"])
        intact = record["sha256"] == _sha256(tensors, record["images"])
    except FileNotFoundError:
        raise MissingFile(f"{path} does not exist; {AGAIN}") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise DamagedFile(f"{path} cannot be read or has changed since it was written; {AGAIN}")
    places = _places(frame)
    fault = DamagedFile(f"{path} is not of these results; {AGAIN}")
    if {_name(place) for place in places} != tensors.keys():
        raise fault
    outcomes = Outcomes(places, {place: tensors[_name(place)] for place in places},
                        {place: record["images"][_name(place)] for place in places})
    for place, index in places.items():
        rows = frame.loc[index]
        if len(outcomes._packed[place]) != -(-len(rows) // 8):
            raise fault
        right = outcomes.right(place)
        if (rows["n_test"] != right.shape[1]).any() or not np.allclose(
                rows["value"], 100 * right.mean(axis=1), rtol=0, atol=1e-4):
            raise fault
    return outcomes


def _places(frame):
    """Return the labels of the rows of every place, in the order of `KEY`."""
    return dict(frame.sort_values(list(KEY)).groupby(PLACE, sort=False).groups)


def _name(place):
    """Return the name of a place's tensor; names of datasets and subsets have no tab."""
    return "\t".join(place)


def _sha256(tensors, images):
    digest = hashlib.sha256(json.dumps(images, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape};".encode() + tensors[name].tobytes())
    return digest.hexdigest()
