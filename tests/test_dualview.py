"""The dual-view method as a model: its loss against a plain form, its limits, what it reads."""

import math
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from plain import POCKET, TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip import text
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import (
    DescriptionFeatures,
    encode_descriptions,
    hand_crafted_texts,
)
from promptstudy.methods.augmentation import Support
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualview import DualView
from promptstudy.methods.mutual_information import BOUNDS
from promptstudy.params import ContextParams, Schedule
from promptstudy.params.methods.dualview import DualViewVariant
from promptstudy.training import Batch, train

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SENTENCES = {"cat": ["a cat has whiskers.", "small and furry"], "dog": ["it barks."],
             "great white shark": ["a fish.", "grey above and white below.", "it swims."],
             "cat (felis)": ["a feline."]}
SCALE = 20.0
NEITHER = {"lambda_mi": 0, "lambda_image": 0, "mixup": "none"}
PARTS = {"neither": NEITHER, "views": NEITHER | {"lambda_mi": 0.7},
         "images": NEITHER | {"lambda_image": 1.3}, "mixup": NEITHER | {"mixup": "both"},
         "all": {"lambda_mi": 0.7, "lambda_image": 1.3, "mixup": "both"}}
EACH_PART = pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def views(encoder):
    texts = hand_crafted_texts(NAMES, "a photo of a {}.", SENTENCES)
    return {view: encode_descriptions(encoder, of, NAMES) for view, of in texts.items()}


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def support(encoder):
    labels = torch.arange(12) % 4
    return Support(draw(2, 12, 3, encoder.dim, seed=1), labels.repeat(2, 1))


@pytest.fixture(scope="module")
def batch(support):
    index = torch.stack([torch.arange(6), torch.arange(6, 12)])
    runs = torch.arange(2)[:, None]
    return Batch(index, support.features[runs, index, 0], support.labels.gather(1, index))


@pytest.fixture
def build(encoder, views, support):
    """A function that makes a dual-view method of two runs with varied contexts and critics."""
    def make(names=NAMES, contexts=None, seeds=(1, 2), runs=slice(None), spread=0.05, **options):
        variant = DualViewVariant(context=ContextParams(n_ctx=4, **options.pop("context", {})),
                                  **options)
        if contexts is None:
            contexts = 0.3 * torch.randn(2, 4, encoder.width,
                                         generator=torch.Generator().manual_seed(2))[runs]
        method = DualView(encoder, names, variant, SCALE, contexts=contexts, seeds=seeds,
                          hard=views[variant.hard_view],
                          support=Support(*(t[runs] for t in support)))
        with torch.no_grad():
            for seed, critic in enumerate(method.critics.values()):
                noise = torch.Generator().manual_seed(seed)
                critic.matrix += spread * torch.randn(2, *critic.matrix.shape[1:],
                                                      generator=noise)[runs]
        return method
    return make


def score(critic, x, y):
    """The bilinear critic x . (1 + M) y of one pair."""
    return x @ y + x @ critic @ y


@pytest.mark.parametrize("hard_view", ["template", "ensemble", "descriptions"])
@pytest.mark.parametrize("estimator", BOUNDS)
def test_loss_is_that_of_the_plain_form(estimator, hard_view, model, encoder, build, batch):
    """Every pair by itself; the bounds have a plain form of their own in their tests."""
    bound = BOUNDS[estimator]
    method, same = (build(estimator=estimator, hard_view=hard_view, tau_mi=0.3, lambda_mi=1.7,
                          lambda_image=0.6, mixup="both") for _ in range(2))
    losses, (images, shares) = method.loss(batch), same.mixup(batch.features, batch.labels)
    texts = hand_crafted_texts(NAMES, "a photo of a {}.", SENTENCES)[hard_view]
    hard = [F.normalize(encoder.encode_text(texts[name]), dim=-1) for name in NAMES]
    means = [F.normalize(h.mean(dim=0), dim=0) for h in hard]
    listed = [(c, h, 1 / len(of)) for c, of in enumerate(hard) for h in of]
    for run, contexts in enumerate(method.contexts):
        of_views, of_images = (method.critics[pairs].matrix[run]
                               for pairs in ("of_views", "of_images"))
        soft = F.normalize(plain_features(model, NAMES, contexts), dim=-1)
        u = torch.stack([torch.stack([score(of_views, s, h) / 0.3 for _, h, _ in listed])
                         for s in soft])
        true = torch.tensor([[w / 4 * (c == own) for own, _, w in listed] for c in range(4)])
        chance = torch.tensor([[w / 16 for _, _, w in listed]] * 4)
        expected = -1.7 * bound(u[None], true, chance)
        for classes in (soft, means):
            u = torch.stack([torch.stack([SCALE * score(of_images, x, y) for y in classes])
                             for x in images[run]])
            expected = expected - 0.3 * bound(u[None], shares[run] / 6, torch.full((6, 4), 1 / 24))
        for x, y in zip(images[run], shares[run], strict=True):
            expected = expected - (y @ (SCALE * soft @ x).log_softmax(dim=0)) / 6
        assert losses[run].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("context", [{}, {"class_specific": True}, {"position": "front"}], ids=str)
