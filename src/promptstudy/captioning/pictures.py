"""The images that captions and answers are about: photographs of all of a suite's datasets."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..class_texts import sentences
from ..clip.text_features import DescriptionFeatures, encode_descriptions
from ..datasets.subsets import draw_per_class
from ..task import Task

UNSEEN = 3  # every third class of a dataset is never shown in training
SEEN = ("seen", "unseen")  # the subsets of the test images in the results


class Photographs(NamedTuple):
    """Some photographs: normalised features [N, d], labels [N] and what tells them apart."""

    features: Tensor
    labels: Tensor
    paths: list[str]  # of each image, in the folder of its dataset
    digests: list[str]  # SHA-256 of each image


class Pictures:
    """The photographs of several Tasks with one list of labels, from 0 to C - 1.

    names       the class name of each label, and `datasets` the dataset that it is of
    captions    of each label: what a language model said of the class
    unseen      Boolean [C]: classes that are in no training image, every third of each dataset
    train       `Photographs` of all runs; `draws` [R, n] are each run's, `shots` of a seen class
                (`seeds` [R] draw them, as in few-shot learning)
    val, test   `per_class` photographs of every class, the same for all runs
    """

    def __init__(self, tasks: Sequence[Task], shots: int, seeds: Sequence[int],
                 per_class: int) -> None:
        self.names = [name for task in tasks for name in task.class_names]
        self.datasets = [task.name for task in tasks for _ in task.class_names]
        self.unseen = torch.cat([torch.arange(len(task.class_names)) % UNSEEN == UNSEEN - 1
                                 for task in tasks])
        self.captions = [own for task in tasks for own in _captions(task)]
        self.encoder = tasks[0].encoder
        first = dict(zip(reversed(self.datasets), range(len(self.names) - 1, -1, -1),
                         strict=True))
        runs: list[list[Tensor]] = [[] for _ in seeds]
        parts: dict[str, list] = {"train": [], "val": [], "test": []}
        before = 0
        for task in tasks:
            drawn = [task.pack.draw(shots, seed)[0] for seed in seeds]
            shown = [rows[~self.unseen[first[task.name] + task.pack.train.labels[rows]]]
                     for rows in drawn]
            every = torch.cat(shown).unique()
            for run, rows in zip(runs, shown, strict=True):
                run.append(before + torch.searchsorted(every, rows))
            before += len(every)
            rows_of = {"train": every.tolist()}
            for split in ("val", "test"):
                labels = getattr(task.pack, split).labels.tolist()
                rows_of[split] = sorted(draw_per_class(labels, per_class, random.Random(0))[0])
            for split, rows in rows_of.items():
                parts[split].append(_some(getattr(task.pack, split), rows, first[task.name]))
        self.draws = torch.stack([torch.cat(run) for run in runs])
        self.train, self.val, self.test = (_joined(parts[split]) for split in parts)

    def places(self) -> dict[tuple[str, str], Tensor]:
        """Return the indices of the test images of each dataset, seen and unseen classes apart.

        Keys are `(dataset, subset)`.
        """
        labels = self.test.labels
        found = {}
        for dataset in dict.fromkeys(self.datasets):
            here = torch.tensor([name == dataset for name in self.datasets])
            for subset, chosen in zip(SEEN, (~self.unseen, self.unseen), strict=True):
                found[dataset, subset] = (here & chosen)[labels].nonzero()[:, 0]
        return found

    def prompts(self) -> DescriptionFeatures:
        """Return the captions of all labels as AAPE's reference prompts, `DescriptionFeatures`."""
        keys = [str(label) for label in range(len(self.names))]
        return encode_descriptions(self.encoder, dict(zip(keys, self.captions, strict=True)), keys,
                                   "captions")


def _captions(task):
    """What was said of each class of a task, without the hand-crafted prompt that precedes it."""
    found = []
    for name, texts in sentences(task).items():
        prompt = task.template.format(name)
        said = [text.removeprefix(prompt).strip() for text in texts]
        found.append([text for text in said if text] or [prompt])
    return found


def _some(split, rows, first):
    """The `Photographs` of some rows of a pack's split, whose labels begin at `first`."""
    return Photographs(F.normalize(split.features[rows], dim=-1), first + split.labels[rows],
                       [split.paths[row] for row in rows], [split.digests[row] for row in rows])


def _joined(parts):
    return Photographs(torch.cat([part.features for part in parts]),
                       torch.cat([part.labels for part in parts]),
                       sum((part.paths for part in parts), []),
                       sum((part.digests for part in parts), []))
