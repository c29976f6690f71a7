"""DuAl-PT as a model: its losses against slow plain forms, its limits, and what it depends on."""

import copy
import itertools
import math
from unittest import mock

import ot
import pytest
import torch
from plain import POCKET, TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from promptstudy.clip import text
from promptstudy.clip.text import TextEncoder
from promptstudy.clip.text_features import DescriptionFeatures, encode_descriptions, shuffled
from promptstudy.methods import dualpt, plot
from promptstudy.methods.coop import CoOp
from promptstudy.methods.dualpt import DuAlPT
from promptstudy.methods.transport import sinkhorn
from promptstudy.params import ContextParams
from promptstudy.params.methods.dualpt import DuAlPTVariant
from promptstudy.training import Batch

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SENTENCES = {"cat": ["a cat has whiskers.", "small and furry"], "dog": ["it barks."],
             "great white shark": ["a fish.", "grey above and white below.", "it swims."],
             "cat (felis)": ["a feline."]}
SCALE, LOCAL, IMAGES = 20.0, 5, 12
OFF = {"alpha": 0, "beta_infer": 0, "lambda_text": 0}


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def descriptions(encoder):
    return encode_descriptions(encoder, SENTENCES, NAMES)


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(scope="module")
def batch(encoder):
    index = torch.stack([torch.arange(6), torch.arange(6, 12)])
    return Batch(index, draw(2, 6, encoder.dim), torch.tensor([[0, 1, 2, 3, 1, 1]] * 2))


@pytest.fixture
def build(encoder, descriptions):
    """A function that makes a DuAl-PT of two runs with varied prompts and 12 training images."""
    def make(names=NAMES, contexts=None, n_prompts=3, descriptions=descriptions, **options):
        context = ContextParams(n_ctx=4, **options.pop("context", {}))
        variant = DuAlPTVariant(context=context, n_prompts=n_prompts, **options)
        if contexts is None:
            contexts = 0.3 * torch.randn(2, n_prompts, 4, encoder.width,
                                         generator=torch.Generator().manual_seed(2))
        return DuAlPT(encoder, names, variant, SCALE, contexts=contexts,
                      train_local=2 * draw(IMAGES, LOCAL, encoder.dim, seed=1),
                      descriptions=descriptions)
    return make


def plain_plan(cost, epsilon):
    """A plan of one problem with uniform weights, by another library."""
    n, m = cost.shape
    found = ot.sinkhorn([1 / n] * n, [1 / m] * m, cost.detach().double().numpy(), epsilon,
                        method="sinkhorn_log", numItermax=2000, stopThr=1e-12)
    return torch.from_numpy(found).float()


def plain_text(model, contexts):
    """T_c [C, d] and T_cn [C, N, d] of one run, prompt by prompt, all 77 tokens of each."""
    features = torch.stack([plain_features(model, NAMES, context) for context in contexts], dim=1)
    return F.normalize(features.mean(dim=1), dim=-1), F.normalize(features, dim=-1)


def plain_local_score(local, prompts, align, epsilon):
    """sum_ln P_ln F_l . T_n of one image [L, d] and one class [N, d]."""
    similarity = local @ prompts.T
    if align == "ot":
        return (plain_plan(1 - similarity, epsilon) * similarity).sum()
    return similarity.max(dim=0).values.mean()  # `topk`: a fifth of five local features


def plain_text_loss(align, features, classes, prompts, epsilon, logits):
    sentences = [F.normalize(model_features, dim=-1) for model_features in features["sentences"]]
    means = torch.stack([F.normalize(s.mean(dim=0), dim=0) for s in sentences])
    if align == "ot":
        costs = [1 - p @ s.T for p, s in zip(prompts, sentences, strict=True)]
        return sum((plain_plan(cost, epsilon) * cost).sum() for cost in costs) / len(costs)
    if align == "mean":
        return sum(1 - c @ m for c, m in zip(classes, means, strict=True)) / len(classes)
    if align == "infonce":
        scores = (classes @ means.T / 0.1).exp()
        return -(scores.diag() / scores.sum(dim=1)).log().mean()
    teacher = (SCALE * features["images"] @ means.T).softmax(dim=-1)
    return (teacher * (teacher.log() - logits.log_softmax(dim=-1))).sum(dim=-1).mean()


