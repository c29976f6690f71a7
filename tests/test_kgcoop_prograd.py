"""KgCoOp and ProGrad: against plain forms, and where they are CoOp."""

from types import SimpleNamespace

import pytest
import torch
from plain import TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F

from promptstudy.clip import text
from promptstudy.clip.text import TextEncoder
from promptstudy.methods.coop import CoOp
from promptstudy.methods.kgcoop import KgCoOp
from promptstudy.methods.prograd import ProGrad, without_conflict
from promptstudy.params import ContextParams, Schedule
from promptstudy.params.methods.kgcoop import KgCoOpVariant
from promptstudy.params.methods.prograd import ProGradVariant
from promptstudy.training import Batch, train

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SCALE = 20.0
CONTEXT = ContextParams(n_ctx=4)


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def hard(encoder):
    return encoder.encode_templates(NAMES, ["a photo of a {}."])


@pytest.fixture(scope="module")
def batch(encoder):
    return Batch(torch.arange(8).expand(2, -1), draw(2, 8, encoder.dim), torch.arange(8).expand(
        2, -1) % 4)


@pytest.fixture
def trained(encoder, hard):
    """A function that trains a method and returns `(losses, contexts, cosines to h_c)`."""
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=torch.empty(40, 0, encoder.dim))
    draws = torch.stack([torch.arange(20), torch.arange(20, 40)])

    def run(method, seeds=(1, 2), runs=slice(None), epochs=20):
        schedule = Schedule(epochs={1: epochs}, batch_size=8, lr=0.001)
        losses = train(method, images, draws[runs], schedule, 1, list(seeds))
        with torch.no_grad():
            cosine = (method.class_features() * hard).sum(dim=-1)
        return losses, method.contexts.detach(), cosine
    return run


def kgcoop(encoder, hard, weight, seeds=(1, 2)):
    return KgCoOp(encoder, NAMES, KgCoOpVariant(context=CONTEXT, weight=weight), SCALE,
                  seeds=seeds, hard=hard)


def prograd(encoder, hard, weight, seeds=(1, 2)):
    return ProGrad(encoder, NAMES, ProGradVariant(context=CONTEXT, weight=weight), SCALE,
                   seeds=seeds, hard=hard)


def test_kgcoop_is_its_plain_form(model, encoder, hard, batch):
    method = kgcoop(encoder, hard, weight=3)
    for run, loss in enumerate(method.loss(batch)):
        soft = F.normalize(plain_features(model, NAMES, method.contexts[run]), dim=-1)
        expected = F.cross_entropy(SCALE * batch.features[run] @ soft.T, batch.labels[run]) \
            + 3 * sum(1 - s @ h for s, h in zip(soft, hard, strict=True)) / 4
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_kgcoop_without_weight_is_coop_and_with_much_stays_at_the_hand_crafted_prompt(
        encoder, hard, trained):
    coop = trained(CoOp(encoder, NAMES, CONTEXT, SCALE, seeds=(1, 2)))
    for ours, theirs in zip(trained(kgcoop(encoder, hard, 0)), coop, strict=True):
        assert torch.equal(ours, theirs)
    cosines = [trained(kgcoop(encoder, hard, weight))[2].mean().item() for weight in (0, 1, 2, 5)]
    assert cosines == sorted(cosines) and cosines[-1] > 0.9


def plain_gradient(model, contexts, hard, features, labels, weight):
    """ProGrad's gradient of one run, step by step as its code does it."""
    contexts = contexts.detach().clone().requires_grad_()
    soft = F.normalize(plain_features(model, NAMES, contexts), dim=-1)
    logits, zero_shot = SCALE * features @ soft.T, SCALE * features @ hard.T
    general = -(zero_shot.softmax(dim=-1) * logits.log_softmax(dim=-1)).sum() / len(features)
    b, = torch.autograd.grad(general, contexts, retain_graph=True)
    a, = torch.autograd.grad(F.cross_entropy(logits, labels), contexts)
    unit = b / b.norm()
    product = torch.dot(a.flatten(), unit.flatten())
    return (a - weight * product * unit if product < 0 else a), product


@pytest.mark.parametrize("weight", [0.8, 1.0])
def test_prograd_has_the_plain_form_s_gradient_and_the_cross_entropy_s_value(
        weight, model, encoder, hard, batch):
    agree = set()
    words = encoder.token_embedding(torch.tensor(encoder.word_tokens("a photo of a")))
    opinion = batch.features @ hard.T
    for labels in (opinion.argmax(dim=-1), opinion.argmin(dim=-1)):
        given = batch._replace(labels=labels)
        method = prograd(encoder, hard, weight)
        method.contexts.data = words + 0.3 * method.contexts.data  # near the hand-crafted prompt
        coop = CoOp(encoder, NAMES, CONTEXT, SCALE, contexts=method.contexts.detach())
        loss = method.loss(given)
        assert torch.equal(loss, coop.loss(given))
        loss.sum().backward()
        for run, gradient in enumerate(method.contexts.grad):
            expected, product = plain_gradient(model, method.contexts[run], hard,
                                               batch.features[run], labels[run], weight)
            assert difference(gradient, expected) < 1e-4
            agree.add(product.item() >= 0)
    assert agree == {True, False}  # both cases were met


def test_prograd_is_coop_where_the_gradients_agree(encoder, hard, batch):
    """Labels that the hand-crafted prompt gives itself."""
    sure = batch._replace(labels=(batch.features @ hard.T).argmax(dim=-1))
    method, coop = prograd(encoder, hard, 1.0), CoOp(encoder, NAMES, CONTEXT, SCALE, seeds=(1, 2))
    for given in (method, coop):
        given.loss(sure).sum().backward()
    assert torch.equal(method.contexts.grad, coop.contexts.grad)


def test_conflicts_are_given_up_run_by_run():
    task, general = draw(5, 4, 6), draw(5, 4, 6, seed=1)
    general[0] = task[0]
    general[1] = -2 * task[1]
    general[2] = 0
    found = without_conflict(task, general, 1.0)
    assert torch.equal(found[0], task[0]) and torch.equal(found[2], task[2])
    assert found[1].abs().max() < 1e-6
    for g, f, direction in zip(task, found, general, strict=True):
        before, after = (g * direction).sum(), (f * direction).sum()
        assert after > -1e-6
        assert torch.equal(f, g) if before >= 0 else f.norm() < g.norm()
    assert torch.equal(without_conflict(task, general, 0.0), task)


@pytest.mark.parametrize("build", [kgcoop, prograd])
def test_runs_trained_together_are_what_each_is_alone(build, encoder, hard, trained):
    _, together, _ = trained(build(encoder, hard, 1.0), epochs=4)
    for run, seed in enumerate((1, 2)):
        alone = build(encoder, hard, 1.0, seeds=(seed,))
        _, alone, _ = trained(alone, (seed,), slice(run, run + 1), epochs=4)
        assert difference(together[run], alone[0]) < 1e-4


def test_only_the_contexts_learn(encoder, hard):
    for method in (kgcoop(encoder, hard, 1.0), prograd(encoder, hard, 1.0)):
        learned = [name for name, p in method.named_parameters() if p.requires_grad]
        assert learned == ["contexts"]


def test_prograds_two_gradients_pass_through_chunks_that_are_computed_again(
        encoder, hard, batch, monkeypatch):
    def gradient():
        method = prograd(encoder, hard, weight=1)
        method.loss(batch).sum().backward()
        return method.contexts.grad

    expected = gradient()
    monkeypatch.setattr(text, "HELD", 1)
    assert difference(gradient(), expected) < 1e-5
