"""Class-wise augmentation: statistics, what each way draws, and from whose images."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from promptstudy.methods.augmentation import (
    Augmentation,
    Support,
    image_prototypes,
    stand_ins,
    statistics,
)
from promptstudy.methods.stacked import ContextNetwork, generators_of

LABELS = torch.tensor([[0, 0, 0, 1, 1, 2], [2, 1, 1, 0, 0, 0]])


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def support(n_views=4, dim=8, labels=LABELS):
    features = F.normalize(draw(*labels.shape, n_views, dim), dim=-1)
    return Support(features, labels)


def augmentation(eta=1.0, seeds=(1, 2), **options):
    return Augmentation(support(**options), 3, seeds, eta)


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


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_statistics_are_each_class_s_own_shrunk_to_their_mean(rho):
    given = support()
    mean, variance = statistics(given, 3, rho)
    for run in range(2):
        own = [given.features[run, given.labels[run] == c].flatten(0, 1) for c in range(3)]
        pooled = torch.stack([f.var(dim=0, correction=0) for f in own]).mean(dim=0)
        for c, features in enumerate(own):
            torch.testing.assert_close(mean[run, c], features.mean(dim=0))
            # class 2 has one image: its views alone say too little
            share = 0 if c == 2 else rho
            expected = share * features.var(dim=0, correction=0) + (1 - share) * pooled
            torch.testing.assert_close(variance[run, c], expected)


def test_gauss_keeps_the_means_and_has_the_variance_in_expectation():
    source = augmentation(eta=1.5)
    labels = torch.arange(3).repeat_interleave(20_000).expand(2, -1)
    drawn = source.gauss(labels).view(2, 3, 20_000, -1)
    deviation = 1.5 * source.variance.sqrt()
    error = (drawn.mean(dim=2) - source.mean) / (deviation / math.sqrt(20_000))
    assert error.abs().max() < 5  # standard errors
    torch.testing.assert_close(drawn.std(dim=2), deviation, rtol=0.03, atol=0)


def test_gauss_without_spread_draws_the_mean():
    source = augmentation(eta=0)
    torch.testing.assert_close(source.gauss(LABELS), source.mean.gather(
        1, LABELS[..., None].expand(-1, -1, 8)))


@pytest.mark.parametrize("n_views", [1, 4])
def test_partners_are_all_views_of_the_class_s_images_about_equally_often(n_views):
    source = augmentation(n_views=n_views)
    classes = torch.arange(3).repeat_interleave(3000).repeat(2, 1)
    partners = source.partners(classes).view(2, 3, 3000, -1)
    for run in range(2):
        for c in range(3):
            own = source.support.features[run, LABELS[run] == c].flatten(0, 1)
            matches = (partners[run, c].unsqueeze(1) == own).all(dim=-1)
            assert (matches.sum(dim=1) == 1).all()
            expected = 3000 / len(own)
            assert (matches.sum(dim=0) - expected).abs().max() < 5 * math.sqrt(expected)


def test_intra_mix_lies_between_two_features_of_the_class():
    source = augmentation(dim=30)
    given = source.support.features[:, :, 0]
    mixed = source.intra_mix(given, LABELS)
    for run in range(2):
        for image, feature, label in zip(mixed[run], given[run], LABELS[run], strict=True):
            own = source.support.features[run, LABELS[run] == label].flatten(0, 1)
            # (image - feature) = (1 - l) (partner - feature) for one of the partners
            change, way = image - feature, own - feature
            share = (way @ change) / way.square().sum(dim=1).clamp(min=1e-9)
            off = (change - share[:, None] * way).norm(dim=1)
            assert any(o < 1e-5 and -1e-5 <= s <= 1 for o, s in zip(off, share, strict=True))


def test_intra_mix_of_a_single_image_is_the_image_or_its_views():
    labels = torch.tensor([[0, 1, 2]] * 2)
    alone = augmentation(n_views=1, labels=labels)
    given = alone.support.features[:, :, 0]
    torch.testing.assert_close(alone.intra_mix(given, labels), given)
    with_views = augmentation(n_views=4, labels=labels)
    given = with_views.support.features[:, :, 0]
    assert (with_views.intra_mix(given, labels) - given).abs().max() > 0.01


@pytest.mark.parametrize("n_classes", [2, 3])
def test_inter_mix_mixes_with_another_class_and_its_text_with_the_same_share(n_classes):
    """Images and texts of a class are the class's own axis, so that the shares can be read off."""
    labels = torch.arange(n_classes).repeat(2, 50)
    axes = torch.eye(8)
    source = Augmentation(Support(axes[labels][:, :, None], labels), n_classes, (1, 2))
    mixed, text = source.inter_mix(axes[labels], labels, axes[:n_classes].expand(2, -1, -1))
    torch.testing.assert_close(mixed.sum(dim=-1), torch.ones(labels.shape))
    torch.testing.assert_close(text, F.normalize(mixed, dim=-1))
    own = mixed.gather(2, labels[..., None]).squeeze(2)
    assert ((mixed > 0).sum(dim=-1) == 2).all() and (own > 0).all()
    partner = mixed.scatter(2, labels[..., None], 0).argmax(dim=-1)
    pairs = {(a, b) for a, b in zip(labels.flatten().tolist(), partner.flatten().tolist(),
                                    strict=True)}
    assert pairs == {(a, b) for a in range(n_classes) for b in range(n_classes) if a != b}
    assert 0.4 < own.mean() < 0.6 and own.std() == pytest.approx(12 ** -0.5, abs=0.05)


