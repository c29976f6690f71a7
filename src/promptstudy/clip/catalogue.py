"""open_clip's models and weights by name, from its files, as importing it takes five seconds."""

import difflib
import importlib
import json
import os
import re
import sys
import types
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ..errors import BackboneError
from ..params import Params
from ..textfiles import package_folder

LOCAL = "local-dir:"
QUICK = "-quickgelu"
CLIP_CACHE = "~/.cache/clip"  # where open_clip keeps weights that are not in a repository
NEAREST = 3  # how many similar names are suggested
FILES = ("open_clip_config.json", "open_clip_model.safetensors", "build.json")


def check_backbone(params: Params) -> list[str]:
    """Return notes, a list of sentences, on what the backbone of params.yaml still lacks.

    Raises `BackboneError` with the nearest names for a model or weights unknown to open_clip.
    """
    name, tag = params.backbone.name, params.backbone.pretrained
    if name.startswith(LOCAL):
        folder = params.root / name.removeprefix(LOCAL)
        absent = [file for file in FILES if not (folder / file).is_file()]
        return [f"the backbone's folder {folder} is incomplete, {', '.join(absent)} missing; "
                "`dvc pull` fetches what is stored under data/"] if absent else []
    check_name(name, tag)
    if tag is None:
        return [f"backbone.pretrained is null, so {name!r} has random weights; give one of "
                f"{', '.join(tags_of(name)) or 'your files'}"]
    if not Path(tag).is_file():
        if other := other_activation(name, tag):
            raise BackboneError(wrong_activation(name, tag, other))
        if not _is_at_hand(_settings(name, tag)):
            return [_to_be_downloaded(name, tag)]
    return []


def check_name(name: str, tag: str | None) -> None:
    """Raise `BackboneError` with the nearest names unless open_clip knows a model and its weights.

    A `tag` may also be the path of a file, or None.
    """
    models = model_names()
    if name not in models:
        same = next((model for model in models if _plain(model) == _plain(name)), None)
        if same:
            raise BackboneError(f"backbone {name!r} is not how open_clip spells this model; "
                                f"write {other_activation(same, tag) or same!r}")
        plain = {_plain(model): model for model in models}
        nearest = difflib.get_close_matches(_plain(name), plain, n=NEAREST, cutoff=0)
        raise BackboneError(f"backbone {name!r} is not an open_clip model; the nearest are "
                            f"{', '.join(repr(plain[model]) for model in nearest)}")
    if tag and not (_settings(name, tag) or Path(tag).is_file()):
        if "/" in tag or Path(tag).suffix:
            raise BackboneError(f"{tag!r} is neither a file nor weights of {name!r}: there is no "
                                "such file; correct backbone.pretrained")
        tags = tags_of(name)
        if not tags:
            raise BackboneError(f"{tag!r} is neither a file nor weights of {name!r}: open_clip has "
                                "none for it; give a file, or another model")
        near = difflib.get_close_matches(tag.lower(), tags, n=1, cutoff=0)
        raise BackboneError(f"{tag!r} is neither a file nor weights of {name!r}: the nearest is "
                            f"{near[0]!r}, out of {tags}")


def model_names() -> list[str]:
    """Return the names of open_clip's models."""
    if "open_clip" in sys.modules:
        return sys.modules["open_clip"].list_models()
    return sorted(path.stem for path in (_folder() / "model_configs").glob("*.json"))


def model_config(name: str, root: Path | None) -> dict[str, Any]:
    """Return open_clip's config of a model; {} for a folder without one."""
    if name.startswith(LOCAL):
        path = Path(root or ".") / name.removeprefix(LOCAL) / FILES[0]
        return json.loads(path.read_text(encoding="utf-8"))["model_cfg"] if path.is_file() else {}
    if "open_clip" in sys.modules:
        return sys.modules["open_clip"].get_model_config(name) or {}
    path = _folder() / "model_configs" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def tags_of(name: str) -> list[str]:
    """Return the tags of a model's pretrained weights."""
    return _pretrained().list_pretrained_tags_by_model(name)


