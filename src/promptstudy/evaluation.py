"""Protocols and metrics. Test labels are read here and nowhere else."""

import functools
from typing import NamedTuple

import pandas as pd
import torch
from torch.nn import functional as F

from .clip.descriptions import encode_descriptions, ensemble_templates, hand_crafted_texts
from .datasets.captions import load_captions
from .datasets.splits import base_and_new
from .files import load_tensors
from .llm.descriptions import load_descriptions, load_references
from .methods import linear_probe
from .methods.aape import Classifier
from .methods.aape_retrieval import Retriever
from .methods.augmentation import Support, image_prototypes, stand_ins
from .methods.coop import CoOp
from .methods.dualpt import DuAlPT
from .methods.dualview import DualView
from .params import Setting
from .retrieval import recalls
from .training import learned_by, origin, plan, training_draws

# Under this variant's name DuAl-PT's descriptions stand in the results without its prompts.
DESCRIPTIONS_ALONE = "descriptions alone"
READ_LOCAL_FEATURES = ("dualpt",)


def top1(predicted, labels):
    """Return the share of correct predictions in percent, over images and not over classes."""
    return 100 * (predicted == labels).double().mean(dim=-1)


def typicality(features, labels, train):
    """Return the cosine [N] of each image to the mean of its class's training images.

    features [N, d] and labels [N] are the images'; `train` is the pack's training split.
    """
    member = F.one_hot(train.labels).T.float()
    means = F.normalize(member @ F.normalize(train.features, dim=-1), dim=-1)
    return (F.normalize(features, dim=-1) * means[labels]).sum(dim=-1)


def quarters(values):
    """Return the quarter [N] of each value by its rank: 1 for the lowest, 4 for the highest."""
    return 1 + values.argsort(stable=True).argsort() * 4 // len(values)


def subsets(protocol):
    """Return the subsets of test images that a protocol scores."""
    return ("all",) if protocol == "few_shot" else ("base", "new")


