"""Global and local image features of a frozen CLIP, for every stock open_clip image tower."""

import functools
from collections.abc import Callable

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import Compose, InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from ..errors import UnsupportedTower
from .openclip import open_clip


@torch.no_grad()
def encode_images(model: torch.nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the un-normalised `(global [B, d], local [B, h, w, d])` features of [B, 3, H, W].

    The global feature equals `model.encode_image(images)`. Local features live in the same joint
    space: a ViT's patch tokens and an attention pool's outputs at its positions
    take the same projection as the global feature; in a timm tower each position goes through
    pooling and head on its own, as if it were the whole image (with average pooling and a linear
    projection, their mean is the global feature).
    Raises `NotImplementedError` naming the tower if this is not defined for it.
    """
    tower = model.visual
    for kind, encode in ((open_clip.transformer.VisionTransformer, _vision_transformer),
                         (open_clip.modified_resnet.ModifiedResNet, _resnet),
                         (open_clip.timm_model.TimmModel, _timm)):
        if isinstance(tower, kind):
            return encode(tower, images)
    raise UnsupportedTower(f"no local features for the image tower {type(tower).__name__}; "
                           "use a VisionTransformer, ModifiedResNet or TimmModel of open_clip")


def pool_grid(local: Tensor, n: int) -> Tensor:
    """Average local features [B, h, w, d] over an n x n grid; return [B, n*n, d], row by row."""
    pooled = F.adaptive_avg_pool2d(local.permute(0, 3, 1, 2), n)
    return pooled.flatten(2).transpose(1, 2)


def centre_crop(preprocess: Compose) -> Callable[[Image], Image]:
    """Return `f(image)`: a PIL image resized and cropped as by open_clip's test transform."""
    *steps, _, _ = preprocess.transforms  # the last two turn it into a normalised tensor
    return Compose(steps)


def training_crop(model: torch.nn.Module) -> Callable[[Image, int], Image]:
    """Return `f(image, seed)`: a PIL image resized and cropped as by CoOp's training transform.

    A random resized crop (scale 0.08 to 1, bicubic) and a random horizontal flip. The same seed
    gives the same crop.
    """
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    return functools.partial(_random_crop, [size, size] if isinstance(size, int) else list(size))


def _random_crop(size, image, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        crop = RandomResizedCrop.get_params(image, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
        flip = torch.rand(()) < 0.5
    image = TF.resized_crop(image, *crop, size, InterpolationMode.BICUBIC)
    return TF.hflip(image) if flip else image


def tower_input(model: torch.nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return `f(pixels)`, the image tower's input for cropped images, uint8 [B, 3, H, W].

    It does what the last two steps of open_clip's transforms do, on the device.
    """
    config = open_clip.get_model_preprocess_cfg(model)
    mean, std = (torch.tensor(config[name], device=device)[:, None, None]
                 for name in ("mean", "std"))
    # channels last makes convolutions on a CPU a third faster
    return lambda pixels: pixels.float().div_(255).sub_(mean).div_(std).contiguous(
        memory_format=torch.channels_last)


def _vision_transformer(tower, images):
    if tower.attn_pool is not None or tower.pool_type not in ("tok", "avg"):
        raise UnsupportedTower("no local features for a VisionTransformer with attentional or "
                               f"{tower.pool_type!r} pooling; use one that pools 'tok' or 'avg'")
    # normalising intermediates applies ln_post to every token
    out = tower.forward_intermediates(images, indices=1, normalize_intermediates=True)
    return out["image_features"], out["image_intermediates"][0].permute(0, 2, 3, 1) @ tower.proj


def _resnet(tower, images):
    """The attention pool with all its tokens as queries; the first output is the global one."""
    x = tower.stem(images)
    for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
        x = layer(x)
    batch, _, height, width = x.shape
    pool = tower.attnpool
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + pool.positional_embedding
    query, key, value = (
        projection(x).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for projection in (pool.q_proj, pool.k_proj, pool.v_proj))
    x = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = pool.c_proj(x)
    return x[:, 0], x[:, 1:].unflatten(1, (height, width))


def _timm(tower, images):
    trunk = tower.trunk
    if hasattr(tower.head, "pool"):
        raise UnsupportedTower("no local features for a TimmModel with attention pooling "
                               f"({type(tower.head.pool).__name__}); use one with 'avg' pooling")

    def head(features):
        return tower.head(trunk.forward_head(features))

    features = trunk.forward_features(images)
    if features.ndim == 3:  # a transformer's tokens [B, prefix + h*w, C]
        prefix = trunk.num_prefix_tokens
        grid = trunk.patch_embed.grid_size
        positions = features[:, prefix:].flatten(0, 1)[:, None]
        if trunk.global_pool not in ("token", "map"):  # the other poolings drop the prefix
            positions = F.pad(positions, (0, 0, prefix, 0))
    elif getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        grid = features.shape[1:3]
        positions = features.flatten(0, 2)[:, None, None]
    else:
        grid = features.shape[2:]
        positions = features.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]
    return head(features), head(positions).unflatten(0, (len(images), *grid))
