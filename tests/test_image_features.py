"""Global and local image features of every kind of image tower."""

import numpy as np
import open_clip
import pytest
import timm
import torch
from conftest import RESNET, TIMM, VIT, make_clip, picture
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from promptstudy.clip.image_features import (
    centre_crop,
    encode_images,
    pool_grid,
    tower_input,
    training_crop,
)

TIMM_VIT = {"timm_model_name": "test_vit", "timm_proj": "linear", "image_size": 160}
TOWERS = {
    "vit": VIT,
    "vit, mean of patches": VIT | {"pool_type": "avg"},
    "vit, norm after pooling": VIT | {"pool_type": "avg", "final_ln_after_pool": True},
    "resnet": RESNET,
    "timm efficientnet": TIMM,
    "timm convnext": TIMM | {"timm_model_name": "test_convnext"},
    "timm vit, class token": TIMM_VIT | {"timm_pool": "token"},
    "timm vit, mean of patches": TIMM_VIT | {"timm_pool": "avg"},
    "timm vit, registers": TIMM_VIT | {"timm_pool": "avg", "timm_model_name": "test_vit2"},
    "timm vit, attention": TIMM_VIT | {"timm_pool": "", "timm_model_name": "test_vit3"},
}


@pytest.fixture(params=TOWERS)
def tower(request):
    """A model and three images."""
    model, config = make_clip(TOWERS[request.param])
    # running statistics as training leaves them, so that features are of a sensible size
    size = config["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, size, size)
    model.train()(images)
    return model.eval(), images


def test_global_equals_encode_image(tower):
    model, images = tower
    features, local = encode_images(model, images)
    expected = model.encode_image(images)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert local.shape[0] == 3 and local.shape[1] == local.shape[2] > 1
    assert local.shape[3] == features.shape[1] == 16
    assert not features.requires_grad and not local.requires_grad


@pytest.mark.parametrize("kind", ["vit, mean of patches", "timm efficientnet",
                                  "timm vit, mean of patches"])
def test_mean_of_local_features_is_the_global_one(kind):
    model, config = make_clip(TOWERS[kind])
    if kind == "timm vit, mean of patches":
        model.visual.trunk.fc_norm = torch.nn.Identity()  # its norm after pooling is not linear
    images = torch.randn(2, 3, *[config["vision_cfg"]["image_size"]] * 2)
    features, local = encode_images(model, images)
    torch.testing.assert_close(local.mean(dim=(1, 2)), features, rtol=1e-4, atol=1e-5)


def test_trunk_that_puts_channels_last():
    model, _ = make_clip(TIMM)
    model.visual.trunk = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=2, embed_dim=8, depths=(1, 1),
        num_heads=(1, 2), num_classes=0)
    model.visual.head = torch.nn.Linear(16, 16)
    images = torch.randn(2, 3, 32, 32)
    features, local = encode_images(model, images)
    assert local.shape == (2, 4, 4, 16)
    torch.testing.assert_close(features, model.encode_image(images))
    torch.testing.assert_close(local.mean(dim=(1, 2)), features, rtol=1e-4, atol=1e-5)


def test_vit_local_features_are_projected_patch_tokens():
    model, _ = make_clip(VIT)
    images = torch.randn(2, 3, 32, 32)
    model.visual.output_tokens = True
    tokens = model.visual(images)[1]  # after ln_post
    _, local = encode_images(model, images)
    torch.testing.assert_close(local.flatten(1, 2), tokens @ model.visual.proj)


def test_resnet_local_features_are_the_attention_pools_other_outputs():
    model, _ = make_clip(RESNET)
    images = torch.randn(2, 3, 64, 64)
    tower, seen = model.visual, {}
    attention = F.multi_head_attention_forward

    def spy(**arguments):
        seen["tokens"], weights = attention(**arguments)
        return seen["tokens"], weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "multi_head_attention_forward", spy)
        tower(images)
    _, local = encode_images(model, images)
    torch.testing.assert_close(local.flatten(1, 2), seen["tokens"][1:].transpose(0, 1),
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("vision, name", [
    (VIT | {"attentional_pool": True, "attn_pooler_heads": 2}, "VisionTransformer with attent"),
    (VIT | {"pool_type": "none"}, "'none' pooling"),
    (TIMM | {"timm_pool": "rot_attn", "timm_proj": ""}, "RotAttentionPool2d"),
])
def test_towers_without_local_features_are_named(vision, name):
    model, config = make_clip(vision)
    images = torch.randn(1, 3, *[config["vision_cfg"]["image_size"]] * 2)
    with pytest.raises(NotImplementedError, match=name):
        encode_images(model, images)


def test_other_towers_are_named():
    model, _ = make_clip(VIT)
    model.visual = torch.nn.Identity()
    with pytest.raises(NotImplementedError, match="image tower Identity; use a VisionTransformer"):
        encode_images(model, torch.randn(1, 3, 32, 32))


def test_pool_grid_averages_cells_row_by_row():
    local = torch.randn(2, 4, 4, 5)
    pooled = pool_grid(local, 2)
    assert pooled.shape == (2, 4, 5)
    torch.testing.assert_close(pooled[:, 1], local[:, :2, 2:].mean(dim=(1, 2)))
    torch.testing.assert_close(pool_grid(local, 1)[:, 0], local.mean(dim=(1, 2)))


def as_input(model, image):
    return tower_input(model, "cpu")(pil_to_tensor(image)[None])[0]


def test_training_crop_depends_on_the_seed_alone():
    model, _ = make_clip(VIT)
    image = Image.fromarray(picture("red disc", np.random.default_rng(0)))
    crop = training_crop(model)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = crop(image, 7)
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers are left alone
    assert first.size == (32, 32)
    assert crop(image, 7) == first
    assert crop(image, 8) != first


def test_training_crop_is_open_clips_transform_with_coops_scale_and_flip():
    model, _ = make_clip(VIT)
    config = open_clip.get_model_preprocess_cfg(model)
    transform = open_clip.image_transform(
        config["size"], is_train=True, mean=config["mean"], std=config["std"],
        aug_cfg=open_clip.AugmentationCfg(scale=(0.08, 1.0)))
    image = Image.fromarray(picture("red disc", np.random.default_rng(0)))
    crop, flips = training_crop(model), 0
    for seed in range(40):
        torch.manual_seed(seed)
        expected = transform(image)
        view = as_input(model, crop(image, seed))
        flip = not torch.equal(view, expected)
        flips += flip
        assert torch.equal(view, expected.flip(-1) if flip else expected)
    assert 10 < flips < 30


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_centre_crop_as_input_is_the_test_transform(mode):
    model, _ = make_clip(VIT)
    config = open_clip.get_model_preprocess_cfg(model)
    transform = open_clip.image_transform(config["size"], is_train=False, mean=config["mean"],
                                          std=config["std"], resize_mode=mode)
    image = Image.fromarray(picture("checked", np.random.default_rng(0)))
    assert torch.equal(as_input(model, centre_crop(transform)(image)), transform(image))
