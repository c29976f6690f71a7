"""Class-wise Mixup: what is mixed, in which shares, and from whose images."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from promptstudy.methods.augmentation import Mixup, Support, mixed

LABELS = torch.tensor([[0, 0, 0, 1, 1, 2], [2, 1, 1, 0, 0, 0]])
WAYS = ["within", "across", "both"]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def support(n_views=4, dim=8, labels=LABELS):
    return Support(F.normalize(draw(*labels.shape, n_views, dim), dim=-1), labels)


def axes(way, n_classes=3, count=200):
    """Mixtures of images that are their class's axis, so that what is in them can be read off."""
    labels = torch.arange(n_classes).repeat(2, count)
    images = torch.eye(n_classes)[labels]
    mixup = Mixup(way, Support(images[:, :, None], labels), n_classes, (1, 2))
    return labels, *mixup(images, labels)


def between(image, first, second):
    """Is a feature a sum of two others in shares that are not negative?"""
    pair = torch.stack([first, second], dim=1).double()
    shares = torch.linalg.pinv(pair, rtol=1e-4) @ image.double()
    return (pair @ shares - image).norm() < 1e-4 and (shares > -1e-4).all()


def test_support_has_the_views_of_the_drawn_images_or_the_images_themselves():
    images = SimpleNamespace(features=3 * draw(5, 8), views=2 * draw(5, 4, 8, seed=1),
                             labels=torch.arange(5))
    draws = torch.tensor([[0, 3], [4, 1]])
    found = Support.of(images, draws)
    assert torch.equal(found.labels, draws)
    torch.testing.assert_close(found.features, F.normalize(images.views, dim=-1)[draws])
    images.views = images.views[:, :0]
    found = Support.of(images, draws).features
    torch.testing.assert_close(found, F.normalize(images.features, dim=-1)[draws][:, :, None])


def test_all_of_an_image_is_the_image_and_nothing_of_it_its_partner():
    features, partners = (F.normalize(draw(2, 6, 8, seed=seed), dim=-1) for seed in (0, 1))
    others, whole = (LABELS + 1) % 3, torch.ones(2, 6, 1)
    for share, expected, classes in ((whole, features, LABELS), (0 * whole, partners, others)):
        found, shares = mixed(features, LABELS, partners, others, share, 3)
        torch.testing.assert_close(found, expected)
        assert torch.equal(shares, F.one_hot(classes, 3).float())


def test_a_mixture_is_the_normalised_sum_in_the_shares():
    features, partners = (F.normalize(draw(2, 6, 8, seed=seed), dim=-1) for seed in (0, 1))
    share = torch.rand(2, 6, 1, generator=torch.Generator().manual_seed(2))
    found, shares = mixed(features, LABELS, partners, LABELS.flip(1), share, 3)
    for run in range(2):
        for i in range(6):
            part = share[run, i].item()
            image = part * features[run, i] + (1 - part) * partners[run, i]
            torch.testing.assert_close(found[run, i], image / image.norm())
            classes = torch.zeros(3)
            classes[LABELS[run, i]] += part
            classes[LABELS[run, 5 - i]] += 1 - part
            torch.testing.assert_close(shares[run, i], classes)


def test_without_mixup_images_stay_as_they_are_and_need_no_support():
    features = draw(2, 6, 8)
    found, shares = Mixup("none", None, 3, (1, 2))(features, LABELS)
    assert found is features and torch.equal(shares, F.one_hot(LABELS, 3).float())


def test_within_a_class_labels_are_kept():
    given = support(dim=30)
    features = given.features[:, :, 0]
    found, shares = Mixup("within", given, 3, (1, 2))(features, LABELS)
    torch.testing.assert_close(shares, F.one_hot(LABELS, 3).float())
    for run in range(2):
        for image, feature, label in zip(found[run], features[run], LABELS[run], strict=True):
            assert any(between(image, feature, partner) for partner in given.features[
                run, LABELS[run] == label].flatten(0, 1))
    assert (found - features).norm(dim=-1).max() > 0.1


def test_a_single_image_of_a_class_is_mixed_with_its_own_views_alone():
    labels = torch.tensor([[0, 1, 2]] * 2)
    for n_views, changed in ((1, False), (4, True)):
        given = support(n_views, labels=labels)
        features = given.features[:, :, 0]
        found, _ = Mixup("within", given, 3, (1, 2))(features, labels)
        assert ((found - features).abs().max() > 0.01) == changed


