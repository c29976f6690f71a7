"""Batches of images: what decoding processes work with, and what a GPU makes of a batch."""

import pickle

import numpy as np
import pytest
import torch
from conftest import RESNET, TIMM, VIT, cosine_error, make_clip, picture
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from promptstudy import batches
from promptstudy.batches import Crops, encode_batch
from promptstudy.clip.image_features import tower_input, training_crop
from promptstudy.datasets.splits import Item
from promptstudy.features import TOLERANCE
from promptstudy.params import FeatureParams


def test_decoding_processes_can_be_started_in_any_way(tiny_suite, tiny_backbone):
    """Where processes are not forked, what they work with is pickled."""
    folder = tiny_suite / "images" / "shapes"
    item = Item("plain/000.png", 0, "plain")
    crops = Crops([(item, 2)], folder, {item.path: "1f" * 32}, tiny_backbone)
    assert torch.equal(pickle.loads(pickle.dumps(crops))[0], crops[0])
    assert crops[0].shape == (3, 3, 32, 32) and crops[0].dtype == torch.uint8


@pytest.mark.parametrize("vision", [VIT, RESNET, TIMM], ids=str)
def test_a_gpus_bfloat16_and_larger_passes_give_nearly_the_same(vision, monkeypatch):
    model, _ = make_clip(vision)
    model.train()(torch.randn(8, 3, *[vision["image_size"]] * 2))  # sensible running statistics
    model.eval().requires_grad_(False)
    rng, crop = np.random.default_rng(0), training_crop(model)
    images = torch.stack([torch.stack([pil_to_tensor(crop(image, seed)) for seed in range(4)])
                          for image in (Image.fromarray(picture("red disc", rng)),
                                        Image.fromarray(picture("striped", rng)))])
    settings = FeatureParams(local_grid=2)
    monkeypatch.setattr(batches, "VIEWS_A_PASS", 4)
    slow, fast = (encode_batch(model, images, settings, tower_input(model, "cpu"), gpu)
                  for gpu in (False, True))
    for name, shape in (("features", (2, 16)), ("views", (2, 3, 16)), ("local", (2, 4, 16))):
        assert fast[name].shape == slow[name].shape == shape
        assert fast[name].dtype == torch.float32 and not torch.equal(fast[name], slow[name])
        assert cosine_error(fast[name], slow[name]) < TOLERANCE
