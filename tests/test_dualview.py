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
from promptstudy.methods.augmentation import Support, stand_ins
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualview import DualView
from promptstudy.params import ContextParams, Schedule
from promptstudy.params.methods.dualview import DualViewVariant
from promptstudy.training import Batch, train

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SENTENCES = {"cat": ["a cat has whiskers.", "small and furry"], "dog": ["it barks."],
             "great white shark": ["a fish.", "grey above and white below.", "it swims."],
             "cat (felis)": ["a feline."]}
SCALE = 20.0
WAYS = ["none", "gauss", "intra_mix", "inter_mix", "proto_ctx"]


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
    """A function that makes a dual-view method of two runs with varied contexts."""
    def make(names=NAMES, contexts=None, seeds=(1, 2), runs=slice(None), **options):
        variant = DualViewVariant(context=ContextParams(n_ctx=4, **options.pop("context", {})),
                                  **options)
        if contexts is None:
            contexts = 0.3 * torch.randn(2, 4, encoder.width,
                                         generator=torch.Generator().manual_seed(2))[runs]
        return DualView(encoder, names, variant, SCALE, contexts=contexts, seeds=seeds,
                        hard=views[variant.hard_view], support=Support(*(t[runs] for t in support)))
    return make


def plain_information_loss(estimator, soft, hard, weights, tau):
    """L_mi of one run, every pair of views by itself; hard: list of [K_c, d]."""
    true = [(math.log(1 / len(NAMES)), soft[c] @ h / tau, w) for c in range(len(NAMES))
            for h, w in zip(hard[c], weights[c], strict=True)]
    if estimator == "infonce":
        among_texts = torch.stack([
            torch.stack([w * (s @ h / tau).exp() for hs, ws in zip(hard, weights, strict=True)
                         for h, w in zip(hs, ws, strict=True)]).sum().log() for s in soft])
        among_classes = torch.stack([
            w * (soft @ h / tau).exp().sum().log() for hs, ws in zip(hard, weights, strict=True)
            for h, w in zip(hs, ws, strict=True)])
        positive = sum(w * u for _, u, w in true) / len(NAMES)
        return (among_texts.mean() + among_classes.sum() / len(NAMES)) / 2 - positive
    chance = [(s @ h / tau, w / len(NAMES) ** 2) for s in soft
              for hs, ws in zip(hard, weights, strict=True) for h, w in zip(hs, ws, strict=True)]
    b = -sum(w * u.exp() for u, w in chance).log()
    return (sum(w * F.softplus(-u - b) for _, u, w in true) / len(NAMES)
            + sum(w * F.softplus(u + b) for u, w in chance))


def plain_iic(soft, hard):
    joint = sum(torch.outer(p, q) for p, q in zip(soft, hard, strict=True)) / len(soft)
    joint = (joint + joint.T) / 2
    product = torch.outer(joint.sum(dim=1), joint.sum(dim=0))
    return -(joint * (joint / product).log()).sum()


@pytest.mark.parametrize("hard_view", ["template", "ensemble", "descriptions"])
@pytest.mark.parametrize("estimator", ["infonce", "jsd", "iic"])
def test_loss_is_that_of_the_plain_form(estimator, hard_view, model, encoder, build, batch):
    method = build(estimator=estimator, hard_view=hard_view, tau_mi=0.3, lambda_mi=1.7,
                   augmentation="none")
    losses = method.loss(batch)
    texts = hand_crafted_texts(NAMES, "a photo of a {}.", SENTENCES)[hard_view]
    hard = [F.normalize(encoder.encode_text(texts[name]), dim=-1) for name in NAMES]
    weights = [[1 / len(h)] * len(h) for h in hard]
    means = torch.stack([F.normalize(h.mean(dim=0), dim=0) for h in hard])
    for run, contexts in enumerate(method.contexts):
        soft = F.normalize(plain_features(model, NAMES, contexts), dim=-1)
        logits = SCALE * batch.features[run] @ soft.T
        if estimator == "iic":
            teacher = SCALE * batch.features[run] @ means.T
            information = plain_iic(logits.softmax(dim=-1), teacher.softmax(dim=-1))
        else:
            information = plain_information_loss(estimator, soft, hard, weights, 0.3)
        expected = F.cross_entropy(logits, batch.labels[run]) + 1.7 * information
        assert losses[run].item() == pytest.approx(expected.item(), rel=2e-5)


