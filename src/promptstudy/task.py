"""A dataset as a frozen CLIP sees it: images as features, classes as names and texts."""

import functools
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from .clip.backbone import Backbone, load_backbone
from .clip.text import TextEncoder
from .clip.text_features import filled
from .datasets.packs import FeaturePack, own_labels
from .datasets.subsets import base_and_new, labels_in
from .params import Params


class Task:
    """The input of every method: params, feature pack, backbone and text encoder of a dataset.

    A shifted version of another dataset has that dataset's Task as `source` and uses its texts.
    """

    def __init__(self, params: Params, pack: FeaturePack, backbone: Backbone, encoder: TextEncoder,
                 source: Self | None = None) -> None:
        self.params, self.pack = params, pack
        self.source: Any = source
        self.backbone, self.encoder = backbone, encoder
        self.name, self.logit_scale = pack.provenance["dataset"], backbone.logit_scale
        self.n_base = len(base_and_new(len(pack.class_names))[0])
        self.cached: dict[tuple, Any] = {}  # results of `per_task` functions

    @classmethod
    def load(cls, params: Params, name: str, device: str | torch.device = "cpu") -> Self:
        """Return the Task of a dataset of the suite, from the features that its stage has made.

        The backbone is on `device`, and what is learned for it is trained there.
        Raises `MissingFile` or `DamagedFile` for features that are absent, changed or made by
        another backbone.
        """
        backbone = load_backbone(params.backbone.name, params.backbone.pretrained, params.root,
                                 device)
        encoder = TextEncoder(backbone.model, backbone.tokenizer)
        pack = FeaturePack.load(params.artefact("features", name),
                                {"image_fingerprint": backbone.image_fingerprint})
        if name in params.captioned:
            pack = own_labels(pack)
        return cls(params, pack, backbone, encoder)

    @property
    def class_names(self) -> list[str]:
        """The class names in label order."""
        return self.pack.class_names

    @property
    def captioned(self) -> bool:
        """Does every image have captions of its own instead of a class?"""
        return self.name in self.params.captioned

    def classes_of(self, subset: str) -> slice:
        """Return the labels of `all`, `base` or `new` classes, as a slice."""
        return {"all": slice(None), "base": slice(self.n_base),
                "new": slice(self.n_base, None)}[subset]

    def names_of(self, subset: str) -> list[str]:
        """Return the class names of a subset."""
        return self.class_names[self.classes_of(subset)]

    @functools.cached_property
    def source_labels(self) -> list[int]:
        """The label of each class in the `source`, as a list."""
        return labels_in(self.source.class_names, self.name, self.class_names,
                         self.pack.provenance.get("imagenet_labels"))

    @property
    def template(self) -> str:
        """The hand-crafted prompt of these classes."""
        return self.params.template_of(self.name)

    @property
    def template_texts(self) -> dict[str, list[str]]:
        """The hand-crafted prompt of every class, `{class name: [text]}`."""
        return filled([self.template], self.class_names)

    @functools.cached_property
    def template_features(self) -> Tensor:
        """The normalised features [C, d] of the hand-crafted prompts."""
        return self.encoder.encode_templates(self.class_names, [self.template])


def per_task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function of a Task (and hashable arguments): its result is cached in the Task."""
    @functools.wraps(function)
    def once(task, *arguments):
        key = (function.__qualname__, *arguments)
        if key not in task.cached:
            task.cached[key] = function(task, *arguments)
        return task.cached[key]
    return once