@pytest.mark.parametrize("n_classes", [2, 3])
def test_across_classes_the_partner_is_of_any_other_class(n_classes):
    labels, found, shares = axes("across", n_classes)
    torch.testing.assert_close(found, F.normalize(shares, dim=-1))
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(labels.shape))
    own = shares.gather(2, labels[..., None]).squeeze(2)
    others = shares.scatter(2, labels[..., None], 0)
    assert ((others > 0).sum(dim=-1) == 1).all()
    pairs = set(zip(labels.flatten().tolist(), others.argmax(dim=-1).flatten().tolist(),
                    strict=True))
    assert pairs == {(a, b) for a in range(n_classes) for b in range(n_classes) if a != b}
    assert own.mean() == pytest.approx(1 / 2, abs=0.05)
    assert own.std() == pytest.approx(12 ** -0.5, abs=0.03)  # of U(0, 1)


def test_both_ways_each_take_half():
    labels, _, shares = axes("both")
    whole = shares.gather(2, labels[..., None]).squeeze(2) > 1 - 1e-6
    assert whole.double().mean() == pytest.approx(1 / 2, abs=5 / (2 * math.sqrt(whole.numel())))
    labels, _, shares = axes("both", n_classes=1, count=3)  # without another class, one's own
    torch.testing.assert_close(shares, torch.ones(2, 3, 1))


@pytest.mark.parametrize("n_views", [1, 4])
def test_partners_are_all_views_of_the_class_s_images_about_equally_often(n_views):
    source = Mixup("within", support(n_views), 3, (1, 2))
    classes = torch.arange(3).repeat_interleave(3000).repeat(2, 1)
    partners = source.partners(classes).view(2, 3, 3000, -1)
    for run in range(2):
        for c in range(3):
            own = source.support.features[run, LABELS[run] == c].flatten(0, 1)
            matches = (partners[run, c].unsqueeze(1) == own).all(dim=-1)
            assert (matches.sum(dim=1) == 1).all()
            expected = 3000 / len(own)
            assert (matches.sum(dim=0) - expected).abs().max() < 5 * math.sqrt(expected)


@pytest.mark.parametrize("way", WAYS)
def test_runs_draw_from_their_seeds_alone(way):
    given = support()

    def drawn(seeds, runs):
        mixup = Mixup(way, Support(*(t[runs] for t in given)), 3, seeds)
        return [mixup(given.features[runs, :, 0], LABELS[runs])[0] for _ in range(2)]

    both, again = (drawn((5, 7), slice(None)) for _ in range(2))
    alone = drawn((7,), slice(1, 2))
    for step in range(2):
        assert torch.equal(both[step], again[step])
        torch.testing.assert_close(both[step][1:], alone[step])
    assert not torch.equal(both[0], both[1])  # another step draws anew
    other = drawn((5, 8), slice(None))
    assert torch.equal(other[0][0], both[0][0]) and not torch.equal(other[0][1], both[0][1])


def test_random_numbers_are_not_those_that_order_the_images():
    mixup = Mixup("both", support(), 3, (3, 4))
    drawn = mixup._draw(lambda g: torch.rand(5, generator=g), "cpu")
    for seed, numbers in zip((3, 4), drawn, strict=True):
        ordering = torch.rand(5, generator=torch.Generator().manual_seed(seed))
        assert (numbers - ordering).abs().max() > 0.01


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_shares_are_drawn_from_a_beta_distribution(alpha):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)); with alpha = 1 every share is as likely."""
    n_classes, count = 4, 5000
    labels = torch.arange(n_classes).repeat(1, count)
    images = torch.eye(n_classes)[labels]
    source = Mixup("across", Support(images[:, :, None], labels), n_classes, (1,), alpha)
    _, shares = source(images, labels)
    own = shares.gather(2, labels[:, :, None]).double()
    assert abs(own.mean().item() - 0.5) < 0.01
    assert own.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    quarter = (own < 0.25).double().mean().item()
    assert quarter == pytest.approx(stats.beta.cdf(0.25, alpha, alpha), abs=0.01)
