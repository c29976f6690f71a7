"""`numbers.csv`, `datasets.csv` and `sources.csv`, read and checked.

A number's `dataset`, `protocol`, `method`, `variant`, `shots`, `subset` and `metric` say what was
measured in the words of results.csv, so that the two can be joined; methods that this project does
not have are called as their papers call them. `average_11`, `average_10` and `average_4` are means
over the datasets that datasets.csv counts into them; `H` is the harmonic mean of base and new, on
average that of the two averages, and `mean_of_h` the mean of the datasets' H. Where prompts come
from ImageNet (cross_dataset, domain), the subset is the dataset tested on; accuracy on ImageNet
itself, and zero-shot CLIP's anywhere, is few_shot. NoCaps' subsets are its domains. An empty field
is not stated anywhere.

`paper` says where the number stands, `table` which table of the page it is in, `mark` how it came
here (`MARKS`), `note` what else is to be known.
"""

import re
from pathlib import Path

import pandas as pd

from ..errors import PublishedError

FOLDER = Path(__file__).parent
COLUMNS = ("paper", "table", "dataset", "backbone", "protocol", "method", "variant", "shots",
           "subset", "metric", "value", "mark", "note")
KEY = COLUMNS[:-3]
BACKBONES = ("RN50", "RN101", "ViT-B/32", "ViT-B/16", "ViT-L/14")
MARKS = {"recall": "from memory of the paper; may be off by a digit",
         "secondary": "read in another publication's table",
         "code": "read in the README of the method's official code",
         "checked": "computed from other numbers here"}
TRANSFER = ("cross_dataset", "domain")
SUBSETS = {"few_shot": ("all",), "base_to_new": ("base", "new", "H", "mean_of_h"),
           "retrieval": ("image_to_text",), "captioning": ("all", "in", "near", "out"),
           "vqa": ("all",)}
OF_IMAGES = ("retrieval", "captioning", "vqa")  # their datasets have no classes


def load_numbers() -> pd.DataFrame:
    """Return the published numbers as a DataFrame with `COLUMNS` and, as text, `printed`.

    `value` is a float, `shots` an integer or missing. Raises `PublishedError` listing every line
    with a field that cannot be, and two numbers for one cell of a table.
    """
    path = FOLDER / "numbers.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise PublishedError(f"{path} must have the columns {', '.join(COLUMNS)}")
    known = {"datasets": load_datasets(), "sources": set(load_sources().index)}
    faults = [f"line {line}: {fault}" for line, row in
              enumerate(frame.to_dict("records"), start=2) for fault in _faults(row, **known)]
    faults += [f"line {line + 2}: a second number for one cell"
               for line in frame.index[frame.duplicated(list(KEY))]]
    if faults:
        raise PublishedError(f"{path} cannot be used:\n" + "\n".join(f"  {f}" for f in faults))
    frame["printed"] = frame["value"]
    frame["value"] = frame["value"].astype(float)
    frame["shots"] = pd.to_numeric(frame["shots"]).astype("Int64")
    return frame


def load_datasets() -> pd.DataFrame:
    """Return the papers' datasets by the name that numbers.csv has for them.

    Columns: `title`, `other_names`, `template` (the hand-crafted prompt of CoOp's code), `n_test`
    (size of the test split), `n_test_mark`, `averages` (which averages it counts into).
    """
    frame = pd.read_csv(FOLDER / "datasets.csv", keep_default_na=False, index_col="dataset")
    return frame.assign(other_names=frame["other_names"].str.split(),
                        averages=frame["averages"].str.split())


def load_sources() -> pd.Series:
    """Return what the sources are that marks name, as a Series by their short names."""
    return pd.read_csv(FOLDER / "sources.csv", index_col="source")["what"]


def averages(datasets: pd.DataFrame) -> dict[str, list[str]]:
    """Return `{average: [dataset, ...]}` of the table that `load_datasets` returns."""
    names = dict.fromkeys(name for of_dataset in datasets["averages"] for name in of_dataset)
    members = list(zip(datasets.index, datasets["averages"], strict=True))
    return {name: [dataset for dataset, of_dataset in members if name in of_dataset]
            for name in names}


def published_dataset(name: str, datasets: pd.DataFrame) -> str | None:
    """Return the key of the published dataset known as `name`, or None.

    Case and signs do not matter: `Oxford-Pets` and `oxford_pets` are the same.
    """
    for key, row in datasets.iterrows():
        if _plain(name) in map(_plain, (key, row["title"], *row["other_names"])):
            return str(key)
    return None


def published_backbone(label: str) -> str | None:
    """Return what papers call the backbone with this label in results.csv, or None.

    Their numbers are of OpenAI's weights, e.g. `ViT-B-16-quickgelu/openai`; those are not had
    under another tag.
    """
    architecture, _, weights = label.partition("/")
    names = {name.replace("/", "-"): name for name in BACKBONES}
    return names.get(architecture.removesuffix("-quickgelu")) if weights == "openai" else None


def placed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of published numbers or results in which equal measurements look equal.

    Two columns are added: `target`, the dataset tested on, and `classes`, which of its classes
    compete. Without training it does not matter where prompts come from, so such rows are few_shot.
    """
    transfer = frame["protocol"].isin(TRANSFER)
    return frame.assign(
        target=frame["dataset"].mask(transfer, frame["subset"]),
        classes=frame["subset"].mask(transfer, "all"),
        protocol=frame["protocol"].mask(transfer & (frame["shots"] == 0), "few_shot"))


def _faults(row, datasets, sources):
    """Say what is wrong with the fields of one line."""
    share = row["metric"] in ("top1", "accuracy") or row["metric"].startswith("recall@")
    try:
        value = float(row["value"])
        if share and not 0 <= value <= 100:
            yield f"{row['value']} is not a percentage"
    except ValueError:
        yield f"value {row['value']!r} is not a number"
    if row["shots"] and not row["shots"].isdigit():
        yield f"shots {row['shots']!r} is not a number"
    if row["backbone"] and row["backbone"] not in BACKBONES:
        yield f"backbone {row['backbone']!r} is none of {', '.join(BACKBONES)}"
    targets = {*datasets.index, *averages(datasets)}
    subsets = targets if row["protocol"] in TRANSFER else SUBSETS.get(row["protocol"], ())
    if row["subset"] not in subsets:
        yield f"protocol {row['protocol']!r} has no subset {row['subset']!r}"
    if row["protocol"] not in OF_IMAGES and row["dataset"] not in targets:
        yield f"dataset {row['dataset']!r} is not in datasets.csv"
    kind, *named = re.split(r"[ :,]+", row["mark"].removesuffix(" README"))
    needs_source = kind in ("secondary", "code")
    if kind not in MARKS or bool(named) != needs_source or not set(named) <= sources:
        yield f"mark {row['mark']!r} is none of {', '.join(MARKS)} with its sources"


def _plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())
