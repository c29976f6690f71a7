"""Class-wise Mixup of image features (Zhang et al., ICLR 2018, on frozen features).

Partners come from a run's own training images, its *support*; no image of another class is needed.
Every run draws from its own generator.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from ..datasets.packs import PackSplit
from .stacked import generators_of


class Support(NamedTuple):
    """The images that R runs learn from: V augmented views of each, or the images themselves."""

    features: Tensor  # [R, N, V, d] normalised
    labels: Tensor  # [R, N]

    @classmethod
    def of(cls, images: PackSplit, draws: Tensor) -> "Support":
        """Return the support of a pack's training images with indices `draws` [R, N]."""
        features = (images.views[draws] if images.views.shape[1]
                    else images.features[draws].unsqueeze(2))
        return cls(F.normalize(features, dim=-1), images.labels[draws])


class Mixup:
    """Mixes the images of a batch with images of the support; reproducible by `seeds`, one per run.

    way: `within`, every partner is of the image's own class (any view of any image, so that a
    single image is mixed with its own other views); `across`, of another class; `both`, each with
    probability 1/2; `none`, images stay as they are. alpha: how evenly, see `__call__`.
    """

    def __init__(self, way: str, support: Support | None, n_classes: int, seeds: Sequence[int],
                 alpha: float = 1.0) -> None:
        self.way, self.support, self.n_classes, self.alpha = way, support, n_classes, alpha
        self.generators = generators_of(seeds)

    def __call__(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed features [R, B, d] and the classes' shares in them [R, B, C].

        x = norm(l f + (1 - l) f'), y = l e_c + (1 - l) e_c', with l ~ Beta(alpha, alpha), of
        normalised features f [R, B, d] of classes c [R, B] and partners f' of classes c'. With
        alpha = 1 all shares l are equally likely, with a small one l is mostly near 0 or 1.
        """
        if self.way == "none":
            return features, F.one_hot(labels, self.n_classes).to(features.dtype)
        uniform = self._draw(lambda g: torch.rand(labels.shape[1], 1, generator=g), "cpu")
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha,
                                            uniform.double().numpy())).to(features)
        classes = self.partner_classes(labels)
        return mixed(features, labels, self.partners(classes), classes, share, self.n_classes)

    def partner_classes(self, labels: Tensor) -> Tensor:
        """Return the class [R, B] of every image's partner."""
        step = 1 + self._integers(labels) % max(1, self.n_classes - 1)
        others = (labels + step) % self.n_classes
        within = {"within": 1, "across": 0}.get(self.way, self._integers(labels) % 2)
        return torch.where(torch.as_tensor(within, device=labels.device) == 1, labels, others)

    def partners(self, classes: Tensor) -> Tensor:
        """Return a random support feature [R, B, d] of each of the classes [R, B]."""
        assert self.support is not None, "only Mixup `none` does without a support"
        by_class = self.support.labels.argsort(dim=1, stable=True)
        ordered = self.support.labels.gather(1, by_class)
        first, end = (torch.searchsorted(ordered, classes, right=right) for right in (False, True))
        image = by_class.gather(1, first + self._integers(classes) % (end - first))
        view = self._integers(classes) % self.support.features.shape[2]
        runs = torch.arange(len(classes), device=classes.device)[:, None]
        return self.support.features[runs, image, view]

    def _integers(self, labels):
        return self._draw(lambda g: torch.randint(2**40, labels.shape[1:], generator=g),
                          labels.device)

    def _draw(self, sample, device):
        return torch.stack([sample(generator) for generator in self.generators]).to(device)


def mixed(features: Tensor, labels: Tensor, partners: Tensor, classes: Tensor, share: Tensor,
          n_classes: int) -> tuple[Tensor, Tensor]:
    """Return the mixture of features and partners [R, B, d], and its classes' shares [R, B, C].

    labels and classes [R, B] are theirs; `share` [R, B, 1] is what the features have in it.
    """
    own, other = (F.one_hot(c, n_classes).to(features.dtype) for c in (labels, classes))
    return (F.normalize(share * features + (1 - share) * partners, dim=-1),
            share * own + (1 - share) * other)
