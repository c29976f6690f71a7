"""The zero-shot gate: are backbone, transform and test images the papers'?"""

import warnings

import pandas as pd
from open_clip import get_model_preprocess_cfg

from ..clip.backbone import Backbone
from ..clip.text import TextEncoder
from ..datasets.packs import FeaturePack
from ..errors import ZeroShotMismatch
from ..params import Params
from ..results import results_table
from ..scores import Scores
from .comparison import compare
from .numbers import load_datasets, load_numbers, placed, published_backbone, published_dataset

LIMIT = 0.5  # points of accuracy


def zero_shot_gate(params: Params, name: str, pack: FeaturePack, backbone: Backbone,
                   encoder: TextEncoder) -> pd.DataFrame | None:
    """Compare zero-shot accuracy on dataset `name` with the published numbers of this backbone.

    Nothing is trained and nothing is chosen by the outcome, so test images may be looked at before
    the evaluation. Returns a table of both, or None, without looking, where no number is published
    for backbone and dataset; warns and returns None where test images or template are not the
    papers'. Raises `ZeroShotMismatch` when accuracy on all, base or new classes is more than
    `LIMIT` from every number published for it.
    """
    numbers = placed(load_numbers())
    published = numbers[(numbers["method"] == "zero_shot")
                        & (numbers["backbone"] == published_backbone(backbone.name))
                        & (numbers["target"] == published_dataset(name, load_datasets()))]
    if published.empty:
        return None
    scores = Scores(params, pack, backbone, encoder)
    scores.hand_crafted(["zero_shot"])
    cells, set_aside = compare(results_table(scores.rows), params)
    for reason in set_aside:
        warnings.warn(f"zero-shot accuracy is not compared with the papers': {reason}",
                      stacklevel=2)
    cells = cells[cells["classes"] != "H"]
    if cells.empty:
        return None
    nearest = cells.loc[cells["difference"].abs().groupby(cells["classes"]).idxmin()]
    if (nearest["difference"].abs().round(6) > LIMIT).any():
        raise ZeroShotMismatch(_explanation(name, backbone, params.datasets[name], nearest))
    return cells[["paper", "mark", "classes", "printed", "mean", "difference"]].rename(
        columns={"printed": "published", "mean": "here"})


def _explanation(name, backbone, settings, cells):
    numbers = "\n".join(
        f"  {cell.classes} classes: {cell.mean:.2f} here, {cell.printed} published "
        f"({cell.paper}; {cell.mark}), {cell.difference:+.2f}" for cell in cells.itertuples())
    return f"""\
zero-shot accuracy on {name} with {backbone.name} is not the published one:
{numbers}
More than {LIMIT} points off without any training means that something before it differs:
  - the activation: OpenAI's weights need QuickGELU, so the backbone's name ends in -quickgelu
  - the image transform: here {get_model_preprocess_cfg(backbone.model)}
  - the split: whether datasets.{name} lists the papers' test images and classes, in their order
    (the template, {settings.template!r}, is theirs)
  - the number itself, where it is from memory: correct it in src/promptstudy/published/numbers.csv
Nothing that is trained on these features could be compared with the papers."""