class Evaluation:
    """Evaluates everything that was trained on one dataset.

    `rows` collects one dict per run and subset with the columns of `results.COLUMNS`.
    """

    def __init__(self, params, name, pack, backbone, encoder):
        self.params, self.name, self.pack = params, name, pack
        self.backbone, self.encoder = backbone, encoder
        self.features = F.normalize(pack.test.features, dim=-1)
        self.labels = pack.test.labels
        base, _ = base_and_new(len(pack.class_names))
        self.n_base = len(base)
        self.halves = {"base": self.labels < self.n_base, "new": self.labels >= self.n_base}
        self.rows = []

    def classes_of(self, subset):
        """Return the labels of `all`, `base` or `new`, as a slice."""
        return {"all": slice(None), "base": slice(self.n_base),
                "new": slice(self.n_base, None)}[subset]

    def names_of(self, subset):
        """Return the class names of a subset."""
        return self.pack.class_names[self.classes_of(subset)]

    def images_of(self, subset):
        """Return normalised features and labels of a subset; labels count within the subset."""
        if subset == "all":
            return self.features, self.labels
        mask = self.halves[subset]
        first = self.n_base if subset == "new" else 0
        return self.features[mask], self.labels[mask] - first

    def local_of(self, subset):
        """Return the normalised local features [n, L, d] of a subset's images."""
        return self.local if subset == "all" else self.local[self.halves[subset]]

    @functools.cached_property
    def local(self):
        """The normalised local features of all test images."""
        return F.normalize(self.pack.test.local, dim=-1)

    def add(self, protocol, method, variant, shots, seed, subset, predicted):
        """Add a row: top-1 accuracy of the predictions for a subset's images."""
        labels = self.images_of(subset)[1]
        self.add_value(protocol, method, variant, shots, seed, subset, "top1",
                       top1(predicted, labels).item(), len(labels))

    def add_value(self, protocol, method, variant, shots, seed, subset, metric, value, n_test):
        """Add a row: any value in percent, over `n_test` images or texts."""
        self.rows.append({
            "suite": self.params.suite, "dataset": self.name, "backbone": self.backbone.name,
            "protocol": protocol, "method": method, "variant": variant, "shots": shots,
            "seed": seed, "subset": subset, "metric": metric, "value": value, "n_test": n_test})

    def add_quarters(self, method, variant, shots, seed, predicted):
        """Add a row for each quarter of the test images by typicality: 1 the least typical."""
        for quarter in range(1, 5):
            images = self.quarter == quarter
            if images.any():
                self.add_value("typicality", method, variant, shots, seed, f"quarter {quarter}",
                               "top1", top1(predicted[images], self.labels[images]).item(),
                               images.sum().item())

    @functools.cached_property
    def quarter(self):
        """The quarter of every test image by its typicality."""
        return quarters(typicality(self.features, self.labels, self.pack.train))

    def hand_crafted(self, methods=("zero_shot", "ensemble")):
        """Evaluate zero-shot CLIP and the prompt ensemble, or one of them, in both protocols.

        The prompt ensemble is CoOp's seven templates and the dataset's own one.
        """
        own = self.params.datasets[self.name].template
        for method in methods:
            templates = [own] if method == "zero_shot" else ensemble_templates(own)
            for protocol, subset in (("few_shot", "all"), ("base_to_new", "base"),
                                     ("base_to_new", "new")):
                classes = self.encoder.encode_templates(self.names_of(subset), templates)
                predicted = (self.images_of(subset)[0] @ classes.T).argmax(dim=-1)
                variant = "own template" if method == "zero_shot" else "7 templates and own"
                self.add(protocol, method, variant, 0, 0, subset, predicted)
                if (method, subset) == ("zero_shot", "all"):
                    self.add_quarters(method, variant, 0, 0, predicted)

    def linear_probe(self):
        """Evaluate the linear probes of every shot count and seed."""
        probes, _ = load_tensors(self.params.artefact("linear_probe", self.name),
                                 linear_probe.origin(self.params, self.pack, self.backbone))
        for shots in self.params.shots:
            for seed in self.params.seeds:
                weight, bias = (probes[f"{shots}/{seed}/{part}"] for part in ("weight", "bias"))
                predicted = linear_probe.predict(self.pack.test.features, weight, bias)
                self.add("few_shot", "linear_probe", "val C", shots, seed, "all", predicted)

    def learned(self, method):
        """Evaluate every setting that learns to classify; base-to-new meets the new names here."""
        for setting in plan(self.params, method, self.name):
            if setting.protocol == "retrieval":
                continue
            for subset in subsets(setting.protocol):
                images = (self.images_of(subset)[0],)
                if method in READ_LOCAL_FEATURES:
                    images += (self.local_of(subset),)
                predictions = self.trained(method, setting, subset).predict(*images)
                self.add_runs(method, setting, subset, predictions)

    def retrieval(self):
        """Evaluate retrieval between the test images and their captions, both ways.

        Captions are those of a captioned dataset, or else the descriptions of the image's class.
        """
        texts, labels = self.captions
        self.add_recalls("zero_shot", "image feature", 0, [0], self.features[None], texts, labels)
        for setting in plan(self.params, "aape", self.name):
            if setting.protocol == "retrieval":
                retriever = self.trained("aape", setting)
                images = self.features.expand(len(self.params.seeds), -1, -1)
                with torch.no_grad():
                    images = retriever.image_features(images)
                self.add_recalls("aape", setting.variant.label, setting.shots, self.params.seeds,
                                 images, texts, labels)

    def add_recalls(self, method, variant, shots, seeds, images, texts, labels):
        """Add a row for every seed, direction and rank: images [R, N, d], texts [M, d], labels."""
        found = recalls(images, texts, self.labels, labels)
        for direction, (count, values) in found.items():
            for k, shares in values.items():
                for seed, share in zip(seeds, shares.tolist(), strict=True):
                    self.add_value("retrieval", method, variant, shots, seed, direction,
                                   f"recall@{k}", share, count)

    @functools.cached_property
    def captions(self):
        """The captions' features [M, d] and the labels [M] of the test images they belong to."""
        captioned = self.name in self.params.captioned
        texts = self.texts("aape")
        if not captioned:
            texts = texts[self.params.aape.retrieval.reference]
        names = self.pack.test.paths if captioned else self.pack.class_names
        features, weights = encode_descriptions(self.encoder, texts, names)
        return features[weights > 0], (weights > 0).nonzero()[:, 0]

    def class_descriptions(self):
        """Evaluate the class descriptions alone, as a classifier without training."""
        predicted = (self.features @ self.descriptions.mean.T).argmax(dim=-1)
        self.add("few_shot", "dualpt", DESCRIPTIONS_ALONE, 0, 0, "all", predicted)

    def view_ensembles(self):
        """Evaluate ensembles of the dual-view method's two views, which need no other training."""
        block = self.params.dualview
        for setting in plan(self.params, "dualview", self.name):
            if setting.variant not in (block.few_shot, block.base_to_new):
                continue
            for subset in subsets(setting.protocol):
                trained = self.trained("dualview", setting, subset)
                for ensemble in setting.variant.ensembles(block.ensembles):
                    predictions = trained.predict(self.images_of(subset)[0], ensemble.ensemble_a)
                    self.add_runs("dualview", setting._replace(variant=ensemble), subset,
                                  predictions)

    def add_runs(self, method, setting, subset, predictions):
        """Add a row for every run of a setting: predictions [R, N]."""
        for seed, predicted in zip(self.params.seeds, predictions, strict=True):
            about = method, setting.variant.label, setting.shots, seed
            self.add(setting.protocol, *about, subset, predicted)
            main = Setting("few_shot", self.params.methods[method].few_shot,
                           max(self.params.shots))
            if setting == main:
                self.add_quarters(*about, predicted)

    def trained(self, method, setting, subset="all"):
        """Return the trained method of a setting, what it learned around the names of a subset.

        DuAl-PT holds descriptions only if its prediction is to read them (`llm_ensemble`).
        """
        learned = learned_by(self.tensors(method), setting)
        names = self.names_of(subset)
        common = {"variant": setting.variant, "logit_scale": self.backbone.logit_scale}
        prompts = common | {"encoder": self.encoder, "class_names": names,
                            "contexts": learned.get("contexts")}
        match method:
            case "coop":
                return CoOp(**prompts)
            case "kgcoop" | "prograd":  # which differ from CoOp in their training alone
                return CoOp(**prompts | {"variant": setting.variant.context})
            case "dualpt":
                descriptions = None
                if setting.variant.llm_ensemble:
                    descriptions = self.descriptions.of(self.classes_of(subset))
                return DuAlPT(**prompts, descriptions=descriptions)
            case "dualview":
                model = DualView(**prompts, seeds=self.params.seeds,
                                 hard=self.hard_view(setting.variant, subset),
                                 prototypes=self.prototypes(setting, subset))
                model.load_state_dict(learned, strict=False)  # its network, where it has one
                return model
            case "aape" if setting.protocol == "retrieval":
                retriever = Retriever(self.encoder.dim, **common, seeds=self.params.seeds)
                return retriever.restore(learned)
            case "aape":
                template = self.params.datasets[self.name].template
                templates = self.encoder.encode_templates(names, [template])
                return Classifier(templates, **common, seeds=self.params.seeds).restore(learned)

    def prototypes(self, setting, subset):
        """Return the prototypes [R, C, d] that `proto_ctx` makes contexts of, else None.

        New classes have no training images, so stand-ins are made from their names.
        """
        if setting.variant.augmentation != "proto_ctx":
            return None
        draws, names = training_draws(self.params, self.pack, setting)
        known = image_prototypes(Support.of(self.pack.train, draws), len(names))
        if subset != "new":
            return known
        new, base = (self.hard_view(setting.variant, s).mean for s in ("new", "base"))
        return stand_ins(new, known, base)

    def hard_view(self, variant, subset):
        """Return the hand-crafted view of a subset's classes that a dual-view variant has."""
        return self.hard_views[variant.hard_view].of(self.classes_of(subset))

    @functools.cached_property
    def hard_views(self):
        """All hand-crafted views of all classes, `{view: DescriptionFeatures}`."""
        return {view: encode_descriptions(self.encoder, texts, self.pack.class_names)
                for view, texts in self.hand_crafted_texts.items()}

    @functools.cached_property
    def hand_crafted_texts(self):
        """Their texts, `{view: {class name: [text, ...]}}`."""
        return hand_crafted_texts(self.pack.class_names, self.params.datasets[self.name].template,
                                  self.sentences)

    @functools.cache  # noqa: B019 -- an Evaluation lives as long as what it caches
    def tensors(self, method):
        """Return what a method's stage learned, refused if made from anything else than now."""
        record = origin(self.params, method, self.pack, self.backbone, self.texts(method))
        return load_tensors(self.params.artefact(method, self.name), record)[0]

    def texts(self, method):
        """Return the texts that a method learns from as `training.origin` wants them, or None."""
        match method:
            case "dualpt":
                return self.sentences
            case "dualview":
                return self.hand_crafted_texts
            case "kgcoop" | "prograd":
                return self.hand_crafted_texts["template"]
            case "aape" if self.name in self.params.captioned:
                return load_captions(self.params, self.name)
            case "aape":
                sources = [s.variant.reference for s in plan(self.params, method, self.name)]
                return load_references(self.params, self.name, self.pack.class_names, sources)

    @functools.cached_property
    def sentences(self):
        """The descriptions of all classes, `{class name: [sentence, ...]}`."""
        return load_descriptions(self.params, self.name, self.pack.class_names).texts

    @functools.cached_property
    def descriptions(self):
        """The descriptions of all classes as the text tower sees them."""
        return encode_descriptions(self.encoder, self.sentences, self.pack.class_names)

    def compare(self, before, after):
        """Return the `Comparison` of two classifiers [C, d] over all test images."""
        scale = self.backbone.logit_scale
        shares = [(scale * self.features @ classes.T).softmax(dim=-1) for classes in
                  (before, after)]
        return Comparison(self.pack.class_names, self.pack.test.paths, self.labels, *shares)


