"""From images to verified feature packs: extraction that resumes, and the stored packs."""

import os
import shutil
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from .batches import Crops, chunks, encode_batch, next_batch, on_gpu
from .clip.backbone import Backbone, load_backbone
from .clip.image_features import tower_input
from .datasets import shifts
from .datasets.captions import load_captioned
from .datasets.draws import drawn_only
from .datasets.images import check_images
from .datasets.packs import FeaturePack, compact, images_sha256, listing
from .datasets.root import pack_path
from .datasets.splits import SPLITS, image_folder, load_dataset, shift_of
from .errors import BackboneError, DamagedFile, DatasetError
from .files import file_sha256, json_sha256, load_tensors, save_tensors
from .params import Params

# 1 - cosine between features of the same images computed on two machines; other versions of image
# libraries decode and resize to slightly other pixels
TOLERANCE = 1e-3
SHARD = 256  # images that are encoded between two writes: what an interruption can cost


@dataclass(frozen=True)
class Report:
    """Where a pack came from and how the images at hand compare with the stored pack."""

    source: str  # "pack" (no images at hand) or "images"
    n_images: int
    compared: bool = False
    differing_images: tuple[str, ...] = ()
    largest_error: float | None = None  # 1 - cosine of global features, over the common images

    @property
    def agrees(self) -> bool | None:
        """Whether images and features agree with the stored pack; None if there is none to."""
        if not self.compared:
            return None
        return not self.differing_images and (self.largest_error or 0) <= TOLERANCE


def features(params: Params, name: str, backbone: Backbone) -> tuple[FeaturePack, Report]:
    """Return `(pack, report)` of dataset `name` for a `Backbone`.

    Without `data_root` the pack is read from `data/packs/<name>.safetensors` and must have been
    made with this image tower and these settings. With it the features are extracted from the
    images (see `extract`) and compared with that pack if it stands there for this image tower: a
    warning and the `Report` say which images differ and whether features do.
    Raises `DatasetError` when there is neither a pack nor a `data_root`, and `DamagedFile` for a
    pack that is damaged or made from something else, naming what differs.
    """
    path, wanted = pack_path(params, name), _settings(params, name, backbone)
    if params.data_root is None:
        if not path.is_file():
            raise DatasetError(f"there are no features for dataset {name!r}: {path} does not "
                               "exist and data_root is not set; run `dvc pull` to get the stored "
                               "packs, or set data_root in params.yaml to the folder of images")
        pack = FeaturePack.load(path, wanted)
        return pack, Report("pack", _count(pack))
    pack = extract(params, name, backbone, _cache(params))
    if not path.is_file():
        return pack, Report("images", _count(pack))
    stored = FeaturePack.load(path)
    if any(stored.provenance[key] != value for key, value in wanted.items()):
        return pack, Report("images", _count(pack))
    report = _compare(pack, stored)
    if not report.agrees:
        warnings.warn(
            f"the images of {name} do not give the features of {path}: "
            f"{len(report.differing_images)} images differ, the largest difference of a feature "
            f"(1 - cosine) is {report.largest_error:.1e}; the run uses the images at hand",
            stacklevel=2)
    return pack, report


def build_packs(params: Params, names: list[str]) -> list[Path]:
    """Extract the packs of datasets `names` and write them to `data/packs`; return their paths."""
    backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root)
    paths = []
    for name in names:
        pack = extract(params, name, backbone, _cache(params))
        paths.append(pack_path(params, name))
        pack.save(paths[-1])
    return paths


def class_names(params: Params, name: str) -> list[str]:
    """Return the class names of dataset `name` in label order, from its images or its pack."""
    if params.data_root is not None:
        return load_dataset(params, name).class_names
    return FeaturePack.load(pack_path(params, name)).class_names


def extract(params: Params, name: str, backbone: Backbone, cache: Path) -> FeaturePack:
    """Return the `FeaturePack` of dataset `name`, computed from its images.

    Of a large dataset's training images only those are used that the suite draws (see
    `drawn_only`). Every image is checked first. Images are then encoded in batches and stored
    below `cache` in shards: after an interruption the next call goes on at the next shard and gives
    the same pack to the last bit. The finished pack is cached as `cache/<name>.safetensors`, the
    shards are removed, and later calls return it while images, image tower and settings are the
    same. View v of a training image depends on its content and v alone. Another
    `features.batch_size` gives the same features up to rounding, a GPU up to bfloat16's. Raises
    `DatasetError` for a dataset or images that cannot be used.
    """
    if name in params.captioned:  # every image is a class of its own, so all are drawn
        dataset = load_captioned(params, name)
        draws: dict[str, Tensor] = {}
    else:
        dataset, draws = drawn_only(load_dataset(params, name), params)
    folder = image_folder(params, name)
    digests = check_images(dataset, folder)
    listed = listing(dataset, digests) | draws
    provenance = _settings(params, name, backbone) | {
        "backbone": backbone.name, "class_names": dataset.class_names,
        "images": images_sha256(listed)}
    if dataset.imagenet_labels:
        provenance["imagenet_labels"] = dataset.imagenet_labels
    shift = shift_of(params, name)
    if shift:
        provenance["code"] = file_sha256(shifts.__file__)
    path, shards = cache / f"{name}.safetensors", cache / name
    try:
        return FeaturePack.load(path, provenance)
    except (FileNotFoundError, DamagedFile):
        pass  # never finished, or made from something else
    key = {"depends_on": json_sha256(provenance | {"batch_size": params.features.batch_size})}
    tensors = listed | _encode(dataset, folder, digests, params.features, backbone, shards, key,
                               shift)
    pack = FeaturePack(tensors, provenance)
    pack.save(path)
    shutil.rmtree(shards)
    return pack


