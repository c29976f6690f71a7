"""Two classifiers compared on the same images: classes that gain or lose, and examples."""

from typing import Any, NamedTuple

import pandas as pd
import torch

from .metrics import top1_each


class Changes(NamedTuple):
    """Class probabilities of the same images by two classifiers, `before` and `after`."""

    class_names: list
    paths: list
    labels: torch.Tensor  # [N]
    before: torch.Tensor  # [N, C] class probabilities
    after: torch.Tensor

    def per_class_change(self) -> pd.Series:
        """Return the change of each class's accuracy, in points, as a Series by class name."""
        frame = pd.DataFrame({"label": self.labels,
                              "before": top1_each(self.before, self.labels),
                              "after": top1_each(self.after, self.labels)})
        means = frame.groupby("label").mean()
        return pd.Series((means["after"] - means["before"]).values,
                         index=[self.class_names[label] for label in means.index])

    def examples(self, count: int, classes: int = 3) -> list[dict[str, Any]]:
        """Return `count` images that `after` corrects and `count` that it gets wrong, as dicts.

        They are those whose true class gained or lost the most probability, one per class.
        """
        rows = torch.arange(len(self.labels))
        gain = (self.after - self.before)[rows, self.labels]
        right_before = top1_each(self.before, self.labels) > 0
        right_after = top1_each(self.after, self.labels) > 0
        chosen = []
        for changed, order in ((right_after & ~right_before, gain.argsort(descending=True)),
                               (right_before & ~right_after, gain.argsort())):
            of_class: dict[int, int] = {}  # the most changed image of each class
            for index in order[changed[order]].tolist():
                of_class.setdefault(int(self.labels[index]), index)
            chosen += list(of_class.values())[:count]
        return [{"path": self.paths[index], "truth": self.class_names[self.labels[index]],
                 "before": self._ranking(self.before[index], classes),
                 "after": self._ranking(self.after[index], classes)} for index in chosen]

    def _ranking(self, shares, classes):
        top = shares.topk(min(classes, len(shares)))
        return [(self.class_names[label], 100 * share)
                for share, label in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