def test_without_information_and_mixup_it_is_coop(context, encoder, views, support, batch):
    context = ContextParams(n_ctx=4, **context)
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=draw(40, 2, encoder.dim, seed=8))
    draws = torch.stack([torch.arange(20), torch.arange(20, 40)])
    schedule = Schedule(epochs={1: 3}, batch_size=8, lr=0.05)
    variant, learned = DualViewVariant(context=context, ensemble_a=0, **NEITHER), []
    for method in (CoOp(encoder, NAMES, context, SCALE, seeds=[1, 2]),
                   DualView(encoder, NAMES, variant, SCALE, seeds=[1, 2], hard=views["template"],
                            support=support)):
        losses = train(method, images, draws, schedule, 1, [1, 2])
        learned.append((losses, method.contexts.detach(), method.predict(batch.features[0])))
    for of_coop, of_dualview in zip(*learned, strict=True):
        torch.testing.assert_close(of_coop, of_dualview)


def test_the_critic_starts_as_the_cosine(build, batch):
    learned, cosine = (build(critic=critic, spread=0) for critic in ("bilinear", "cosine"))
    assert not cosine.critics
    torch.testing.assert_close(learned.loss(batch), cosine.loss(batch))
    assert (build(mixup="none").loss(batch) != build(mixup="none", spread=0).loss(batch)).all()


@EACH_PART
def test_only_context_and_critics_learn_and_every_run_from_its_own_loss(parts, model, build,
                                                                         batch):
    method = build(**parts)
    learned = {name: p for name, p in method.named_parameters() if p.requires_grad}
    critics = {f"critics.{pairs}.matrix" for pairs, weight in (
        ("of_views", parts["lambda_mi"]), ("of_images", parts["lambda_image"])) if weight}
    assert set(learned) == {"contexts"} | critics
    assert not any(p.requires_grad for p in model.parameters())
    for gradient in torch.autograd.grad(method.loss(batch)[0], list(learned.values())):
        assert gradient[0].norm() > 0 and gradient[1].norm() == 0


def test_each_critic_learns_from_its_own_information(build, batch):
    method = build(**PARTS["all"])
    terms = method.terms(batch)
    for name, critic in (("views", "of_views"), ("images", "of_images")):
        other = {"of_views", "of_images"} - {critic}
        matrices = [method.critics[pairs].matrix for pairs in (critic, *other)]
        own, none = torch.autograd.grad(terms[name].sum(), matrices, retain_graph=True,
                                        allow_unused=True)
        assert own.norm() > 0 and none is None
    assert torch.autograd.grad(terms["ce"].sum(), [c.matrix for c in method.critics.values()],
                               allow_unused=True) == (None, None)


@pytest.mark.parametrize("estimator", BOUNDS)
def test_a_critic_finds_more_information_than_the_cosine(estimator, build, batch):
    """Gradient descent on the critics alone, between the same views and images."""
    method = build(estimator=estimator, mixup="none", lambda_mi=1, lambda_image=1, spread=0)
    matrices = [critic.matrix for critic in method.critics.values()]
    optimizer, found = torch.optim.SGD(matrices, lr=0.02), []
    for _ in range(60):
        terms = method.terms(batch)
        found.append([-terms[name].detach() for name in ("views", "images")])
        optimizer.zero_grad()
        (terms["views"] + terms["images"]).sum().backward()
        optimizer.step()
    for first, last in zip(found[0], found[-1], strict=True):
        assert (last > first + 0.05).all()
        assert (last < math.log(len(NAMES)) + 1e-5).all()


@EACH_PART
def test_runs_trained_together_are_what_each_is_alone(parts, encoder, build):
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=draw(40, 2, encoder.dim, seed=8))
    draws = torch.stack([torch.arange(20), torch.arange(20, 40)])
    schedule = Schedule(epochs={1: 4}, batch_size=8, lr=0.01)

    def trained(runs, seeds):
        method = build(seeds=seeds, runs=runs, **parts)
        train(method, images, draws[runs], schedule, 1, seeds)
        return [p.detach() for p in method.parameters() if p.requires_grad]

    together, again = (trained(slice(None), [1, 2]) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(together, again, strict=True))
    for run, seed in enumerate([1, 2]):
        for both, alone in zip(together, trained(slice(run, run + 1), [seed]), strict=True):
            assert difference(both[run], alone[0]) < 1e-4


