"""PLOT as a model: against its code's formula written out, its limits, and beside DuAl-PT."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from plain import TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F

from promptstudy.clip.text import TextEncoder
from promptstudy.methods import plot
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.methods.plot import PLOT
from promptstudy.params import ContextParams, Schedule, Setting
from promptstudy.params.methods.dualpt import DuAlPTVariant
from promptstudy.params.methods.plot import PLOTParams, PLOTVariant
from promptstudy.training import Batch, train

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SCALE, LOCAL, IMAGES = 20.0, 5, 12


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def batch(encoder):
    index = torch.stack([torch.arange(6), torch.arange(6, 12)])
    return Batch(index, draw(2, 6, encoder.dim), torch.tensor([[0, 1, 2, 3, 1, 1]] * 2))


@pytest.fixture
def build(encoder):
    """A function that makes a PLOT of two runs with varied prompts and 12 training images."""
    def make(names=NAMES, contexts=None, n_prompts=3, local=None, kind=PLOT, variant=PLOTVariant,
             with_global=None, context=None, **options):
        variant = variant(context=ContextParams(n_ctx=4, **context or {}), n_prompts=n_prompts,
                          **options)
        if contexts is None:
            contexts = 0.3 * torch.randn(2, n_prompts, 4, encoder.width,
                                         generator=torch.Generator().manual_seed(2))
        given = {} if with_global is None else {"with_global": with_global}
        local = 2 * draw(IMAGES, LOCAL, encoder.dim, seed=1) if local is None else local
        return kind(encoder, names, variant, SCALE, contexts=contexts, train_local=local, **given)
    return make


def code_scores(model, contexts, image, local, with_global, epsilon=0.1):
    """Scores [C] of one image by what the paper's code does, class by class, all 77 tokens.

    There the plan is found from K = exp(-cost / epsilon) by scaling its rows and columns until the
    rows' factors change by less than 1e-2 on average, at most 100 times.
    """
    scores = []
    for name in NAMES:
        prompts = torch.cat([plain_features(model, [name], context) for context in contexts])
        similarity = F.normalize(local, dim=-1) @ F.normalize(prompts, dim=-1).T
        with torch.no_grad():
            kernel = torch.exp(-(1 - similarity) / epsilon)
            rows, columns = torch.ones(len(local)), torch.ones(len(prompts))
            for _ in range(100):
                before = rows
                rows = 1 / len(local) / (kernel @ columns)
                columns = 1 / len(prompts) / (kernel.T @ rows)
                if (rows - before).abs().mean() < 1e-2:
                    break
            plan = rows[:, None] * kernel * columns
        score = SCALE * (plan * similarity).sum()
        if with_global:
            score = score + SCALE * image @ F.normalize(prompts.mean(dim=0), dim=0)
        scores.append(score)
    return torch.stack(scores)


@pytest.mark.parametrize("with_global", [False, True])
def test_loss_gradient_and_prediction_are_the_codes(with_global, model, build, batch):
    method = build(with_global=with_global)
    losses = method.loss(batch)
    gradient, = torch.autograd.grad(losses.sum(), method.contexts)
    for run, contexts in enumerate(method.contexts):
        contexts, local = contexts.detach().requires_grad_(), method.train_local[batch.index[run]]
        scores = torch.stack([code_scores(model, contexts, *image, with_global)
                              for image in zip(batch.features[run], local, strict=True)])
        expected = F.cross_entropy(scores, batch.labels[run])
        assert losses[run].item() == pytest.approx(expected.item(), rel=1e-4)
        assert difference(gradient[run], torch.autograd.grad(expected, contexts)[0]) < 2e-3
        predicted = method.predict(batch.features[run], local)[run]
        assert torch.equal(predicted, scores.argmax(dim=1))


def test_the_global_score_is_added_on_the_datasets_that_say_so_alone(encoder):
    def of(name):
        params = SimpleNamespace(seeds=[1, 2], plot=SimpleNamespace(global_on=["imagenet"]))
        task = SimpleNamespace(name=name, params=params, encoder=encoder, logit_scale=SCALE,
                               names_of=lambda subset: NAMES,
                               pack=SimpleNamespace(train=SimpleNamespace(
                                   local=draw(IMAGES, LOCAL, encoder.dim))))
        setting = Setting("few_shot", PLOTVariant(context=ContextParams(n_ctx=4)), 1)
        built = plot.build(task, setting, NAMES, None)
        learned = {"contexts": built.contexts.detach()}
        elsewhere = SimpleNamespace(name="dtd", names_of=lambda subset: ["lion", "tiger"])
        restored = plot.restore(task, setting, learned, onto=elsewhere)
        assert restored.layout.class_names == ["lion", "tiger"]
        assert built.with_global == restored.with_global
        return built.with_global

    assert of("imagenet") and not of("dtd")


@pytest.mark.parametrize("context", [{}, {"class_specific": True}, {"position": "front"}], ids=str)
def test_one_prompt_and_the_whole_image_as_its_only_part_are_coop(context, build, encoder, batch):
    coop = CoOp(encoder, NAMES, ContextParams(n_ctx=4, **context), SCALE, seeds=[1, 2])
    method = build(n_prompts=1, context=context, contexts=coop.contexts.detach().unsqueeze(1),
                   local=batch.features.flatten(0, 1).unsqueeze(1))
    torch.testing.assert_close(method.loss(batch), coop.loss(batch))
    gradients = [torch.autograd.grad(each.loss(batch).sum(), each.contexts)[0]
                 for each in (method, coop)]
    assert difference(gradients[0].squeeze(1), gradients[1]) < 1e-5
    images = draw(30, encoder.dim, seed=7)
    assert torch.equal(method.predict(images, images.unsqueeze(1)), coop.predict(images))


@pytest.mark.parametrize("n_prompts, n_local, epsilon", [(3, LOCAL, math.inf), (1, LOCAL, 0.1),
                                                         (3, 1, 0.1)])
def test_without_a_choice_the_plan_is_uniform(n_prompts, n_local, epsilon, build, batch, encoder):
    """With endless entropy, or one prompt, or one local feature."""
    method = build(n_prompts=n_prompts, sinkhorn_eps=epsilon,
                   local=draw(IMAGES, n_local, encoder.dim, seed=1))
    _, prompts = method.class_features()
    local = method.train_local[batch.index]
    mean = SCALE * torch.einsum("rbd,rcd->rbc", local.mean(dim=2), prompts.mean(dim=2))
    torch.testing.assert_close(method.local_logits(local, prompts), mean)


def test_with_a_choice_prompts_have_places_of_their_own(build, batch):
    scores = []
    for epsilon in (math.inf, 0.1, 0.01):
        method = build(sinkhorn_eps=epsilon)
        _, prompts = method.class_features()
        scores.append(method.local_logits(method.train_local[batch.index], prompts))
    # the less entropy, the nearer the plan is to the one of the highest score
    assert (scores[1] > scores[0]).all() and (scores[2] > scores[1]).all()


def test_the_plan_has_both_marginals_and_no_gradient(build, batch):
    method = build()
    _, prompts = method.class_features()
    similarity = torch.einsum("rbld,rcnd->rbcln", method.train_local[batch.index], prompts)
    plan = method.local_plan(similarity)
    assert similarity.requires_grad and not plan.requires_grad
    assert difference(plan.sum(dim=-2), torch.full((2, 6, 4, 3), 1 / 3)) < 1e-5
    assert difference(plan.sum(dim=-1), torch.full((2, 6, 4, LOCAL), 1 / LOCAL)) < 1e-3


def test_gradient_is_that_of_the_loss_with_plans_held_fixed(model, monkeypatch):
    """Against central differences in double precision."""
    encoder = TextEncoder(copy.deepcopy(model), TOKENIZER).double()
    contexts = 0.3 * torch.randn(1, 3, 4, encoder.width, dtype=torch.float64,
                                 generator=torch.Generator().manual_seed(2))
    method = PLOT(encoder, NAMES, PLOTVariant(context=ContextParams(n_ctx=4)), SCALE,
                  contexts=contexts, train_local=draw(IMAGES, LOCAL, encoder.dim).double())
    batch = Batch(torch.arange(6)[None], draw(1, 6, encoder.dim, seed=5).double(),
                  torch.tensor([[0, 1, 2, 3, 1, 1]]))
    plans = []
    real = plot.sinkhorn
    monkeypatch.setattr(plot, "sinkhorn", lambda *given: plans.append(real(*given)) or plans[0])
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    for seed in range(3):
        direction = draw(*contexts.shape, seed=seed).double()
        values = []
        for step in (1e-5, -1e-5):
            method.contexts.data = contexts + step * direction
            values.append(method.loss(batch)[0].item())
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_order_of_prompts_and_places_does_not_matter(build, batch):
    method = build(with_global=True)
    other = build(with_global=True, contexts=method.contexts.detach()[:, [2, 0, 1]])
    other.train_local = method.train_local.flip(1)
    torch.testing.assert_close(other.loss(batch), method.loss(batch))
    a, = torch.autograd.grad(method.loss(batch).sum(), method.contexts)
    b, = torch.autograd.grad(other.loss(batch).sum(), other.contexts)
    assert difference(b, a[:, [2, 0, 1]]) < 1e-4


def test_it_is_dualpts_local_side(build, batch, encoder):
    """CE(z^g) + CE(z^l) less CE(z^g); predicting by z^l where beta is large, by both where it is 1.
    """
    method, both = build(with_global=False), build(with_global=True)
    aligned, alone = (build(kind=DuAlPT, variant=DuAlPTVariant, lambda_text=0, alpha=alpha)
                      for alpha in (1, 0))
    torch.testing.assert_close(aligned.loss(batch) - alone.loss(batch), method.loss(batch))
    gradients = [torch.autograd.grad(each.loss(batch).sum(), each.contexts)[0]
                 for each in (aligned, alone, method)]
    assert difference(gradients[0] - gradients[1], gradients[2]) < 1e-4
    images, local = draw(200, encoder.dim, seed=3), draw(200, LOCAL, encoder.dim, seed=4)
    for beta, expected in ((1e6, method), (1, both)):
        theirs = build(kind=DuAlPT, variant=DuAlPTVariant, lambda_text=0, beta_infer=beta)
        assert torch.equal(theirs.predict(images, local), expected.predict(images, local))
    assert not torch.equal(method.predict(images, local), both.predict(images, local))


def test_only_the_contexts_learn_and_every_run_from_its_own_loss(model, build, batch):
    method = build(with_global=True)
    learned = [name for name, p in method.named_parameters() if p.requires_grad]
    assert learned == ["contexts"] and not any(p.requires_grad for p in model.parameters())
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    assert (gradient[0].flatten(1).norm(dim=1) > 0).all() and gradient[1].norm() == 0


def test_runs_trained_together_are_what_each_is_alone(encoder):
    images = SimpleNamespace(features=draw(40, encoder.dim, seed=9), labels=torch.arange(40) % 4,
                             views=torch.empty(40, 0, encoder.dim))
    local, draws = draw(40, LOCAL, encoder.dim), torch.arange(40).view(2, 20)
    variant = PLOTVariant(context=ContextParams(n_ctx=4), n_prompts=2)

    def trained(seeds, runs):
        method = PLOT(encoder, NAMES, variant, SCALE, seeds=seeds, train_local=local)
        schedule = Schedule(epochs={1: 4}, batch_size=8, lr=0.001)
        losses = train(method, images, draws[runs], schedule, 1, list(seeds))
        return losses, method.contexts.detach()

    losses, contexts = trained((1, 2), slice(None))
    for run, seed in enumerate((1, 2)):
        own, alone = trained((seed,), slice(run, run + 1))
        assert difference(losses[:, run], own[:, 0]) < 1e-4
        assert difference(contexts[run], alone[0]) < 1e-4


def test_prediction_does_not_depend_on_how_many_images_are_predicted_at_once(build, encoder):
    images, local = draw(600, encoder.dim, seed=3), draw(600, LOCAL, encoder.dim, seed=4)
    method = build(with_global=True)
    parts = [method.predict(images[i:i + 50], local[i:i + 50]) for i in range(0, 600, 50)]
    assert torch.equal(method.predict(images, local), torch.cat(parts, dim=1))


def test_contexts_that_do_not_fit_are_refused(encoder, build):
    assert build(["lion", "tiger"]).class_features()[1].shape == (2, 2, 3, encoder.dim)
    with pytest.raises(ValueError, match="contexts of 3 vectors do not fit a prompt of 4"):
        build(contexts=torch.zeros(2, 3, 3, encoder.width))
    with pytest.raises(ValueError, match="4 classes cannot be used for 2"):
        build(["lion", "tiger"], contexts=torch.zeros(2, 3, 4, 4, encoder.width),
              context={"class_specific": True})


def test_names_of_its_variants():
    block = PLOTParams(schedule=Schedule(epochs={1: 1}), ablations={"N8": {"n_prompts": 8}})
    assert block.few_shot.label == "N4-M16" and block.base_to_new.label == "N4-M4-words"
    study, = block.ablation_variants
    assert (study.label, study.n_prompts, study.context) == ("N8", 8, ContextParams())
