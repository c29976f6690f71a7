"""Which of a suite's datasets are present, missing or broken, and what to do about it."""

import os
import warnings
from collections import defaultdict
from typing import NamedTuple

from .datasets.fetch import digest_of
from .datasets.items import SPLITS
from .datasets.layouts import LAYOUTS
from .datasets.packs import FeaturePack
from .datasets.root import data_root, pack_path
from .datasets.sources import PIECES, absent
from .datasets.splits import image_folder, load_dataset
from .errors import DamagedFile, DatasetError
from .params import Params


class Finding(NamedTuple):
    """A dataset's state (`present`, `missing` or `broken`), what was found, and what to do."""

    name: str
    state: str
    found: str
    todo: list[str] = []


def diagnose(params: Params, name: str) -> Finding:
    """Return the `Finding` on dataset `name`, from its lists, folder listings and digests.

    Images are not opened: that is done once, before their features are computed.
    """
    if params.data_root is None:
        return _diagnose_pack(params, name)
    layout, faults, todo = params.every_dataset[name].layout, [], []
    try:
        if layout:
            missing = absent(data_root(params), layout)
            todo = _how_to_get(params, name, missing)
            if _unusable_without(missing, layout):
                found = ", ".join(piece.makes for piece in missing)
                return Finding(name, "missing", found, todo)
            faults = _wrong_digests(params, layout)
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            dataset = load_dataset(params, name)
        counts = (len(dataset.class_names), *(len(getattr(dataset, split)) for split in SPLITS))
        if layout and counts != LAYOUTS[layout].sizes:
            faults.append(f"{_sizes(counts)}; published: {_sizes(LAYOUTS[layout].sizes)}")
        faults += _absent_images(dataset, image_folder(params, name))
    except DatasetError as error:
        faults.append(str(error))
    if faults:
        again = f"remove the broken files; `python -m promptstudy doctor {name}` then says how " \
                "to get them"
        return Finding(name, "broken", "; ".join(faults), [again] if layout else [])
    notes = [_sizes(counts), *(str(remark.message) for remark in remarks)]
    return Finding(name, "present", "; ".join(notes), todo)


def overview(findings: list[Finding]) -> str:
    """Return the findings as one table of text."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"{'dataset':{width}}  state    found"]
    for finding in findings:
        lines.append(f"{finding.name:{width}}  {finding.state:7}  {finding.found}")
        lines += [f"{'':{width}}           -> {todo}" for todo in finding.todo]
    return "\n".join(lines)


def _diagnose_pack(params, name):
    path = pack_path(params, name)
    try:
        pack = FeaturePack.load(path)
    except FileNotFoundError:
        return Finding(name, "missing", f"{path} does not exist and data_root is not set", [
            "`dvc pull` fetches stored packs; for images, set data_root in params.yaml"])
    except DamagedFile as error:
        return Finding(name, "broken", str(error))
    counts = (len(pack.class_names), *(len(getattr(pack, split)) for split in SPLITS))
    return Finding(name, "present", f"feature pack: {_sizes(counts)}")


def _unusable_without(missing, layout):
    """Is the dataset unusable? CoOp's split file is optional where folders give the classes."""
    optional = None if LAYOUTS[layout].exact else LAYOUTS[layout].split
    return any(piece.makes != optional for piece in missing)


def _how_to_get(params, name, missing):
    """What to download, from where and where to put it, one line per piece."""
    lines = []
    for piece in missing:
        if piece.by_hand:
            folder = data_root(params) / LAYOUTS[params.every_dataset[name].layout].folder
            line = f"by hand: {piece.url} as {folder / piece.makes}"
        else:
            size = f", {piece.size / 1e9:.2f} GB" if piece.size else ""
            line = f"`python -m promptstudy fetch {name}`: {piece.makes} from {piece.url}{size}"
        lines.append(line + " (not needed with the split file)" * piece.raw)
    return lines


def _wrong_digests(params, layout):
    """Return a message for each file that differs from the published one."""
    folder = data_root(params) / LAYOUTS[layout].folder
    wrong = []
    for piece in PIECES[layout]:
        path = folder / piece.makes
        if piece.digest and not piece.is_archive and path.is_file():
            found = digest_of(path, piece.digest)
            if found != piece.digest:
                wrong.append(f"{path} has {found}, the published file has {piece.digest}")
    return wrong


def _absent_images(dataset, folder):
    """Say how many of a dataset's images are missing, listing each folder once."""
    listed = defaultdict(set)
    for split in SPLITS:
        for item in getattr(dataset, split):
            parent, _, name = item.path.rpartition("/")
            listed[parent].add(name)
    gone = [folder / parent / name for parent, names in listed.items()
            for name in sorted(names - _names_in(folder / parent))]
    total = sum(map(len, listed.values()))
    return [f"{len(gone):,} of {total:,} listed images are missing, e.g. {gone[0]}"] \
        if gone else []


def _names_in(folder):
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _sizes(counts):
    classes, *images = counts
    return f"{classes:,} classes, {' / '.join(f'{count:,}' for count in images)} images"
