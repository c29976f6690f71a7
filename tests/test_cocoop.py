"""CoCoOp as a model: against its plain form, where it is CoOp, and what it learns."""

from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from plain import TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F

from promptstudy.clip.text import TextEncoder
from promptstudy.methods import cocoop
from promptstudy.methods.cocoop import CoCoOp
from promptstudy.methods.coop import CoOp
from promptstudy.params import ContextParams, Schedule, Setting
from promptstudy.training import Batch, learned_by, train

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SCALE, IMAGES = 30.0, 6


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return small_clip(dim=32, seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def batch(encoder):
    return Batch(torch.arange(IMAGES).expand(2, -1), features(2, IMAGES, encoder=encoder),
                 torch.tensor([[0, 1, 2, 3, 1, 1], [3, 0, 2, 2, 1, 0]]))


def features(*shape, encoder, seed=0):
    return F.normalize(draw(*shape, encoder.dim, seed=seed), dim=-1)


def build(encoder, names=NAMES, seeds=(1, 2), shift=30.0, **context):
    """A CoCoOp whose images shift the context by much more than at its start."""
    method = CoCoOp(encoder, names, ContextParams(**{"n_ctx": 4} | context), SCALE, seeds=seeds)
    with torch.no_grad():
        method.network.second.weight *= shift
        method.network.second.bias *= shift
    return method


def plain_scores(model, method, run, image):
    """Scores [C] of one image [d] in one run, by torch's own layers and all 77 tokens."""
    layers = method.network.first, method.network.second
    hidden, out = (torch.nn.Linear(*layer.weight.shape[1:]) for layer in layers)
    for plain, layer in zip((hidden, out), layers, strict=True):
        plain.weight.data, plain.bias.data = layer.weight[run].data.T, layer.bias[run].data
    shifted = method.contexts[run] + out(torch.relu(hidden(image)))  # v_m + pi
    position = {4: "end", 2: "middle", 0: "front"}[method.layout.n_shared]
    return torch.stack([SCALE * F.cosine_similarity(
        plain_features(model, [name], shifted, position)[0], image, dim=0)
        for name in method.layout.class_names])


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_loss_and_prediction_are_those_of_the_plain_form(position, model, encoder, batch):
    method = build(encoder, position=position)
    losses, moved = method.loss(batch), set()
    for run in range(2):
        scores = torch.stack([plain_scores(model, method, run, image)
                              for image in batch.features[run]])
        expected = F.cross_entropy(scores, batch.labels[run])
        assert losses[run].item() == pytest.approx(expected.item(), rel=1e-5)
        assert torch.equal(method.predict(batch.features[run])[run], scores.argmax(dim=1))
        moved |= set(scores.argmax(dim=1).tolist())
    assert len(moved) > 1  # predictions that could differ


def test_at_its_start_it_is_the_papers_meta_network(encoder):
    network = CoCoOp(encoder, NAMES, ContextParams(n_ctx=4), SCALE, seeds=range(50)).network
    hidden = encoder.dim // 16
    assert network.first.weight.shape[1:] == (encoder.dim, hidden)
    assert network.second.weight.shape[1:] == (hidden, encoder.width)
    for layer, size in ((network.first, encoder.dim), (network.second, hidden)):
        for values in (layer.weight, layer.bias):  # as torch.nn.Linear: uniform, and not 0
            assert values.abs().max() <= size ** -0.5
            assert values.std().item() == pytest.approx((3 * size) ** -0.5, rel=0.1)


@pytest.mark.parametrize("context", [{}, {"class_specific": True}, {"position": "front"},
                                     {"init": "a photo of a"}], ids=str)
def test_with_a_last_layer_of_zeros_it_is_coop(context, encoder, batch):
    method = build(encoder, shift=0, **context)
    coop = CoOp(encoder, NAMES, ContextParams(**{"n_ctx": 4} | context), SCALE, seeds=(1, 2))
    assert torch.equal(method.contexts, coop.contexts)
    torch.testing.assert_close(method.loss(batch), coop.loss(batch))
    gradients = [torch.autograd.grad(each.loss(batch).sum(), each.contexts)[0]
                 for each in (method, coop)]
    assert difference(*gradients) < 1e-5
    images = features(50, encoder=encoder, seed=3)
    assert torch.equal(method.predict(images), coop.predict(images))
    other = build(encoder, **context)
    assert (other.loss(batch) - coop.loss(batch)).abs().min() > 1e-3  # the network does matter


def test_only_contexts_and_meta_networks_learn_and_each_run_from_its_own_loss(model, encoder,
                                                                              batch):
    method = build(encoder)
    learned = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert set(learned) == {"contexts", "network.first.weight", "network.first.bias",
                            "network.second.weight", "network.second.bias"}
    assert not any(p.requires_grad for p in model.parameters())
    for name, gradient in zip(learned, torch.autograd.grad(method.loss(batch)[0],
                                                           list(learned.values())), strict=True):
        assert gradient[0].norm() > 0 and gradient[1].norm() == 0, name


def test_an_image_s_scores_depend_on_no_other_image_and_its_prompt_on_its_own_feature(encoder):
    method = build(encoder, seeds=[1])
    images = features(1, IMAGES, encoder=encoder)
    together = method.scores(images)
    for place in range(IMAGES):
        torch.testing.assert_close(method.scores(images[:, [place]])[:, 0], together[:, place])
    classes = method.class_features(images)[0]
    assert classes.shape == (IMAGES, len(NAMES), encoder.dim)
    assert (classes[0] - classes[1]).abs().max() > 0.01


def trained(encoder, seeds, runs):
    """A CoCoOp and its losses after a few epochs of batches of one image, as in the paper."""
    images = SimpleNamespace(features=features(16, encoder=encoder, seed=9),
                             labels=torch.arange(16) % 4, views=torch.empty(16, 0, encoder.dim))
    draws = torch.stack([torch.arange(8), torch.arange(8, 16)])
    method = CoCoOp(encoder, NAMES, ContextParams(n_ctx=4), SCALE, seeds=seeds)
    schedule = Schedule(epochs={1: 4}, batch_size=1, lr=0.001)
    return method, train(method, images, draws[runs], schedule, 1, list(seeds))


def test_runs_trained_together_are_what_each_is_alone(encoder):
    together, losses = trained(encoder, (1, 2), slice(None))
    assert losses.shape == (4 * 8, 2)
    for run, seed in enumerate((1, 2)):
        alone, own = trained(encoder, (seed,), slice(run, run + 1))
        assert difference(losses[:, run], own[:, 0]) < 1e-4
        for name, parameter in alone.named_parameters():
            if parameter.requires_grad:
                assert difference(dict(together.named_parameters())[name][run],
                                  parameter[0]) < 1e-4, name


def test_training_lowers_the_loss(encoder):
    losses = trained(encoder, (1, 2), slice(None))[1].unflatten(0, (4, 8)).mean(dim=1)
    assert (losses[-1] < losses[0]).all()


@pytest.mark.parametrize("prompts", [1, 20, 1000])
def test_pieces_of_images_change_nothing(prompts, encoder, batch, monkeypatch):
    """Eight prompts an image: pieces of one image, of two and a last one, and one piece."""
    def results():
        method = build(encoder)
        loss = method.loss(batch).sum()
        learned = [p for p in method.parameters() if p.requires_grad]
        return loss, torch.autograd.grad(loss, learned), method.predict(images)

    images = features(15, encoder=encoder, seed=3)
    loss, gradients, predicted = results()
    monkeypatch.setattr(cocoop, "PROMPTS", prompts)
    with mock.patch.object(cocoop, "checkpoint", side_effect=cocoop.checkpoint) as again:
        found = results()
    assert again.call_count == {1: 6, 20: 3, 1000: 0}[prompts]  # in training alone
    torch.testing.assert_close(found[0], loss)
    for gradient, expected in zip(found[1], gradients, strict=True):
        assert difference(gradient, expected) < 1e-5
    assert torch.equal(found[2], predicted)


def task_of(encoder, names):
    return SimpleNamespace(encoder=encoder, logit_scale=SCALE, params=SimpleNamespace(seeds=[1, 2]),
                           names_of=lambda subset: names if subset == "all" else names[2:])


def test_what_was_learned_serves_other_classes(model, encoder):
    """As base-to-new and the other datasets of transfer restore it."""
    method, setting = build(encoder), Setting("base_to_new", ContextParams(n_ctx=4), 16)
    stored = {f"{setting.key}/{name}": p.detach() for name, p in method.named_parameters()
              if p.requires_grad} | {f"{setting.key}/losses": torch.zeros(3, 2)}
    learned, task = learned_by(stored, setting), task_of(encoder, NAMES)
    images = features(9, encoder=encoder, seed=4)
    assert torch.equal(cocoop.restore(task, setting, learned).predict(images),
                       method.predict(images))
    for found, names in ((cocoop.restore(task, setting, learned, "new"), NAMES[2:]),
                         (cocoop.restore(task, setting, learned, onto=task_of(
                             encoder, ["lion", "tiger", "sea bass"])),
                          ["lion", "tiger", "sea bass"])):
        assert found.layout.class_names == names
        for run in range(2):
            for place, image in enumerate(images[:3]):
                expected = plain_scores(model, found, run, image)
                torch.testing.assert_close(found.scores(images[:3].expand(2, -1, -1))[run, place],
                                           expected, rtol=1e-4, atol=1e-3)
    learned.pop("network.first.bias")
    with pytest.raises(RuntimeError, match="Missing key.*first.bias"):
        cocoop.restore(task, setting, learned)


def test_class_specific_contexts_do_not_serve_others(encoder):
    method = build(encoder, class_specific=True)
    with pytest.raises(ValueError, match="4 classes cannot be used for 2"):
        CoCoOp(encoder, ["lion", "tiger"], ContextParams(n_ctx=4, class_specific=True), SCALE,
               contexts=method.contexts.detach(), seeds=(1, 2))
