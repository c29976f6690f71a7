"""Load a frozen CLIP: any open_clip architecture with a pretrained tag, a file or a folder."""

import functools
import hashlib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import BackboneError, DamagedFile, MissingFile
from ..files import file_sha256, tensors_sha256, write_text
from .catalogue import LOCAL, check_name, how_to_get, other_activation, wrong_activation
from .openclip import open_clip, prepare_for

NOT_DOWNLOADED = "Failed to download"  # begins open_clip's message


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP in fp32: both towers, the test transform, the tokenizer and the logit scale."""

    name: str
    model: Any  # open_clip's
    preprocess: object  # PIL image -> tensor [3, H, W]
    tokenizer: object
    logit_scale: float  # exp(logit_scale), the inverse temperature 1/tau

    @functools.cached_property
    def image_fingerprint(self) -> str:
        """SHA-256 over the image tower's weights and the test transform: what features depend on.

        The text tower is left out on purpose: stored image features stay valid when it changes.
        """
        config = open_clip.get_model_preprocess_cfg(self.model)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        digest.update(tensors_sha256(self.model.visual.state_dict()).encode())
        return digest.hexdigest()

    @functools.cached_property
    def text_fingerprint(self) -> str:
        """SHA-256 over the text tower's weights: what learned context vectors depend on."""
        state = self.model.state_dict()
        return tensors_sha256({k: v for k, v in state.items() if not k.startswith("visual.")})

    def save_record(self, path: Path) -> None:
        """Write name and fingerprints as JSON: a file that changes when either tower does."""
        record = {"name": self.name, "image_fingerprint": self.image_fingerprint,
                  "text_fingerprint": self.text_fingerprint}
        write_text(path, json.dumps(record, indent=1) + "\n")


def best_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_backbone(name: str, pretrained: str | None = None, root: str | Path = ".",
                  device: str | torch.device = "cpu") -> Backbone:
    """Return the `Backbone` called `name`, frozen and in evaluation mode, on `device`.

    `name` is an open_clip architecture (then `pretrained` is a tag, a file or None for random
    weights) or `local-dir:FOLDER`, with FOLDER relative to `root`, for a folder that holds
    `open_clip_config.json`, weights and `build.json`, where the weights' SHA-256 is recorded.
    Raises `FileNotFoundError`, `DamagedFile` or `ValueError` (unknown architecture or tag;
    QuickGELU mismatch; weights that cannot be downloaded) with what to do.
    """
    if name.startswith(LOCAL):
        folder = Path(root) / name.removeprefix(LOCAL)
        _check_weights(folder)
        source, label = f"{LOCAL}{folder}", folder.name
    else:
        check_name(name, pretrained)
        source, label = name, name if pretrained is None else f"{name}/{pretrained}"
    prepare_for(name, Path(root))
    with warnings.catch_warnings():
        # open_clip only warns here, but the wrong activation costs several points of accuracy.
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                source, pretrained=pretrained, device=device)
        except UserWarning:
            other = other_activation(name, pretrained)
            raise BackboneError(wrong_activation(name, pretrained, other)) from None
        except RuntimeError as error:
            if not str(error).startswith(NOT_DOWNLOADED):
                raise
            raise BackboneError(
                f"the weights {pretrained!r} of {name!r} are not on this machine and cannot be "
                f"downloaded; {how_to_get(name, pretrained)}") from error
    model.eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer(source)
    return Backbone(label, model, preprocess, tokenizer, model.logit_scale.exp().item())


def _check_weights(folder):
    """Refuse a model folder that is missing or whose weights differ from its build record."""
    record, weights = folder / "build.json", folder / "open_clip_model.safetensors"
    for path in (record, weights):
        if not path.is_file():
            raise MissingFile(f"{path} does not exist; `dvc pull` fetches the embedded data")
    try:
        expected = json.loads(record.read_text(encoding="utf-8"))["weights_sha256"]
    except (ValueError, KeyError, TypeError):
        raise DamagedFile(f"{record} is not a build record: it is truncated or has changed; "
                          "delete it and run `dvc pull --force`") from None
    if file_sha256(weights) != expected:
        raise DamagedFile(f"{weights} has changed since it was built: its SHA-256 is not that in "
                          f"{record.name}; delete it and run `dvc pull --force`")
