"""Class-wise visual augmentation: more image features of each class, made from the few at hand.

Everything happens among the features of a run's own training images, its *support*; no image of
another class is needed. Every run draws from its own generator.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from .stacked import generators_of

ETA = 1.0  # spread of `gauss`, in standard deviations of the class
RHO = 0.5  # share of a class's own variance in it, beside the mean of all classes


class Support(NamedTuple):
    """The images that R runs learn from: V augmented views of each, or the images themselves."""

    features: torch.Tensor  # [R, N, V, d] normalised
    labels: torch.Tensor  # [R, N]

    @classmethod
    def of(cls, images, draws):
        """Return the support of a pack's training images with indices `draws` [R, N]."""
        features = (images.views[draws] if images.views.shape[1]
                    else images.features[draws].unsqueeze(2))
        return cls(F.normalize(features, dim=-1), images.labels[draws])


def statistics(support, n_classes, rho=RHO):
    """Return mean and variance [R, C, d] of each class's support.

    The variance of single dimensions is shrunk to its mean over classes, to which a share of
    1 - rho belongs, and all of it for a class with one image, whose views vary too little.
    """
    own = F.one_hot(support.labels, n_classes).to(support.features.dtype)  # [R, N, C]
    count = own.sum(dim=1)[..., None]
    mean = own.mT @ support.features.mean(dim=2) / count
    centre = mean.gather(1, support.labels[..., None].expand(-1, -1, mean.shape[-1]))
    spread = (support.features - centre.unsqueeze(2)).square().mean(dim=2)
    variance = own.mT @ spread / count
    kept = torch.where(count > 1, rho, 0.0)
    return mean, kept * variance + (1 - kept) * variance.mean(dim=1, keepdim=True)


class Augmentation:
    """Draws features beside those of a batch; runs are reproducible by `seeds`, one a run."""

    def __init__(self, support, n_classes, seeds, eta=ETA):
        self.support, self.n_classes, self.eta = support, n_classes, eta
        self.mean, self.variance = statistics(support, n_classes)
        self.generators = generators_of(seeds)

    def gauss(self, labels):
        """Return mu_c + eta sqrt(v_c) e [R, B, d], e ~ N(0, I), for classes c [R, B]."""
        index = labels[..., None].expand(-1, -1, self.mean.shape[-1])
        noise = self._draw(lambda g: torch.randn(index.shape[1:], generator=g))
        return self.mean.gather(1, index) + self.eta * self.variance.gather(1, index).sqrt() * noise

    def intra_mix(self, features, labels):
        """Return l f + (1 - l) f' [R, B, d], f' of the same class, l ~ U(0, 1).

        f' is any view of any support image of the class, so that a single image is mixed with its
        own other views, or stays as it is if it has none.
        """
        share = self._shares(labels)
        return share * features + (1 - share) * self.partners(labels)

    def inter_mix(self, features, labels, soft):
        """Return virtual classes: features l f + (1 - l) f' [R, B, d] and their text features.

        f' is of another class; with the same l the class features [R, C, d] are mixed to
        norm(l s_a + (1 - l) s_b) [R, B, d].
        """
        share = self._shares(labels)
        step = 1 + self._integers(labels) % max(1, self.n_classes - 1)
        others = (labels + step) % self.n_classes
        first, second = (soft.gather(1, c[..., None].expand(-1, -1, soft.shape[-1]))
                         for c in (labels, others))
        return (share * features + (1 - share) * self.partners(others),
                F.normalize(share * first + (1 - share) * second, dim=-1))

    def partners(self, labels):
        """Return a random support feature [R, B, d] of each of the classes [R, B]."""
        by_class = self.support.labels.argsort(dim=1, stable=True)
        ordered = self.support.labels.gather(1, by_class)
        first, end = (torch.searchsorted(ordered, labels, right=right) for right in (False, True))
        image = by_class.gather(1, first + self._integers(labels) % (end - first))
        view = self._integers(labels) % self.support.features.shape[2]
        runs = torch.arange(len(labels), device=labels.device)[:, None]
        return self.support.features[runs, image, view]

    def _draw(self, sample):
        draws = torch.stack([sample(generator) for generator in self.generators])
        return draws.to(self.mean.device)

    def _shares(self, labels):
        return self._draw(lambda g: torch.rand(labels.shape[1], 1, generator=g))

    def _integers(self, labels):
        return self._draw(lambda g: torch.randint(2**40, labels.shape[1:], generator=g))


def image_prototypes(support, n_classes):
    """Return each class's normalised mean image feature [R, C, d]."""
    return F.normalize(statistics(support, n_classes, rho=1)[0], dim=-1)


def stand_ins(hard, known, known_hard):
    """Return prototypes [R, C', d] of classes without images, made from their hand-crafted views.

    hard [C', d] are these, and `known` [R, C, d] the prototypes of classes with hand-crafted views
    known_hard [C, d]: texts are moved by what lies between image and text features there,
    h_c + mean(prototypes) - mean(h).
    """
    return hard + (known.mean(dim=1, keepdim=True) - known_hard.mean(dim=0))
