"""LiMBeR, AAPE on top of it and their controls: what is learned, and what each of them says."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import json_sha256, tensors_sha256
from ..llm.frozen import LanguageModel
from ..methods.aape import other_images
from ..params.methods.aape import OTHERS_AAPE, AAPEVariant
from .learning import Recipe, learn
from .limber import Captions, Limber, LimberAAPE
from .pictures import Pictures
from .questions import Question, examples
from .scores import cut

BLIND, RANDOM, HOST, AAPE = "blind", "random encoder", "LiMBeR", "LiMBeR + AAPE"
PERCEPTRON = "LiMBeR + perceptron"  # AAPE's parts without the language: L_task alone
CONDITIONS = (BLIND, RANDOM, HOST, PERCEPTRON, AAPE, OTHERS_AAPE)
VARIANTS = {AAPE: AAPEVariant(), PERCEPTRON: AAPEVariant(lambda_distill=0, mu=0)}
EXAMPLES = (0, 1, 2, 4)  # questions with answers that precede a question
LONGEST_CAPTION, LONGEST_ANSWER = 24, 4  # tokens


class Study:
    """What is learned from captions, and what is said with it of the test images.

    pictures: see `Pictures`; random: their features by a random tower, `{split: [N, d]}`; model:
    the frozen language model; folder: where what is learned is kept, so that nothing is learned
    twice. `seeds` [R] are those of the runs.
    """

    def __init__(self, pictures: Pictures, random: dict[str, Tensor], model: LanguageModel,
                 logit_scale: float, seeds: Sequence[int], folder: Path) -> None:
        self.pictures, self.model, self.seeds, self.folder = pictures, model, seeds, folder
        self.features = {name: random if name == RANDOM else
                         {split: getattr(pictures, split).features
                          for split in ("train", "val", "test")}
                         for name in (RANDOM, HOST, *VARIANTS)}
        captions, labels = Captions(model, pictures.captions), pictures.train.labels
        self.methods: dict[str, Any] = {
            name: Limber(self.features[name]["train"], labels, captions, seeds)
            for name in (RANDOM, HOST)}
        prompts = pictures.prompts()
        for name, variant in VARIANTS.items():
            self.methods[name] = LimberAAPE(self.features[name]["train"], labels, captions,
                                            variant, logit_scale, seeds, prompts)

    def learn(self, recipe: Recipe) -> dict[str, Tensor]:
        """Train what is not trained yet; return the losses, `{variant: [steps, R]}`."""
        losses = {}
        for name, method in self.methods.items():
            features = self.features[name]["train"]
            record = {"variant": name, "seeds": list(self.seeds),
                      "features": tensors_sha256({"train": features}),
                      "captions": json_sha256(self.pictures.captions),
                      "draws": tensors_sha256({"draws": self.pictures.draws}),
                      "model": tensors_sha256({"words": self.model.embeddings})}
            path = self.folder / f"{'_'.join(re.findall(r'[A-Za-z]+', name))}.safetensors"
            losses[name] = learn(method, features, self.pictures.train.labels,
                                 self.pictures.draws, recipe, self.seeds, path, record)
        return losses

    @torch.no_grad()
    def tokens(self, condition: str, split: str) -> Tensor | None:
        """Return the tokens [R, N, t, D] of a split's images in a condition; None if it is blind.

        `OTHERS_AAPE` gives every image the AAPE of another one (see `other_images`).
        """
        if condition == BLIND:
            return None
        name = AAPE if condition == OTHERS_AAPE else condition
        method = self.methods[name].eval()
        features = self.features[name][split].expand(len(self.seeds), -1, -1)
        if condition != OTHERS_AAPE:
            return method.tokens(features)
        others = other_images(self.features[name][split]).expand_as(features)
        return method.tokens(features, method.generate(others))

    def captions(self, condition: str, split: str, prompt: str) -> list[list[str]]:
        """Return a caption of each image, `[run][image]`, that goes on after `prompt`.

        Blind, all runs and images have the same one.
        """
        tokens = self.tokens(condition, split)
        if tokens is None:
            said = self.model.complete([self.model.embedded(prompt or "A")], LONGEST_CAPTION)
            return [said * len(getattr(self.pictures, split).labels) for _ in self.seeds]
        return [self.model.complete([self.model.embedded(image, prompt) for image in of_run],
                                    LONGEST_CAPTION) for of_run in tokens]

    def answers(self, condition: str, questions: Sequence[Question],
                known: Sequence[Question], count: int) -> list[list[str]]:
        """Return the answer to each question, `[run][question]`, cut to the right one's length.

        questions: about test images. `count` of the questions `known` about training images come
        first, with their answers; every run draws its own, the same for all questions.
        """
        test, train = (self.tokens(condition, split) for split in ("test", "train"))
        found = []
        for run, seed in enumerate(self.seeds):
            before: list[str | Tensor] = []
            for example in examples(known, count, seed):
                before += [] if train is None else [train[run, example.image]]
                before.append(f"{_asked(example)} {example.answers[0]}")
            prompts = [self.model.embedded(*before, *([] if test is None else
                                                      [test[run, question.image]]),
                                           _asked(question)) for question in questions]
            said = self.model.complete(prompts, LONGEST_ANSWER)
            found.append([cut(text, question.answers)
                          for text, question in zip(said, questions, strict=True)])
        return found


def _asked(question):
    """A question as LiMBeR puts it to a language model."""
    return f" Q: {question.text} A:"