@pytest.mark.parametrize("way", ["gauss", "intra_mix", "inter_mix"])
def test_runs_draw_from_their_seeds_alone(way):
    given = support()

    def drawn(seeds, runs):
        source = Augmentation(Support(*(t[runs] for t in given)), 3, seeds)
        arguments = {"gauss": (), "intra_mix": (), "inter_mix": (draw(2, 3, 8)[runs],)}[way]
        features = (given.features[runs, :, 0],) if way != "gauss" else ()
        results = [getattr(source, way)(*features, LABELS[runs], *arguments) for _ in range(2)]
        return [r[0] if way == "inter_mix" else r for r in results]

    both, again = (drawn((5, 7), slice(None)) for _ in range(2))
    alone = drawn((7,), slice(1, 2))
    for step in range(2):
        assert torch.equal(both[step], again[step])
        torch.testing.assert_close(both[step][1:], alone[step])
    assert not torch.equal(both[0], both[1])  # another step draws anew
    other = drawn((5, 8), slice(None))
    assert torch.equal(other[0][0], both[0][0]) and not torch.equal(other[0][1], both[0][1])


def test_random_numbers_are_not_those_that_order_the_images():
    drawn = augmentation(seeds=(3, 4))._draw(lambda g: torch.rand(5, generator=g))
    for seed, numbers in zip((3, 4), drawn, strict=True):
        ordering = torch.rand(5, generator=torch.Generator().manual_seed(seed))
        assert (numbers - ordering).abs().max() > 0.01


def test_stand_ins_lie_among_the_prototypes_as_their_texts_lie_among_the_texts():
    known = image_prototypes(support(), 3)
    assert known.norm(dim=-1) == pytest.approx(1)
    hard, new = F.normalize(draw(3, 8, seed=3), dim=-1), F.normalize(draw(2, 8, seed=4), dim=-1)
    found = stand_ins(new, known, hard)
    assert found.shape == (2, 2, 8)
    torch.testing.assert_close(stand_ins(hard, known, hard).mean(dim=1), known.mean(dim=1))
    torch.testing.assert_close(found[:, 0] - found[:, 1], (new[0] - new[1]).expand(2, -1))


def test_context_network_starts_at_nothing_and_each_run_from_its_seed():
    both, alone = (ContextNetwork(generators_of(seeds), 32, 6, zero=True)
                   for seeds in ((1, 2), (2,)))
    given = draw(2, 3, 32)
    assert torch.equal(both(given), torch.zeros(2, 3, 6))
    first, second = both.first, both.second
    assert torch.equal(first.weight[1], alone.first.weight[0])
    assert torch.equal(first.bias[1], alone.first.bias[0])
    with torch.no_grad():
        second.weight += draw(2, 2, 6)
        second.bias += draw(2, 6)
        for run, features in enumerate(given):  # as two layers of torch
            hidden = F.linear(features, first.weight[run].T, first.bias[run]).relu()
            expected = F.linear(hidden, second.weight[run].T, second.bias[run])
            torch.testing.assert_close(both(given)[run], expected)
