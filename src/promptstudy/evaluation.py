"""Protocols: everything that was trained on a dataset, scored on its test images."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .changes import Changes
from .class_texts import descriptions
from .clip.text_features import encode_descriptions
from .files import json_sha256, load_tensors
from .methods import linear_probe, registry, tip_adapter
from .methods.reference_prompts import reference_features, references
from .metrics import RANKS, match_ranks
from .params import Setting
from .plans import plan
from .results import DESCRIPTIONS_ALONE
from .scores import Scores
from .task import Task, per_task
from .training import learned_by, provenance

# the only variants of the linear probe and of Tip-Adapter
PROBE, CACHE = "val C", "val alpha, beta"


def subsets(protocol: str) -> tuple[str, ...]:
    """Return the subsets of a dataset's own test images that `learned` scores."""
    return {"few_shot": ("all",), "base_to_new": ("base", "new")}.get(protocol, ())


class Evaluation(Scores):
    """Evaluates everything that was trained on one dataset (see `Scores`)."""

    def linear_probe(self) -> None:
        """Evaluate the linear probes of every shot count and seed."""
        for shots in self.params.shots:
            for seed in self.params.seeds:
                predicted = linear_probe.predict(self.pack.test.features, *self.probe(shots, seed))
                self.add("few_shot", "linear_probe", PROBE, shots, seed, "all", predicted)

    def tip_adapter(self) -> None:
        """Evaluate Tip-Adapter with the few-shot images of every shot count and seed."""
        pack, texts = self.pack, self.template_features
        train, val = (F.normalize(part.features, dim=-1) for part in (pack.train, pack.val))
        by_texts = [self.logit_scale * images @ texts.T for images in (val, self.features)]
        for shots in self.params.shots:
            for seed in self.params.seeds:
                chosen, seen = pack.draw(shots, seed)
                cache = train[chosen], pack.train.labels[chosen]
                best = tip_adapter.choose(by_texts[0][seen], val[seen], pack.val.labels[seen],
                                          *cache)
                found = tip_adapter.scores(by_texts[1], self.features, *cache, *best)
                self.add("few_shot", "tip_adapter", CACHE, shots, seed, "all",
                         found.argmax(dim=-1))

    def probe(self, shots: int, seed: int) -> list[Tensor]:
        """Return `(weight [C, d], bias [C])` of a linear probe."""
        return [self.probes[f"{shots}/{seed}/{part}"] for part in ("weight", "bias")]

    @functools.cached_property
    def probes(self) -> dict[str, Tensor]:
        """What the linear probes learned."""
        return load_tensors(self.params.artefact("linear_probe", self.name),
                            linear_probe.provenance(self.params, self.pack, self.backbone))[0]

    def learned(self, method: str) -> None:
        """Evaluate every classification setting; base-to-new sees new class names only here."""
        for setting in plan(self.params, method, self.name):
            for subset in subsets(setting.protocol):
                model = self.trained(method, setting, subset)
                found = registry.predictions(self.params, method, setting, model,
                                          self.inputs(model, subset))
                for label, predictions in found.items():
                    self.add_runs(method, setting, label, subset, predictions)

    def inputs(self, model: Any, subset: str = "all") -> list[Tensor]:
        """Return what a model's `predict` needs of a subset's images."""
        images = [self.images_of(subset)[0]]
        return images + [self.local_of(subset)] if model.reads_local else images

    def retrieval(self) -> None:
        """Evaluate retrieval between the test images and their captions in both directions.

        Captions are those of a captioned dataset, otherwise the descriptions of the image's class.
        """
        texts, labels = self.captions
        self.add_recalls("zero_shot", "image feature", 0, [0], self.features[None], texts, labels)
        settings = [(method, setting) for method in self.retrievers
                    for setting in plan(self.params, method, self.name)
                    if setting.protocol == "retrieval"]
        for method, setting in settings:
            images = self.features.expand(len(self.params.seeds), -1, -1)
            with torch.no_grad():
                images = self.trained(method, setting).image_features(images)
            self.add_recalls(method, setting.variant.label, setting.shots, self.params.seeds,
                             images, texts, labels)

    @property
    def retrievers(self) -> dict[str, Any]:
        """The blocks of the methods that learn retrieval, {name: block}."""
        return {name: block for name, block in self.params.methods.items()
                if hasattr(block, "retrieval")}

    def add_recalls(self, method: str, variant: str, shots: int, seeds: Sequence[int],
                    images: Tensor, texts: Tensor, labels: Tensor) -> None:
        """Add a row for every seed, direction and rank: images [R, N, d], texts [M, d], labels."""
        found = match_ranks(images, texts, self.labels, labels)
        for direction, (asked, ranks) in found.items():
            queries = (self.identity(asked) if direction == "image_to_text"
                       else json_sha256([self.name, "texts", labels[asked].tolist()])[:16])
            for k in RANKS:
                for seed, of_run in zip(seeds, ranks, strict=True):
                    self.add_right("retrieval", method, variant, shots, seed, direction,
                                   f"recall@{k}", of_run <= k, queries)

    @functools.cached_property
    def captions(self) -> tuple[Tensor, Tensor]:
        """The captions' features [M, d] and the labels [M] of the test images they belong to."""
        if self.captioned:
            of_images = references(self, "llm")
            features, weights = encode_descriptions(self.encoder, of_images, self.pack.test.paths)
        else:
            sources = [block.retrieval.reference for block in self.retrievers.values()]
            features, weights = reference_features(self, (sources or ["llm"])[0])
        return features[weights > 0], (weights > 0).nonzero()[:, 0]

    def class_descriptions(self) -> None:
        """Evaluate DuAl-PT's class descriptions on their own, as a classifier without training."""
        predicted = (self.features @ descriptions(self).mean.T).argmax(dim=-1)
        self.add("few_shot", "dualpt", DESCRIPTIONS_ALONE, 0, 0, "all", predicted)

    def add_runs(self, method: str, setting: Setting, label: str, subset: str,
                 predictions: Tensor) -> None:
        """Add a row for every run of a setting, under a variant's label: predictions [R, N]."""
        main = Setting("few_shot", self.params.methods[method].few_shot, max(self.params.shots))
        for seed, predicted in zip(self.params.seeds, predictions, strict=True):
            about = method, label, setting.shots, seed
            self.add(setting.protocol, *about, subset, predicted)
            if setting == main and label == setting.variant.label:
                self.add_quarters(*about, predicted)

    def trained(self, method: str, setting: Setting, subset: str = "all",
                onto: Task | None = None) -> Any:
        """Return the trained method of a setting, applied to the class names of a subset.

        The names, and the texts about them, come from `onto`, another Evaluation, if given.
        """
        learned = learned_by(self.tensors(method), setting)
        return registry.load(method).restore(self, setting, learned, subset, onto)

    @per_task
    def tensors(self, method: str) -> dict[str, Tensor]:
        """Return what a method's stage learned; raise `DamagedFile` for another provenance."""
        return load_tensors(self.params.artefact(method, self.name), provenance(self, method))[0]

    def compare(self, before: Tensor, after: Tensor) -> Changes:
        """Return the `Changes` from one classifier [C, d] to another over all test images."""
        shares = [(self.logit_scale * self.features @ classes.T).softmax(dim=-1)
                  for classes in (before, after)]
        return Changes(self.class_names, self.pack.test.paths, self.labels, *shares)