def _cache(params):
    return params.root / ".work" / "features"


def _settings(params, name, backbone):
    """What a pack must have been made with to serve this run."""
    settings = params.features
    wanted = {"dataset": name, "image_fingerprint": backbone.image_fingerprint,
              "views": settings.views, "local_grid": settings.local_grid}
    if shift := shift_of(params, name):
        wanted["shift"] = [shift, params.transfer.source, params.transfer.per_class]
    return wanted


def _encode(dataset, folder, digests, settings, backbone, shards, key, shift):
    """Encode all images, or a shift of them, shard by shard; return `{"train.features": ..., ...}`.
    """
    plan = [(split, items, shards / f"{split}-{number:05d}.safetensors") for split in SPLITS
            for number, items in enumerate(chunks(getattr(dataset, split), SHARD))]
    finished = {path: _stored(path, key) for _, _, path in plan}
    crops = Crops([(item, settings.views if split == "train" else 0) for split, items, path in plan
                   if finished[path] is None for item in items], folder, digests, backbone,
                  shift)
    # its own generator, because the loader would draw from the global one
    decoded = iter(DataLoader(crops, batch_size=None, num_workers=os.cpu_count() or 1,
                              generator=torch.Generator()))
    parts = defaultdict(list)
    with (on_gpu(backbone.model.visual) as device,
          tqdm(desc=f"extract {dataset.name}", total=sum(len(items) for _, items, _ in plan),
               unit="image", leave=False) as progress):
        gpu, to_input = device.type == "cuda", tower_input(backbone.model, device)
        for split, items, path in plan:
            shard = finished.pop(path)
            if shard is None:
                encoded = []
                for batch in chunks(items, settings.batch_size):
                    images = next_batch(decoded, len(batch), device)
                    encoded.append(encode_batch(backbone.model, images, settings, to_input, gpu))
                    progress.update(len(batch))
                shard = stored_form(joined(encoded))
                save_tensors(path, shard, key)
            else:
                progress.update(len(items))
            parts[split].append(shard)
    some = next(parts[split][0] for split in SPLITS if parts[split])
    nothing = {part: tensor[:0] for part, tensor in some.items()}
    return {f"{split}.{part}": tensor for split in SPLITS
            for part, tensor in joined(parts[split] or [nothing]).items()}


def joined(parts):
    """Return one dict of tensors for several, with their rows one after another."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _stored(path, key):
    """Return the tensors of a finished shard, or None for one that is to be made (again)."""
    try:
        return load_tensors(path, key)[0]
    except (FileNotFoundError, DamagedFile):
        return None


def stored_form(encoded):
    """Return the encoded images of a shard as they are stored."""
    encoded = {name: tensor.cpu() for name, tensor in encoded.items()}
    stored = {"features": encoded["features"].half()}
    for name in ("local", "views"):
        stored[name], stored[f"{name}_scale"] = compact(encoded[name])
    if not all(tensor.isfinite().all() for tensor in stored.values()):
        raise BackboneError("the image tower gives features that are not finite; its weights or "
                            "its normalisation do not fit")
    return stored


def _compare(pack, stored):
    """Return the `Report` on extracted features beside the stored ones of the same dataset."""
    mine, theirs = _by_path(pack), _by_path(stored)
    common = {path for path in mine.keys() & theirs.keys() if mine[path][0] == theirs[path][0]}
    differing = (mine.keys() | theirs.keys()) - common
    errors = [1 - F.cosine_similarity(mine[path][1], theirs[path][1], dim=0) for path in common]
    return Report("images", _count(pack), True, tuple(sorted(differing)),
                  max(errors).item() if errors else 0.0)


def _by_path(pack):
    """`{path: ((split, class name, digest), global feature)}` of all images of a pack."""
    return {path: ((name, pack.class_names[label], digest), feature)
            for name in SPLITS for split in [getattr(pack, name)]
            for path, label, digest, feature in zip(split.paths, split.labels, split.digests,
                                                    split.features, strict=True)}


def _count(pack):
    return sum(len(split) for split in (pack.train, pack.val, pack.test))
