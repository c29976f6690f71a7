"""Named pictures as further pairs for the teacher: what words beyond ImageNet look like."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..metrics import top1
from .teacher import Pairs, Teacher
from .vocabulary import WordNet, visual_senses

# Folders that hold pictures of things, and the WordNet file in which their names are first looked
# for (see LEXFILES); 6 are artifacts.
KINDS = {"animals": 5, "food": 13, "plants": 20} | dict.fromkeys((
    "buildings", "containers", "electronics", "office", "recreation", "science", "tools",
    "transportation", "clothes", "hobbies", "household", "medical", "sports", "vehicles"), 6)
LARGEST = 4096  # pixels; larger pictures are made smaller, which spares memory


@dataclass(frozen=True)
class Named:
    """Pictures that share a name: the `text`, its synset's `offset`, their `paths`."""

    text: str
    offset: int
    paths: tuple[Path, ...]


def clip_art(folder: str | Path, wordnet: WordNet) -> list[Named]:
    """Return the `Named` pictures below `folder` (Open Clip Art's `png`), sorted by name.

    A picture's name is the longest beginning of its file's name, up to three words, that WordNet
    knows as a thing one can see; pictures without such a name are left out. Raises
    `FileNotFoundError` when there are none.
    """
    def names(path):
        words = [word for word in re.split(r"[_\-.\d]+", path.stem.lower()) if word]
        return [" ".join(words[:length]) for length in range(min(3, len(words)), 0, -1)]

    return _named(folder, wordnet, names, "usr/share/openclipart/png", "openclipart-png")


def stamps(folder: str | Path, wordnet: WordNet) -> list[Named]:
    """Return the `Named` pictures below `folder` (Tux Paint's `stamps`), like `clip_art`.

    A stamp's text ("A great blue heron.") is in a file beside it; its name is the longest ending of
    that text, without article and plural, that WordNet knows as a thing one can see.
    """
    def names(path):
        text = path.with_suffix(".txt")
        if not text.is_file():  # a mirrored stamp
            return []
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines()
        words = re.sub(r"[^\w\s-]", "", lines[0].lower()).split()
        endings = [" ".join(words[start:]) for start in range(len(words))]
        return [re.sub(cut, "", name) for name in endings for cut in ("$^", "s$", "es$")]

    return _named(folder, wordnet, names, "usr/share/tuxpaint/stamps", "tuxpaint-stamps-default")


def _named(folder, wordnet, names, inside, package):
    groups: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(Path(folder).rglob("*.png")):
        kind = KINDS.get(path.relative_to(folder).parts[0])
        for name in names(path) if kind else ():
            senses = visual_senses(wordnet, name) if len(name) > 2 else []
            if senses:
                wanted = [s for s in senses if wordnet.synsets[s[0]].lexfile == kind] or senses
                offset = max(wanted, key=lambda sense: sense[1])[0]
                groups.setdefault((name, offset), []).append(path)
                break
    if not groups:
        raise FileNotFoundError(f"no named pictures below {folder}: it must be the folder {inside} "
                                f"of the Debian package {package}")
    return [Named(text, offset, tuple(paths)) for (text, offset), paths in sorted(groups.items())]


def on_white(path: str | Path) -> Image.Image:
    """Return a picture on a white ground as an RGB image: clip art is cut out."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # some have 600 million pixels
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    picture.thumbnail((LARGEST, LARGEST))
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    return ground.convert("RGB")


@torch.no_grad()
def picture_features(trunk: nn.Module, preprocess_cfg: dict[str, Any],
                     paths: Sequence[Path]) -> Tensor:
    """Return the pooled features `[n, 1280]` of pictures, prepared as the model's config says.

    One by one: a CPU likes small batches.
    """
    preprocess = image_transform_v2(PreprocessCfg(**preprocess_cfg), is_train=False)
    rows = [trunk(preprocess(on_white(path))[None])[0]
            for path in tqdm(paths, desc="pictures", mininterval=10)]
    return torch.stack(rows)


def picture_rows(features: Tensor, named: Sequence[Named], projection: Tensor) -> Tensor:
    """Return unit vectors `[len(named), dim]`: the mean direction of each name's pictures, from
    `features` `[n, 1280]` in the order of their paths.

    The mean of all pictures is taken away first: it is the style that they share.
    """
    parts = _directions(features, projection).split([len(entry.paths) for entry in named])
    return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=1).float()


def held_out_pictures(classes: Pairs, more: Pairs | None, pairs: Pairs, features: Tensor,
                      named: Sequence[Named], projection: Tensor, seed: int = 0) -> list[float]:
    """Return how many of the pictures whose names are not known find them: percentages `(concepts,
    texts)`, with all views and with only the bare name.

    `pairs` (`Pairs`) and `features` belong to the pictures `named`. The names are split into halves
    by `seed`, and each half is named by a teacher fitted to `classes` and to those of `more`
    (`Pairs` or None) whose synset is not in it.
    """
    parts = features.split([len(entry.paths) for entry in named])
    right = []
    for half in torch.randperm(len(named),
                               generator=torch.Generator().manual_seed(seed)).chunk(2):
        unseen = pairs[half]
        teacher = Teacher(classes + more.without(set(unseen.offsets)) if more else classes)
        places = half.tolist()
        shown = torch.cat([parts[i] for i in places]), [named[i] for i in places], projection
        right.append([_named_right(*shown, teacher.of_concepts(unseen.views)),
                      _named_right(*shown, teacher.of_texts(unseen.views.name))])
    return torch.tensor(right).mean(0).tolist()


def _named_right(features, named, projection, answers):
    """Return the percentage of pictures whose name has the closest of `answers` `[len(named),
    dim]`, the teacher's vectors of all names."""
    truth = torch.repeat_interleave(torch.tensor([len(entry.paths) for entry in named]))
    guess = (_directions(features, projection).float() @ answers.T).argmax(1)
    return top1(guess, truth)


def _directions(features, projection):
    return F.normalize((features - features.mean(0)).double() @ projection.double().T, dim=1)
