"""Write tests/golden/splits.json: what CoOp's code makes of its own split files.

    python tests/make_golden.py ../shared/data/splits

A plain transcription of what CoOp and Dassl do, with Python's global random numbers and without
this project's package, so that the package is held against something else than itself.
"""

import hashlib
import json
import math
import random
import sys
from collections import defaultdict
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
MINIATURE = GOLDEN / "split_zhou_Miniature.json"  # the official ones are not committed
SHOTS, SEEDS = (1, 16), (1, 2, 3)


def digest(value):
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def few_shot(items, shots):
    """Draw `shots` items of each label; with fewer, all of them."""
    by_label = defaultdict(list)
    for item in items:
        by_label[item[1]].append(item)
    drawn = []
    for group in by_label.values():
        drawn.extend(random.sample(group, shots) if len(group) >= shots else group)
    return drawn


def coop_draw(train, val, shots, seed):
    """The training and validation items of one run."""
    random.seed(seed)
    return few_shot(train, shots), few_shot(val, min(shots, 4))


def golden(path):
    """Everything about a split file that must not change."""
    lists = {split: [[image, label, name.replace("_", " ")] for image, label, name in items]
             for split, items in json.loads(path.read_text()).items()}
    labels = sorted({label for _, label, _ in lists["train"]})
    names = dict(item[1:] for items in lists.values() for item in items)
    return {"file": hashlib.sha256(path.read_bytes()).hexdigest(),
            "counts": {split: len(items) for split, items in lists.items()},
            "class_names": [names[label] for label in labels],
            "n_base": math.ceil(len(labels) / 2),
            "lists": {split: digest(items) for split, items in lists.items()},
            "draws": {f"{shots} shots, seed {seed}": digest(coop_draw(lists["train"], lists["val"],
                                                                      shots, seed))
                      for shots in SHOTS for seed in SEEDS}}


if __name__ == "__main__":
    paths = sorted([*Path(sys.argv[1]).glob("split_zhou_*.json"), MINIATURE])
    content = {path.name: golden(path) for path in paths}
    (GOLDEN / "splits.json").write_text(json.dumps(content, indent=1) + "\n")
