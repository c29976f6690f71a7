"""The quality of texts: class features made from them, and swapped texts as a control."""

import random

import torch
from torch.nn import functional as F


def class_features(encoder, texts):
    """Return normalised features [C, d] of C lists of texts.

    As for prompt ensembles: normalise each text's feature, average, normalise again.
    """
    features = F.normalize(encoder.encode_text([text for own in texts for text in own]), dim=-1)
    means = [own.mean(dim=0) for own in features.split([len(own) for own in texts])]
    return F.normalize(torch.stack(means), dim=-1)


def swapped(sentences, seed=0):
    """Return `sentences` {class: [...]} with every class given those of another."""
    order = random.Random(seed).sample(list(sentences), len(sentences))
    return {name: sentences[other] for name, other in zip(order, order[1:] + order[:1],
                                                          strict=True)}
