"""Tip-Adapter: limits of its two constants, equality with a plain form, and what chooses them."""

import math

import pytest
import torch
from torch.nn import functional as F

from promptstudy.methods.tip_adapter import DEFAULT, choose, closeness, scores


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


IMAGES, KEYS, LABELS = draw(7, 5), draw(6, 5, seed=1), torch.tensor([0, 2, 2, 1, 0, 2])
TEXTS = 20 * IMAGES @ draw(4, 5, seed=2).T  # the fourth class has no key


def test_it_is_the_sum_that_the_paper_writes():
    found = scores(TEXTS, IMAGES, KEYS, LABELS, 0.7, 3.0)
    for n, image in enumerate(IMAGES):
        for c in range(4):
            votes = sum(math.exp(-3 * (1 - float(image @ key)))
                        for key, label in zip(KEYS, LABELS, strict=True) if label == c)
            assert found[n, c].item() == pytest.approx(TEXTS[n, c].item() + 0.7 * votes, abs=1e-5)


def test_without_its_cache_it_is_zero_shot_clip():
    assert torch.equal(scores(TEXTS, IMAGES, KEYS, LABELS, 0.0, 5.5), TEXTS)


def test_with_beta_0_every_key_counts_1_and_with_a_large_beta_the_nearest_decides():
    assert closeness(IMAGES @ KEYS.T, LABELS, 4, 0.0).tolist() == [[2, 1, 3, 0]] * 7
    nearest = LABELS[(IMAGES @ KEYS.T).argmax(dim=1)]
    assert torch.equal(closeness(IMAGES @ KEYS.T, LABELS, 4, 60.0).argmax(dim=1), nearest)


def test_the_order_of_the_keys_does_not_matter():
    order = torch.randperm(6, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(scores(TEXTS, IMAGES, KEYS[order], LABELS[order], 1.0, 5.5),
                               scores(TEXTS, IMAGES, KEYS, LABELS, 1.0, 5.5))


def test_the_constants_are_the_best_of_the_grid_on_validation_images():
    keys, labels = draw(40, 6, seed=4), torch.arange(40) % 4
    images, truth = F.normalize(keys + 0.2 * draw(40, 6, seed=5), dim=1), labels
    noise = 3 * torch.randn(40, 4, generator=torch.Generator().manual_seed(6))
    alpha, beta = choose(noise, images, truth, keys, labels)
    assert alpha > 1  # texts that say nothing are outvoted
    right = 4 * F.one_hot(truth, 4).float()
    assert choose(right, images, truth, keys, labels) == pytest.approx((0.1, 0.1))  # the first

    def accuracy(alpha, beta):
        found = scores(noise, images, keys, labels, alpha, beta).argmax(dim=1)
        return (found == truth).double().mean()
    assert accuracy(alpha, beta) >= max(accuracy(0.1, 0.1), accuracy(3.0, 7.0), accuracy(*DEFAULT))
    assert choose(noise[:0], images[:0], truth[:0], keys, labels) == DEFAULT
