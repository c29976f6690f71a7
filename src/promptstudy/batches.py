"""Images on their way through an image tower, batch by batch, on a GPU if there is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from .clip.backbone import Backbone, best_device
from .clip.image_features import centre_crop, encode_images, pool_grid, training_crop
from .datasets import shifts
from .datasets.images import image_seed, load_image
from .datasets.items import Item
from .params import FeatureParams

VIEWS_A_PASS = 512  # through the image tower on a GPU


class Crops(Dataset[Tensor]):
    """What the tower sees of each image: the image and V views of it, uint8 [1 + V, 3, H, W].

    entries: (item, V) of every image; with `shift`, a shifted version takes the image's place. A
    data set for torch's `DataLoader`, whose processes decode while the tower works, each at most
    two images ahead, however many views an image has.
    """

    def __init__(self, entries: list[tuple[Item, int]], folder: Path, digests: dict[str, str],
                 backbone: Backbone, shift: str | None = None) -> None:
        self.entries, self.folder, self.digests, self.shift = entries, folder, digests, shift
        self.crop, self.view = centre_crop(backbone.preprocess), training_crop(backbone.model)

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        item, n_views = self.entries[index]
        image, seed = load_image(self.folder / item.path), image_seed(self.digests[item.path])
        if self.shift:
            image = shifts.shifted(image, self.shift, seed)
        crops = [self.crop(image), *(self.view(image, seed + v) for v in range(n_views))]
        return torch.stack([pil_to_tensor(crop) for crop in crops])


@contextmanager
def on_gpu(tower: torch.nn.Module) -> Iterator[torch.device]:
    """Move the tower to the GPU, if there is one, for a while; yield the device it is on."""
    before = next(tower.parameters()).device
    device = best_device()
    tower.to(device)
    try:
        yield device
    finally:
        tower.to(before)


def next_batch(crops: Iterator[Tensor], count: int, device: torch.device) -> Tensor:
    """Return the next images and their views [count, 1 + V, 3, H, W] on their way to the device."""
    next_ones = list(islice(crops, count))
    # a GPU fetches from pinned memory by itself, while the next batch is put together
    batch = torch.empty(count, *next_ones[0].shape, dtype=torch.uint8,
                        pin_memory=device.type == "cuda")
    return torch.stack(next_ones, out=batch).to(device, non_blocking=True)


def encode_batch(model: torch.nn.Module, images: Tensor, settings: FeatureParams,
                 to_input: Callable[[Tensor], Tensor], gpu: bool) -> dict[str, Tensor]:
    """Return global, local and views' features of a batch, without waiting for a GPU.

    A GPU computes in bfloat16 and takes many views at once; a CPU takes a batch of each view after
    another, so that calls are of one size.
    """
    count = len(images)
    views = images[:, 1:].transpose(0, 1).flatten(0, 1)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=gpu):
        features, local = encode_images(model, to_input(images[:, 0]))
        seen = [encode_images(model, to_input(part))[0]
                for part in chunks(views, VIEWS_A_PASS if gpu else count)]
    seen = torch.cat([features, *seen]).unflatten(0, (-1, count)).transpose(0, 1)[:, 1:]
    return {"features": features.float(), "views": seen.float(),
            "local": pool_grid(local.float(), settings.local_grid)}


def chunks(items: Any, size: int) -> list[Any]:
    """Return the items, or a tensor, in pieces of `size`; the last one may be smaller."""
    return [items[start:start + size] for start in range(0, len(items), size)]