@pytest.mark.parametrize("local_align, text_align", [
    ("ot", "ot"), ("ot", "mean"), ("topk", "infonce"), ("topk", "kl")])
def test_loss_and_prediction_are_those_of_the_plain_form(local_align, text_align, model, encoder,
                                                         build, batch):
    method = build(local_align=local_align, text_align=text_align, alpha=0.7, lambda_text=1.3,
                   beta_infer=0.6, eps_text=0.05)
    losses = method.loss(batch)
    sentences = [encoder.encode_text(SENTENCES[name]) for name in NAMES]
    for run, contexts in enumerate(method.contexts):
        classes, prompts = plain_text(model, contexts)
        local = F.normalize(method.train_local[batch.index[run]], dim=-1)
        z_global = SCALE * batch.features[run] @ classes.T
        z_local = SCALE * torch.stack([
            torch.stack([plain_local_score(image, p, local_align, 0.1) for p in prompts])
            for image in local])
        texts = {"sentences": sentences, "images": batch.features[run]}
        expected = (F.cross_entropy(z_global, batch.labels[run])
                    + 0.7 * F.cross_entropy(z_local, batch.labels[run])
                    + 1.3 * plain_text_loss(text_align, texts, classes, prompts, 0.05, z_global))
        assert losses[run].item() == pytest.approx(expected.item(), rel=2e-5)
        predicted = method.predict(batch.features[run], local)[run]
        assert torch.equal(predicted, (z_global + 0.6 * z_local).argmax(dim=1))


@pytest.mark.parametrize("context", [{}, {"class_specific": True}, {"position": "front"}], ids=str)
def test_one_prompt_without_alignments_is_coop(context, encoder, batch):
    context = ContextParams(n_ctx=4, **context)
    coop = CoOp(encoder, NAMES, context, SCALE, seeds=[1, 2])
    method = DuAlPT(encoder, NAMES, DuAlPTVariant(context=context, n_prompts=1, **OFF), SCALE,
                    contexts=coop.contexts.detach().unsqueeze(1))
    torch.testing.assert_close(method.loss(batch), coop.loss(batch))
    method.loss(batch).sum().backward()
    coop.loss(batch).sum().backward()
    assert difference(method.contexts.grad.squeeze(1), coop.contexts.grad) < 1e-5
    images = draw(30, encoder.dim, seed=7)
    predicted = method.predict(images, draw(30, LOCAL, encoder.dim, seed=8))
    assert torch.equal(predicted, coop.predict(images))


def test_contexts_that_do_not_fit_are_refused(encoder, build):
    with pytest.raises(ValueError, match="contexts of 3 vectors do not fit a prompt of 4"):
        build(contexts=torch.zeros(2, 3, 3, encoder.width))
    with pytest.raises(ValueError, match="4 classes cannot be used for 2"):
        build(["lion", "tiger"], contexts=torch.zeros(2, 3, 4, 4, encoder.width),
              context={"class_specific": True})


def test_equal_prompts_are_one_prompt(build, encoder, batch):
    one = build(n_prompts=1)
    same = build(n_prompts=3, contexts=one.contexts.detach().expand(-1, 3, -1, -1))
    torch.testing.assert_close(same.loss(batch), one.loss(batch))
    gradient, = torch.autograd.grad(one.loss(batch).sum(), one.contexts)
    parts, = torch.autograd.grad(same.loss(batch).sum(), same.contexts)
    assert difference(parts, gradient.expand_as(parts) / 3) < 1e-4


