"""What captions and answers score, and the claims about them that these scores decide."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..claims.comparisons import Claim, ahead, listing
from ..claims.evidence import Runs
from ..files import json_sha256
from ..params import Params
from ..params.methods.aape import OTHERS_AAPE
from ..results import COLUMNS
from ..statistics import resample_images
from .pictures import SEEN, Pictures
from .questions import Question
from .scores import PREFIX, cider_d, clip_score, ref_clip_score, vqa_accuracy
from .study import AAPE, BLIND, CONDITIONS, EXAMPLES, HOST, PERCEPTRON, RANDOM, VARIANTS

CIDER, CLIP, REF_CLIP, NAMED, ACCURACY = (
    "CIDEr-D", "CLIPScore", "RefCLIPScore", "names the class", "accuracy")


class Cell(NamedTuple):
    """What the values of some runs are of."""

    protocol: str  # captioning or vqa
    dataset: str
    subset: str  # seen or unseen classes
    metric: str
    condition: str
    shots: int  # vqa: questions with answers that come first; captioning: 0


class Scores:
    """The value of every run for every image or question, `values` {Cell: [R, N]}.

    `names` {Cell: text} says of each cell which images or questions these are. The images are the
    test images of `pictures`, and `seeds` [R] are those of the runs.
    """

    def __init__(self, pictures: Pictures, seeds: Sequence[int]) -> None:
        self.pictures, self.seeds = pictures, seeds
        self.values: dict[Cell, NDArray[np.float64]] = {}
        self.names: dict[Cell, str] = {}

    def add(self, cell: Cell, values: Any, name: str) -> None:
        """Add the values [R, N] of a cell."""
        self.values[cell], self.names[cell] = np.array(values, dtype=float), name

    @functools.cached_property
    def known(self) -> list[Tensor]:
        """The features [k, d] of the captions of each label."""
        return [self._encoded(own) for own in self.pictures.captions]

    def _encoded(self, texts):
        """The normalised features [n, d] of captions, as CLIPScore reads them."""
        prefixed = [PREFIX + text for text in texts]
        return F.normalize(self.pictures.encoder.encode_text(prefixed), dim=-1)

    def add_captions(self, condition: str, captions: list[list[str]]) -> None:
        """Add the scores of the captions `[run][image]` of the test images in a condition.

        The references of an image are the captions of its class. `NAMED` is whether a caption
        holds the class's name.
        """
        pictures, test = self.pictures, self.pictures.test
        labels = test.labels.tolist()
        references = [pictures.captions[label] for label in labels]
        found: dict[str, list[Tensor]] = {}
        for of_run in captions:
            said = self._encoded(of_run)
            score = clip_score(test.features, said)
            found.setdefault(CIDER, []).append(
                torch.from_numpy(_cider_by_dataset(pictures, of_run, references)))
            found.setdefault(CLIP, []).append(score)
            found.setdefault(REF_CLIP, []).append(
                ref_clip_score(score, said, [self.known[label] for label in labels]))
            found.setdefault(NAMED, []).append(torch.tensor(
                [float(pictures.names[label].lower() in text.lower())
                 for label, text in zip(labels, of_run, strict=True)]))
        for (dataset, subset), images in pictures.places().items():
            name = json_sha256([test.digests[image] for image in images.tolist()])[:16]
            for metric, values in found.items():
                self.add(Cell("captioning", dataset, subset, metric, condition, 0),
                         [run[images].tolist() for run in values], name)

    def add_answers(self, dataset: str, condition: str, shots: int,
                    questions: Sequence[Question], answers: list[list[str]]) -> None:
        """Add the accuracies of the answers `[run][question]` after `shots` examples."""
        unseen = self.pictures.unseen[self.pictures.test.labels].tolist()
        right = np.array([[vqa_accuracy(said, question.answers)
                           for said, question in zip(of_run, questions, strict=True)]
                          for of_run in answers])
        for subset, wanted in zip(SEEN, (False, True), strict=True):
            chosen = [number for number, question in enumerate(questions)
                      if unseen[question.image] == wanted]
            if not chosen:
                continue
            name = json_sha256([questions[number] for number in chosen])[:16]
            self.add(Cell("vqa", dataset, subset, ACCURACY, condition, shots), right[:, chosen],
                     name)

    def table(self, params: Params) -> pd.DataFrame:
        """Return the mean of every run as rows with `results.COLUMNS`, in percent."""
        rows = [{"suite": params.suite, "dataset": cell.dataset,
                 "backbone": params.backbone.name, "protocol": cell.protocol,
                 "method": "aape" if cell.condition in (*VARIANTS, OTHERS_AAPE) else "limber",
                 "variant": cell.condition, "shots": cell.shots, "seed": seed,
                 "subset": cell.subset, "metric": cell.metric, "value": 100 * values.mean(),
                 "n_test": len(values)}
                for cell, runs in self.values.items()
                for seed, values in zip(self.seeds, runs, strict=True)]
        return pd.DataFrame(rows, columns=COLUMNS)

    def runs(self, protocol: str, subset: str, metric: str, condition: str, shots: int = 0) -> Runs:
        """Return the `Runs` of a condition on every dataset."""
        found = Runs()
        for cell, values in self.values.items():
            if cell == Cell(protocol, cell.dataset, subset, metric, condition, shots):
                shares: Any = values  # a mean of shares is resampled as one of right and wrong is
                found[cell.dataset] = dict(zip(
                    self.seeds, resample_images(shares, self.names[cell]), strict=True))
        return found


def claims(scores: Scores) -> Iterator[Claim]:
    """Yield the Claims about captions (by CIDEr-D) and answers, on seen and on unseen classes."""
    for subset in SEEN:
        sides = {name: scores.runs("captioning", subset, CIDER, name) for name in CONDITIONS}
        yield from _claims(f"captions of {subset} classes", f"{subset}, {CIDER}: ", sides)
        for shots in EXAMPLES:
            sides = {name: scores.runs("vqa", subset, ACCURACY, name, shots)
                     for name in CONDITIONS}
            after = {0: "without an example", 1: "after 1 example"}.get(
                shots, f"after {shots} examples")
            yield from _claims(f"answers about {subset} classes {after}",
                               f"{subset}, {after}: ", sides)


def _claims(what, place, sides):
    """The claims about one kind of answer or caption; `sides` {condition: Runs}."""
    measured = place + listing(sides)
    for paper, seeing in (("LiMBeR", HOST), ("AAPE", AAPE)):
        yield Claim(paper, f"{seeing} sees: {what} are better than blind and with a random encoder",
                    measured, [ahead(sides[seeing], sides[other], f"over {other}")
                               for other in (BLIND, RANDOM)])
    yield Claim("AAPE", f"AAPE helps LiMBeR: {what} are better", measured,
                [ahead(sides[AAPE], sides[HOST])])
    yield Claim("AAPE", f"AAPE's language helps: {what} are better than with a perceptron alone",
                measured, [ahead(sides[AAPE], sides[PERCEPTRON])])
    yield Claim("AAPE", f"AAPE is heard: {what} are worse with another image's AAPE", measured,
                [ahead(sides[AAPE], sides[OTHERS_AAPE])])


def _cider_by_dataset(pictures, captions, references):
    """CIDEr-D of every test image, whose weights compare the images of its own dataset."""
    found = np.zeros(len(captions))
    of_image = np.array(pictures.datasets)[pictures.test.labels]
    for dataset in set(of_image):
        images = (of_image == dataset).nonzero()[0]
        found[images] = cider_d([captions[i] for i in images], [references[i] for i in images])
    return found