def other_activation(name: str, tag: str | None) -> str | None:
    """Return the variant of a model that has the activation its weights `tag` need, or None.

    None if the model has it already or there is no such variant.
    """
    plain = name.removesuffix(QUICK)
    twin = plain if plain != name else name + QUICK
    settings = _settings(name, tag) or _settings(twin, tag)
    needed = settings.get("quick_gelu", False)
    has = model_config(name, None).get("quick_gelu", False)
    return twin if settings and needed != has and twin in model_names() else None


def wrong_activation(name: str, tag: str | None, other: str | None) -> str:
    """Return the message for weights that need a different activation from the model's."""
    return (f"the weights {tag!r} were trained with another activation than {name!r} has: use "
            f"{repr(other) if other else 'other weights'}")


def _settings(name, tag):
    return _pretrained().get_pretrained_cfg(name, tag) if tag else {}


def _plain(name):
    """Normalise a name as users may write it: ViT-B/16, openai/clip-vit-large-patch14-336, ..."""
    name = re.sub(r"^openai/(clip-)?|patch|px$", "", name.lower())
    for long, short in (("base", "b"), ("large", "l"), ("huge", "h"), ("resnet", "rn")):
        name = re.sub(rf"(^|(?<=vit-)){long}(?=[-\d]|$)", short, name)
    return re.sub(r"[^a-z0-9]", "", name)


def _folder():
    return package_folder("open_clip")


def _pretrained():
    """open_clip's module of pretrained weights.

    It needs only constants from the package, so it is loaded in a package of its own, and without
    `safetensors.torch`, which it does not need here.
    """
    if "open_clip" in sys.modules:
        return importlib.import_module("open_clip.pretrained")
    alias = "_open_clip_tables"
    if alias not in sys.modules:
        package = types.ModuleType(alias)
        package.__path__ = [str(_folder())]
        sys.modules[alias] = package
    return imported_without("safetensors.torch", f"{alias}.pretrained")


def imported_without(needless: str, module: str) -> ModuleType:
    """Return an imported module that, if it is imported only now, does not import `needless`.

    Both are dotted names. To the module it is as if `needless` were not installed. Afterwards
    anything can import that as usual.
    """
    if needless in sys.modules or module in sys.modules:
        return importlib.import_module(module)
    sys.modules[needless] = cast(ModuleType, None)  # tells Python that it cannot be imported
    try:
        return importlib.import_module(module)
    finally:
        del sys.modules[needless]


def _is_at_hand(settings):
    """Are the weights on this machine, where open_clip looks for them first?"""
    from huggingface_hub import try_to_load_from_cache
    if "file" in settings:
        return Path(settings["file"]).is_file()
    if settings.get("hf_hub"):
        repository, file = os.path.split(settings["hf_hub"])
        files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        files += [f"{file[:-4]}.safetensors"] if file.endswith((".bin", ".pth")) else []
        return any(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    return (Path(CLIP_CACHE).expanduser() / os.path.basename(settings["url"])).is_file()


def _to_be_downloaded(name, tag):
    from huggingface_hub.constants import HF_HUB_OFFLINE
    what = f"the weights {tag!r} of {name!r} are not on this machine"
    if HF_HUB_OFFLINE and _settings(name, tag).get("hf_hub"):
        return f"{what}, and HF_HUB_OFFLINE forbids downloading them; {how_to_get(name, tag)}"
    return f"{what}; the first run downloads them. Without network, {how_to_get(name, tag)}"


def how_to_get(name, tag):
    """Return what to put where, a clause, if a model's weights cannot be downloaded here."""
    from huggingface_hub.constants import HF_HUB_CACHE
    settings = _settings(name, tag)
    if settings.get("hf_hub"):
        repository, file = os.path.split(settings["hf_hub"])
        file, folder = file or FILES[1], f"models--{repository.replace('/', '--')}"
        return (f"fetch {file} of the Hugging Face repository {repository} on another machine "
                f"and copy its cache folder {folder} to {HF_HUB_CACHE}, or give the file's path as "
                "backbone.pretrained; HF_ENDPOINT names a mirror")
    return (f"put the file {settings['url']} into {CLIP_CACHE}, or give its path as "
            "backbone.pretrained")