class Comparison(NamedTuple):
    """What two classifiers make of the same test images."""

    class_names: list
    paths: list
    labels: torch.Tensor  # [N]
    before: torch.Tensor  # [N, C] class probabilities
    after: torch.Tensor

    def per_class_change(self):
        """Return the change of each class's accuracy, in points, as a Series by class name."""
        frame = pd.DataFrame({"label": self.labels,
                              "before": top1_each(self.before, self.labels),
                              "after": top1_each(self.after, self.labels)})
        means = frame.groupby("label").mean()
        return pd.Series((means["after"] - means["before"]).values,
                         index=[self.class_names[label] for label in means.index])

    def examples(self, count, classes=3):
        """Return `count` images that `after` puts right and `count` that it spoils, as dicts.

        They are the ones whose right class gained or lost most probability, of different classes.
        """
        rows = torch.arange(len(self.labels))
        gain = (self.after - self.before)[rows, self.labels]
        right_before = top1_each(self.before, self.labels) > 0
        right_after = top1_each(self.after, self.labels) > 0
        chosen = []
        for changed, order in ((right_after & ~right_before, gain.argsort(descending=True)),
                               (right_before & ~right_after, gain.argsort())):
            of_class = {}  # the most changed image of each class
            for index in order[changed[order]].tolist():
                of_class.setdefault(self.labels[index].item(), index)
            chosen += list(of_class.values())[:count]
        return [{"path": self.paths[index], "truth": self.class_names[self.labels[index]],
                 "before": self._ranking(self.before[index], classes),
                 "after": self._ranking(self.after[index], classes)} for index in chosen]

    def _ranking(self, shares, classes):
        top = shares.topk(min(classes, len(shares)))
        return [(self.class_names[label], 100 * share)
                for share, label in zip(top.values.tolist(), top.indices.tolist(), strict=True)]


def top1_each(shares, labels):
    """Return 100 for every image [N] whose highest share [N, C] is the right class's, else 0."""
    return 100.0 * (shares.argmax(dim=-1) == labels)