@pytest.mark.parametrize("way", ["gauss", "intra_mix", "inter_mix"])
def test_augmented_features_are_classified_as_the_class_they_were_drawn_for(way, build, batch):
    method, same = (build(augmentation=way, lambda_aug=0.6, lambda_mi=0) for _ in range(2))
    losses, soft = method.loss(batch), same.class_features()
    plain = build(augmentation="none", lambda_mi=0).loss(batch)
    if way == "inter_mix":
        drawn, text = same.augmentation.inter_mix(batch.features, batch.labels, soft)
    else:
        features = (batch.features,) if way == "intra_mix" else ()
        drawn, text = getattr(same.augmentation, way)(*features, batch.labels), None
    for run in range(2):
        extra = []
        for i, feature in enumerate(F.normalize(drawn[run], dim=-1)):
            classes = soft[run] if text is None else torch.cat([soft[run], text[run, i:i + 1]])
            target = batch.labels[run, i] if text is None else torch.tensor(len(NAMES))
            extra.append(F.cross_entropy(SCALE * classes @ feature, target))
        expected = plain[run] + 0.6 * torch.stack(extra).mean()
        assert losses[run].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("context", [{}, {"class_specific": True}, {"position": "front"}], ids=str)
def test_without_information_and_augmentation_it_is_coop(context, encoder, views, support, batch):
    context = ContextParams(n_ctx=4, **context)
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=draw(40, 2, encoder.dim, seed=8))
    draws = torch.stack([torch.arange(20), torch.arange(20, 40)])
    schedule = Schedule(epochs={1: 3}, batch_size=8, lr=0.05)
    learned = []
    for method in (
            CoOp(encoder, NAMES, context, SCALE, seeds=[1, 2]),
            DualView(encoder, NAMES, DualViewVariant(context=context, lambda_mi=0, lambda_aug=0),
                     SCALE, seeds=[1, 2], hard=views["template"], support=support)):
        losses = train(method, images, draws, schedule, 1, [1, 2])
        learned.append((losses, method.contexts.detach(), method.predict(batch.features[0])))
    for of_coop, of_dualview in zip(*learned, strict=True):
        assert torch.equal(of_coop, of_dualview)


def test_proto_ctx_without_prototypes_learned_is_coop_and_depends_on_them_later(build, batch):
    method, coop = build(augmentation="proto_ctx", lambda_mi=0), build(augmentation="none",
                                                                        lambda_mi=0)
    torch.testing.assert_close(method.loss(batch), coop.loss(batch))
    method.loss(batch).sum().backward()
    coop.loss(batch).sum().backward()
    assert difference(method.contexts.grad, coop.contexts.grad) < 1e-4
    assert method.network.second.weight.grad.abs().max() > 0
    before = method.class_features()
    with torch.no_grad():
        method.network.second.weight += 0.1 * draw(*method.network.second.weight.shape)
        moved = method.class_features()
        method.prototypes = method.prototypes.roll(1, dims=1)
        assert difference(moved, before) > 1e-3
        assert difference(method.class_features(), moved) > 1e-4


def test_proto_ctx_writes_the_context_of_each_class_from_its_prototype(model, build):
    method = build(augmentation="proto_ctx")
    with torch.no_grad():
        weight = method.network.second.weight
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        own = method.network(method.prototypes)  # [R, C, D]
        for run in range(2):
            contexts = method.contexts[run] + own[run, :, None]
            expected = F.normalize(plain_features(model, NAMES, contexts), dim=-1)
            assert difference(method.class_features()[run], expected) < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_only_contexts_learn_and_every_run_from_its_own_loss(way, model, build, batch):
    method = build(augmentation=way)
    learned = {name for name, p in method.named_parameters() if p.requires_grad}
    network = {f"network.{layer}.{part}" for layer in ("first", "second")
               for part in ("weight", "bias")}
    assert learned == {"contexts"} | (network if way == "proto_ctx" else set())
    assert not any(p.requires_grad for p in model.parameters())
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    assert (gradient[0].norm(dim=-1) > 0).all() and gradient[1].norm() == 0


@pytest.mark.parametrize("way", WAYS)
def test_runs_trained_together_are_what_each_is_alone(way, encoder, build):
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=draw(40, 2, encoder.dim, seed=8))
    draws = torch.stack([torch.arange(20), torch.arange(20, 40)])
    schedule = Schedule(epochs={1: 4}, batch_size=8, lr=0.05)

    def trained(runs, seeds):
        method = build(augmentation=way, seeds=seeds, runs=runs)
        train(method, images, draws[runs], schedule, 1, seeds)
        return method.contexts.detach()

    together = trained(slice(None), [1, 2])
    assert torch.equal(together, trained(slice(None), [1, 2]))
    for run, seed in enumerate([1, 2]):
        assert difference(together[run], trained(slice(run, run + 1), [seed])[0]) < 1e-4


