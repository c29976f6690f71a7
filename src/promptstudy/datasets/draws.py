"""For a large dataset, only the training images that some run of the suite draws are encoded.

ImageNet has 1.28 million training images; the draws of up to 16 shots with three seeds are 7 % of
them. Draws are made over all images first, and stored with the images that remain.
"""

import torch
from torch import Tensor

from ..params import Params
from .items import Dataset
from .subsets import few_shot_draw

WHOLE = 10_000  # a dataset with no more training images than this keeps them all


def drawn_only(dataset: Dataset, params: Params) -> tuple[Dataset, dict[str, Tensor]]:
    """Return `(dataset, draws)`: a large `Dataset` keeps only the training images that runs draw.

    draws: `{"draw.SHOTS.SEED.train": indices, "draw.SHOTS.SEED.val": indices}` into what remains,
    for every shot count and every seed of the suite; empty for a dataset that stays whole.
    """
    if len(dataset.train) <= WHOLE:
        return dataset, {}
    train, val = ([item.label for item in items] for items in (dataset.train, dataset.val))
    shots = {*params.shots, params.base_to_new_shots}
    shots.update(*(block.ablation_shots for block in params.methods.values()))
    runs = {(n, seed): few_shot_draw(train, val, n, seed) for n in shots for seed in params.seeds}
    kept = torch.cat([images for images, _ in runs.values()]).unique()
    draws = {}
    for (n, seed), (images, val_images) in runs.items():
        draws[f"draw.{n}.{seed}.train"] = torch.searchsorted(kept, images)
        draws[f"draw.{n}.{seed}.val"] = val_images
    return dataset._replace(train=[dataset.train[index] for index in kept.tolist()]), draws