def test_prompts_begin_different_and_seeds_alike(encoder):
    for init in (None, "a photo of a"):
        variant = DuAlPTVariant(context=ContextParams(n_ctx=4, init=init), n_prompts=3)
        both, alone = (DuAlPT(encoder, NAMES, variant, SCALE, seeds=seeds).contexts
                       for seeds in ([1, 2], [2]))
        assert both.shape == (2, 3, 4, encoder.width)
        assert torch.equal(both[1], alone[0])
        for a, b in itertools.combinations(both.flatten(0, 1), 2):
            assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("text_align", ["ot", "mean", "infonce", "kl"])
@pytest.mark.parametrize("local_align", ["ot", "topk"])
def test_order_of_prompts_sentences_and_places_does_not_matter(local_align, text_align, build,
                                                               batch, descriptions):
    method = build(local_align=local_align, text_align=text_align)
    other = build(local_align=local_align, text_align=text_align,
                  contexts=method.contexts.detach()[:, [2, 0, 1]],
                  descriptions=DescriptionFeatures(descriptions.features.flip(1),
                                            descriptions.weights.flip(1)))
    other.train_local = method.train_local.flip(1)
    torch.testing.assert_close(other.loss(batch), method.loss(batch))
    a, = torch.autograd.grad(method.loss(batch).sum(), method.contexts)
    b, = torch.autograd.grad(other.loss(batch).sum(), other.contexts)
    assert difference(b, a[:, [2, 0, 1]]) < 1e-4


def test_only_the_contexts_learn_and_every_run_from_its_own_loss(model, build, batch):
    method = build()
    learned = [name for name, p in method.named_parameters() if p.requires_grad]
    assert learned == ["contexts"] and not any(p.requires_grad for p in model.parameters())
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    assert (gradient[0].flatten(1).norm(dim=1) > 0).all() and gradient[1].norm() == 0


def test_gradient_is_that_of_the_loss_with_plans_held_fixed(model, monkeypatch):
    """Against central differences in double precision."""
    encoder = TextEncoder(copy.deepcopy(model), TOKENIZER).double()
    contexts = 0.3 * torch.randn(1, 3, 4, encoder.width, dtype=torch.float64,
                                 generator=torch.Generator().manual_seed(2))
    method = DuAlPT(encoder, NAMES, DuAlPTVariant(context=ContextParams(n_ctx=4)), SCALE,
                    contexts=contexts, train_local=draw(IMAGES, LOCAL, encoder.dim).double(),
                    descriptions=DescriptionFeatures(draw(4, 3, encoder.dim).double(),
                                              torch.full((4, 3), 1 / 3, dtype=torch.float64)))
    batch = Batch(torch.arange(6)[None], draw(1, 6, encoder.dim, seed=5).double(),
                  torch.tensor([[0, 1, 2, 3, 1, 1]]))
    plans = {}

    def first_plan(cost, *arguments, **options):
        if cost.shape not in plans:
            plans[cost.shape] = sinkhorn(cost, *arguments, **options)
        return plans[cost.shape]

    for module in (plot, dualpt):  # the local side's plan and the text side's
        monkeypatch.setattr(module, "sinkhorn", first_plan)
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    assert len(plans) == 2
    for seed in range(3):
        direction = draw(*contexts.shape, seed=seed).double()
        values = []
        for step in (1e-5, -1e-5):
            method.contexts.data = contexts + step * direction
            values.append(method.loss(batch)[0].item())
        slope = (values[0] - values[1]) / 2e-5
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_with_endless_entropy_both_plans_are_uniform(build, batch):
    method = build(sinkhorn_eps=math.inf, eps_text=math.inf)
    _, prompts = method.class_features()
    local = method.train_local[batch.index]
    mean = SCALE * torch.einsum("rbd,rcd->rbc", local.mean(dim=2), prompts.mean(dim=2))
    torch.testing.assert_close(method.local_logits(local, prompts), mean)
    plan = method.text_plan(method.text_cost(prompts))
    uniform = (method.descriptions.weights[:, None] / 3).expand_as(plan)
    torch.testing.assert_close(plan, uniform)