def test_the_bound_grows_until_the_soft_view_is_the_hand_crafted_one(encoder, build, batch):
    """Gradient descent on L_mi alone, beside the words that the hand-crafted prompt has."""
    method = build(tau_mi=0.05)
    optimizer = torch.optim.SGD([method.contexts], lr=0.01)
    bounds = []
    for _ in range(30):
        loss = method.terms(batch)["mi"]
        bounds.append(math.log(len(NAMES)) - loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    words = encoder.token_embedding(torch.tensor(encoder.word_tokens("a photo of a")))
    written = build(tau_mi=0.05, contexts=words.expand(2, -1, -1)).terms(batch)["mi"]
    assert (bounds[-1] > bounds[0] + 0.01).all()
    assert (math.log(len(NAMES)) - written > bounds[-1]).all()


def test_joint_distribution_is_remembered_over_batches_smaller_than_the_classes(build, batch):
    small = Batch(*(t[:, :3] for t in batch))
    method, whole = build(estimator="iic"), build(estimator="iic")
    first = method.terms(small)["mi"]
    assert torch.equal(first, whole.information_loss(small.features, whole.class_features()))
    method.terms(Batch(*(t[:, 3:] for t in batch)))
    remembered = method.joint
    assert remembered.sum().item() == pytest.approx(2, rel=1e-5)  # a distribution for each run
    loss = method.terms(small)["mi"]
    assert (loss - first).abs().min() > 1e-4  # not of the batch alone
    gradient, = torch.autograd.grad(loss.sum(), method.contexts)
    assert gradient.norm() > 0 and not method.joint.requires_grad
    whole.joint = None
    whole.terms(batch)
    assert whole.joint is None  # four classes, six images


def test_the_ensemble_goes_from_one_view_to_the_other(encoder, views, build):
    images, method = draw(300, encoder.dim, seed=3), build()
    soft = method.predict(images)
    assert torch.equal(soft, CoOp(encoder, NAMES, ContextParams(n_ctx=4), SCALE,
                                  contexts=method.contexts.detach()).predict(images))
    hard = (images @ views["template"].mean.T).argmax(dim=-1)
    assert torch.equal(method.predict(images, 1.0), hard.expand(2, -1))
    half = F.normalize(method.class_features() + views["template"].mean, dim=-1)
    assert torch.equal(method.predict(images, 0.5), (images @ half.mT).argmax(dim=-1))
    assert torch.equal(build(ensemble_a=0.5).predict(images), method.predict(images, 0.5))


def test_new_classes_need_neither_images_nor_a_hand_crafted_view(encoder, build):
    learned = build().contexts.detach()
    new = DualView(encoder, ["lion", "tiger"], DualViewVariant(context=ContextParams(n_ctx=4)),
                   SCALE, contexts=learned)
    assert new.predict(draw(9, encoder.dim)).shape == (2, 9)
    shaped = build(augmentation="proto_ctx")
    hard = encoder.encode_templates(["lion", "tiger"], ["a photo of a {}."])
    prototypes = stand_ins(hard, shaped.prototypes, shaped.hard.mean)
    new = DualView(encoder, ["lion", "tiger"], shaped.variant, SCALE, contexts=learned,
                   seeds=[1, 2], prototypes=prototypes)
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
    for way in ("gauss", "intra_mix", "inter_mix"):
        variant = DualViewVariant(context=context, augmentation=way)
        method = DualView(encoder, names, variant, SCALE, seeds=[1], hard=hard, support=support)
        assert operations(method) < 1.15 * coop


@pytest.mark.parametrize("way", ["gauss", "proto_ctx"])
def test_the_gradient_is_the_same_through_chunks_of_classes(way, build, batch, monkeypatch):
    def gradient():
        method = build(augmentation=way)
        method.loss(batch).sum().backward()
        return method.contexts.grad

    expected = gradient()
    monkeypatch.setattr(text, "HELD", 1)
    with mock.patch.object(text, "checkpoint", side_effect=text.checkpoint) as recomputed:
        assert difference(gradient(), expected) < 1e-5
    assert recomputed.called