def test_the_fusion_goes_from_one_view_to_the_other(encoder, views, build):
    images, method = draw(300, encoder.dim, seed=3), build(critic_predicts=False)

    def predicted(a):
        return method.predict(images, method.variant.model_copy(update={"ensemble_a": a}))

    assert torch.equal(predicted(0), CoOp(encoder, NAMES, ContextParams(n_ctx=4), SCALE,
                                          contexts=method.contexts.detach()).predict(images))
    hard = (images @ views["template"].mean.T).argmax(dim=-1)
    assert torch.equal(predicted(1), hard.expand(2, -1))
    half = F.normalize(method.class_features() + views["template"].mean, dim=-1)
    assert torch.equal(predicted(0.5), (images @ half.mT).argmax(dim=-1))
    assert torch.equal(method.predict(images), predicted(method.variant.ensemble_a))


def test_the_critic_predicts_by_its_scores_or_only_guides(encoder, build):
    images = draw(50, encoder.dim, seed=3)
    method, guide = (build(spread=0.3, critic_predicts=by) for by in (True, False))
    classes = F.normalize(method.class_features() + method.hard.mean, dim=-1)
    for run, critic in enumerate(method.critics["of_images"].matrix):
        scores = torch.stack([torch.stack([score(critic, x, w) for w in classes[run]])
                              for x in images])
        assert torch.equal(method.predict(images)[run], scores.argmax(dim=-1))
    assert not torch.equal(method.predict(images), guide.predict(images))
    assert torch.equal(method.predict(images, guide.variant), guide.predict(images))
    untrained = build(spread=0).predict(images)
    assert torch.equal(untrained, guide.predict(images))
    assert "critics.of_images".startswith(guide.discarded)
    assert not "critics.of_images".startswith(method.discarded)
    assert all("critics.of_views".startswith(m.discarded) for m in (method, guide))


def test_new_classes_need_what_was_learned_and_their_hand_crafted_view_if_it_is_fused(encoder,
                                                                                      build):
    trained = build()
    learned = {name: p.detach() for name, p in trained.named_parameters() if p.requires_grad}
    texts = {name: [f"a photo of a {name}."] for name in ("lion", "tiger")}
    for variant, hard in ((trained.variant, encode_descriptions(encoder, texts, list(texts))),
                          (trained.variant.model_copy(update={"ensemble_a": 0}), None)):
        new = DualView(encoder, list(texts), variant, SCALE, contexts=learned["contexts"],
                       hard=hard)
        new.load_state_dict(learned, strict=False)
        assert torch.equal(new.critics["of_images"].matrix, learned["critics.of_images.matrix"])
        assert new.predict(draw(9, encoder.dim)).shape == (2, 9)


def test_the_hand_crafted_view_is_encoded_once(encoder, build, batch, monkeypatch):
    texts = []
    monkeypatch.setattr(encoder, "encode_text", lambda *a, **k: texts.append(a))
    passes = []
    monkeypatch.setattr(encoder, "forward",
                        lambda *a, forward=encoder.forward: passes.append(a) or forward(*a))
    method = build(hard_view="ensemble")
    for _ in range(3):
        method.loss(batch)
    assert not texts and len(passes) == 3


def test_a_step_costs_little_more_than_coops():
    encoder = TextEncoder(small_clip(192, **{k: v for k, v in POCKET.items() if k != "dim"}),
                          TOKENIZER)
    names = [" ".join(["word"] * (1 + i % 3)) for i in range(100)]
    context, labels = ContextParams(n_ctx=16), torch.arange(100)[None]
    support = Support(draw(1, 100, 4, encoder.dim), labels)
    hard = DescriptionFeatures(draw(100, 8, encoder.dim), torch.full((100, 8), 1 / 8))
    batch = Batch(labels, draw(1, 100, encoder.dim), labels)

    def operations(method):
        with FlopCounterMode(display=False) as counter:
            method.loss(batch).sum().backward()
        return counter.get_total_flops()

    coop = operations(CoOp(encoder, names, context, SCALE, seeds=[1]))
    variant = DualViewVariant(context=context, mixup="both")
    method = DualView(encoder, names, variant, SCALE, seeds=[1], hard=hard, support=support)
    assert operations(method) < 1.15 * coop


def test_the_gradient_is_the_same_through_chunks_of_classes(build, batch, monkeypatch):
    def gradient():
        method = build()
        method.loss(batch).sum().backward()
        return method.contexts.grad

    expected = gradient()
    monkeypatch.setattr(text, "HELD", 1)
    with mock.patch.object(text, "checkpoint", side_effect=text.checkpoint) as recomputed:
        assert difference(gradient(), expected) < 1e-5
    assert recomputed.called


def test_mixup_is_drawn_anew_in_every_step(build, batch):
    method = build(mixup="both")
    assert (method.loss(batch) != method.loss(batch)).all()
    plain = build(mixup="none")
    assert torch.equal(plain.loss(batch), plain.loss(batch))
