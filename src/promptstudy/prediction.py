"""What a trained method predicts of any image, for its own classes or others: scores of classes.

Evaluation needs predicted classes alone, so methods give these; here are the scores behind them.
"""

import functools
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from . import class_texts
from .clip.backbone import Backbone
from .clip.text_features import ensemble_templates
from .errors import PredictionError
from .evaluation import Evaluation
from .methods import registry
from .methods.aape import Classifier
from .methods.cocoop import CoCoOp
from .methods.coop import CoOp
from .methods.dualpt import DuAlPT
from .methods.dualview import DualView
from .methods.plot import CHUNK, PLOT
from .params import Params, Setting
from .plans import plan
from .results import METHODS
from .task import Task

HAND_CRAFTED = ("zero_shot", "ensemble")  # classifiers without anything learned


class Predictor(NamedTuple):
    """A trained method around class names: one run of it, i.e. one seed."""

    method: str
    setting: Setting | None  # None: nothing was learned
    seed: int
    class_names: list[str]
    backbone: Backbone
    model: Any
    run: int  # which of the model's runs

    @torch.no_grad()
    def probabilities(self, features: Tensor, local: Tensor) -> Tensor:
        """Return p(class | image) [N, C] of features [N, d] and local features [N, L, d].

        Both are as the image tower gives them, un-normalised.
        """
        features, local = (F.normalize(each, dim=-1) for each in (features, local))
        return scores(self.model, features, local)[self.run].softmax(dim=-1)

    @torch.no_grad()
    def class_weights(self) -> Tensor:
        """Return the normalised class features [C, d]; raise `PredictionError` without such."""
        return class_weights(self.model)[self.run]


class HandCrafted:
    """Zero-shot CLIP or the prompt ensemble, as if it were a trained method with one run."""

    def __init__(self, task: Task, templates: list[str], class_names: list[str]) -> None:
        self.logit_scale = task.logit_scale
        self.classes = task.encoder.encode_templates(class_names, templates)[None]


class OtherClasses(Task):
    """Classes that a user names, in place of a dataset's, with the dataset's template.

    No language model was asked about them, so their only description is the hand-crafted prompt.
    """

    def __init__(self, task: Task, class_names: list[str]) -> None:
        pack: Any = SimpleNamespace(class_names=class_names, provenance={"dataset": task.name})
        super().__init__(task.params, pack, task.backbone, task.encoder)
        self.cached[class_texts.sentences.__qualname__,] = self.template_texts


def load_predictor(params: Params, dataset: str, method: str, *, setting: str | None = None,
                   seed: int | None = None, class_names: list[str] | None = None) -> Predictor:
    """Return the `Predictor` of what a method learned on a dataset.

    setting: the key of one of the method's settings, e.g. `few_shot/M16/4`; None: the few-shot one
    of its main variant with the most shots, or for other `class_names` (and for a method that is
    not trained few-shot) the base-to-new one. seed: one of the suite's; None: the first. Without
    `class_names` the classes are all of the dataset's. Raises `PredictionError` for a
    setting, a seed or classes that do not fit, and what `Task.load` and `load_tensors` raise.
    """
    seed = params.seeds[0] if seed is None else seed
    if seed not in params.seeds:
        raise PredictionError(f"nothing was trained with seed {seed}; the seeds are "
                              f"{', '.join(map(str, params.seeds))}")
    if method in HAND_CRAFTED:
        if setting is not None:
            raise PredictionError(f"{method} learns nothing, so it has no setting {setting!r}")
        task = Task.load(params, dataset)
        templates = {"zero_shot": [task.template],
                     "ensemble": ensemble_templates(task.template)}[method]
        names = class_names or task.class_names
        return Predictor(method, None, 0, names, task.backbone,
                         HandCrafted(task, templates, names), 0)
    registry.load(method)  # raises for another name
    if method not in params.methods:
        raise PredictionError(f"params.yaml has no block {method!r}, so it was not trained")
    chosen = _setting(params, dataset, method, setting, class_names)
    if class_names and getattr(getattr(chosen.variant, "context", chosen.variant),
                               "class_specific", False):
        raise PredictionError(f"{chosen.key} has a context for each class of {dataset}, so it "
                              "takes no other classes; a setting with one context for all does")
    task = Evaluation.load(params, dataset)
    others = OtherClasses(task, class_names) if class_names else None
    model = task.trained(method, chosen, onto=others)
    return Predictor(method, chosen, seed, class_names or task.class_names, task.backbone, model,
                     params.seeds.index(seed))


def _setting(params, dataset, method, key, others):
    """Return the setting with that key, or the default one."""
    settings = {setting.key: setting for setting in plan(params, method, dataset)
                if setting.protocol != "retrieval"}
    if key is None:
        block = params.methods[method]
        few_shot = block.few_shot if not others else None
        key = (Setting("few_shot", few_shot, max(params.shots)) if few_shot else
               Setting("base_to_new", block.base_to_new, params.base_to_new_shots)).key
    if key not in settings:
        raise PredictionError(f"{method} has no setting {key!r} on {dataset}; it has "
                              f"{', '.join(settings) or 'only one for retrieval'}")
    return settings[key]


@functools.singledispatch
def scores(model: Any, features: Tensor, local: Tensor) -> Tensor:
    """Return class scores [R, N, C] of normalised features [N, d], local features [N, L, d]."""
    return model.logit_scale * features @ class_weights(model).mT


@scores.register(PLOT)
def _(model, features, local):
    classes, prompts = model.class_features()
    return torch.cat([
        model.scores(part, of_part.expand(len(classes), *of_part.shape), classes, prompts)
        for part, of_part in zip(features.split(CHUNK), local.split(CHUNK), strict=True)], dim=1)


@scores.register(CoCoOp)
def _(model, features, local):
    return model.scores(features.expand(len(model.contexts), -1, -1))


@scores.register(Classifier)
def _(model, features, local):
    return torch.cat([model.scores(part) for part in features.split(CHUNK)], dim=1)


@functools.singledispatch
def class_weights(model: Any) -> Tensor:
    """Return the normalised class features [R, C, d] that the model compares images with.

    Raises `PredictionError` for a model whose prediction is more than that.
    """
    raise NotImplementedError(type(model).__name__)


@class_weights.register(HandCrafted)
def _(model):
    return model.classes


@class_weights.register(CoOp)
def _(model):
    return model.class_features()


@class_weights.register(DualView)
def _(model):
    classes = model.fused_classes(model.variant)
    if model.variant.critic_predicts and "of_images" in model.critics:
        classes = classes + classes @ model.critics["of_images"].matrix.mT  # x (1 + M) . w
    return classes


@class_weights.register(DuAlPT)
def _(model):
    if model.variant.beta_infer:
        raise _not_one_matrix("dualpt", "transports local image features to several prompts")
    return model.class_features()[0]


@class_weights.register(PLOT)
def _(model):
    raise _not_one_matrix("plot", "transports local image features to several prompts")


@class_weights.register(CoCoOp)
def _(model):
    raise _not_one_matrix("cocoop", "makes prompts of its own for every image")


@class_weights.register(Classifier)
def _(model):
    raise _not_one_matrix("aape", "moves the classes for every image by a prompt made from it")


def _not_one_matrix(method, why):
    return PredictionError(f"{METHODS[method]} cannot be exported as class weights, as it {why}; "
                           f"`promptstudy predict --method {method}` classifies images with it")
