"""The control of an image tower that has learned nothing: the backbone's, with weights drawn anew.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from ..batches import chunks
from ..clip.backbone import load_backbone
from ..clip.image_features import centre_crop, encode_images, tower_input
from ..datasets.images import load_image
from ..datasets.splits import image_folder
from ..params import Params
from .pictures import Photographs, Pictures

CALIBRATION = 64  # images by which batch norms learn how large activations are


@torch.no_grad()
def random_features(params: Params, pictures: Pictures, seed: int = 0) -> dict[str, Tensor]:
    """Return `{split: normalised features [N, d]}` of all `pictures` by a random image tower.

    It has the backbone's architecture. Its batch norms see some training images first, without
    labels, since activations die out in a deep random network. Raises `DatasetError` without
    `data_root`.
    """
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    torch.manual_seed(seed)
    for module in backbone.model.visual.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what they see
    crop = centre_crop(backbone.preprocess)
    to_input = tower_input(backbone.model, torch.device("cpu"))

    def batch(photographs: Photographs, numbers: Iterable[int]) -> Tensor:
        paths = [_path(params, pictures, photographs, number) for number in numbers]
        return to_input(torch.stack([pil_to_tensor(crop(load_image(path))) for path in paths]))

    every = len(pictures.train.labels) // CALIBRATION or 1
    backbone.model.train()
    encode_images(backbone.model, batch(pictures.train,
                                        range(0, len(pictures.train.labels), every)))
    backbone.model.eval()
    found = {}
    for split in ("train", "val", "test"):
        photographs = getattr(pictures, split)
        pieces = tqdm(chunks(range(len(photographs.labels)), 16), f"random tower, {split}")
        found[split] = F.normalize(torch.cat([
            encode_images(backbone.model, batch(photographs, numbers))[0] for numbers in pieces]),
            dim=-1)
    return found


def _path(params, pictures, photographs, number):
    dataset = pictures.datasets[photographs.labels[number]]
    return image_folder(params, dataset) / photographs.paths[number]