def test_with_little_entropy_prompts_equal_to_the_descriptions_have_no_distance(build):
    method = build(n_prompts=3)
    classes, prompts = method.class_features()
    method.descriptions = DescriptionFeatures(prompts[0].detach(), torch.full((4, 3), 1 / 3))
    losses = []
    for epsilon in (0.1, 0.01, 1e-5):
        method.variant = method.variant.model_copy(update={"eps_text": epsilon})
        losses.append(method.text_loss(None, classes, prompts, None)[0].item())
    assert losses[0] > losses[1] > losses[2] and abs(losses[2]) < 1e-6


def test_infonce_is_positive_and_kl_of_the_teacher_itself_is_zero(build, batch, descriptions):
    method = build(text_align="infonce")
    classes, prompts = method.class_features()
    assert (method.text_loss(None, classes, prompts, None) > 0).all()
    method = build(text_align="kl")
    own = method.global_logits(batch.features, descriptions.mean)
    assert method.text_loss(batch.features, classes, prompts, own).abs().max() < 1e-6


def test_descriptions_are_means_over_a_class_s_own_sentences(encoder, descriptions):
    assert descriptions.features.shape[:2] == (4, 3)
    assert descriptions.weights.tolist() == [[.5, .5, 0], [pytest.approx(1 / 3)] * 3,
                                             [1, 0, 0], [1, 0, 0]]
    for name, mean in zip(NAMES, descriptions.mean, strict=True):
        own = F.normalize(encoder.encode_text(SENTENCES[name]), dim=-1)
        torch.testing.assert_close(mean, F.normalize(own.mean(dim=0), dim=0))
    with pytest.raises(ValueError, match="no description of 'cow', 'horse'"):
        encode_descriptions(encoder, SENTENCES | {"horse": []}, ["cat", "cow", "horse"])


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_shuffled_descriptions_are_all_there_and_none_with_its_class(count):
    order = shuffled(count)
    assert sorted(order.tolist()) == list(range(count))
    assert (order != torch.arange(count)).all()
    assert torch.equal(order, shuffled(count))


def test_inference_reads_no_description(build, encoder):
    images, local = draw(40, encoder.dim, seed=3), draw(40, LOCAL, encoder.dim, seed=4)
    with_them, without = build(), build(descriptions=None)
    assert torch.equal(without.predict(images, local), with_them.predict(images, local))
    new = build(["lion", "tiger"], descriptions=None)  # new classes have none
    assert new.predict(images, local).shape == (2, 40)


def test_prediction_does_not_depend_on_how_many_images_are_predicted_at_once(build, encoder):
    images, local = draw(600, encoder.dim, seed=3), draw(600, LOCAL, encoder.dim, seed=4)
    method = build()
    parts = [method.predict(images[i:i + 50], local[i:i + 50]) for i in range(0, 600, 50)]
    assert torch.equal(method.predict(images, local), torch.cat(parts, dim=1))


def test_a_step_with_four_prompts_costs_little_more_than_four_of_coops():
    encoder = TextEncoder(small_clip(192, **{k: v for k, v in POCKET.items() if k != "dim"}),
                          TOKENIZER)
    names = [" ".join(["word"] * (1 + i % 3)) for i in range(100)]
    context = ContextParams(n_ctx=16)
    local = draw(40, 9, encoder.dim)
    texts = DescriptionFeatures(draw(100, 20, encoder.dim), torch.full((100, 20), 1 / 20))
    batch = Batch(torch.arange(32)[None], draw(1, 32, encoder.dim), torch.arange(32)[None])

    def operations(compute):
        with FlopCounterMode(display=False) as counter:
            compute().sum().backward()
        return counter.get_total_flops()

    coop = CoOp(encoder, names, context, SCALE, seeds=[1])
    method = DuAlPT(encoder, names, DuAlPTVariant(context=context), SCALE, seeds=[1],
                    train_local=local, descriptions=texts)
    assert operations(lambda: method.loss(batch)) < 4.5 * operations(coop.class_features)


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
