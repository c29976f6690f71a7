"""AAPE as a model: its parts against slow plain forms, where it starts, what it depends on."""

import pytest
import torch
from plain import difference
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from promptstudy.clip.text_features import DescriptionFeatures
from promptstudy.methods import aggregators, projections
from promptstudy.methods.aape import Classifier, other_images
from promptstudy.methods.aape_retrieval import Retriever
from promptstudy.methods.projections import PROJECTIONS
from promptstudy.methods.reference_prompts import centred
from promptstudy.methods.stacked import MLP
from promptstudy.params import Schedule
from promptstudy.params.methods.aape import AAPEVariant
from promptstudy.training import Batch, train

DIM, CLASSES, PROMPTS, SCALE = 16, 5, 4, 20.0
COUNTS = torch.tensor([4, 3, 1, 2, 4])  # prompts of each class; the rest are fillers
AGGREGATORS = [{}, {"agg_values": "identity"}, {"aggregator": "mean"}, {"aggregator": "random"},
               {"aggregator": "mlp"}]
KINDS = (Classifier, Retriever)
LEARNED = {"language": set(), "class": {"projection"}, "blind": {"projection"}}


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


TEMPLATES = draw(CLASSES, DIM, seed=3)


@pytest.fixture
def prompts():
    real = torch.arange(PROMPTS) < COUNTS[:, None]
    features = draw(CLASSES, PROMPTS, DIM, seed=4) * real[..., None]
    return DescriptionFeatures(features, real / COUNTS[:, None])


@pytest.fixture
def batch():
    return Batch(None, draw(2, 6, DIM), torch.tensor([[0, 1, 2, 3, 1, 1], [4, 4, 0, 2, 3, 1]]))


def build(kind=Classifier, prompts=None, seeds=(1, 2), shaken=True, **options):
    """An AAPE, by default with every parameter moved away from its special starting values."""
    start = (TEMPLATES,) if kind is Classifier else (DIM,)
    method = kind(*start, AAPEVariant(**{"dropout": 0, **options}), SCALE, seeds, prompts)
    if shaken:
        generator = torch.Generator().manual_seed(0)
        for parameter in method.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape[1:], generator=generator)
    return method


def linear(layer, x, run):
    return x @ layer.weight[run] + (0 if layer.bias is None else layer.bias[run])


def mlp(layers, x, run):
    scale = DIM ** 0.5
    return linear(layers.second, F.gelu(linear(layers.first, scale * x, run)), run) / scale


def plain_summary(aggregator, options, run, image, prompts):
    """p^a of one image from its real prompts [K, d], head by head."""
    mean = prompts.mean(dim=0)
    if options.get("aggregator") == "mean":
        return F.normalize(mean, dim=0)
    if options.get("aggregator") == "mlp":
        return F.normalize(mean + mlp(aggregator.mlp, mean, run), dim=0)
    size = DIM // 4
    attention, heads = [], []
    for h in range(4):
        part = slice(h * size, (h + 1) * size)
        query = DIM ** 0.5 * image @ aggregator.query.weight[run][:, part]
        keys = DIM ** 0.5 * prompts @ aggregator.key.weight[run][:, part]
        attention.append((keys @ query / size ** 0.5).softmax(dim=0))
        if not options:
            heads.append(attention[-1] @ (prompts @ aggregator.value.weight[run][:, part]))
    if options:
        return F.normalize(torch.stack(attention).mean(dim=0) @ prompts, dim=0)
    return F.normalize(mean + torch.cat(heads) @ aggregator.out.weight[run], dim=0)


def plain_parts(method, options, prompts, batch, run):
    """p and p^a [B, d] of one run."""
    p = F.normalize(batch.features[run] + mlp(method.generator, batch.features[run], run), dim=-1)
    each = [features[:count] for features, count in zip(prompts.features, COUNTS, strict=True)]
    common = torch.stack([of_class.mean(dim=0) for of_class in each]).mean(dim=0)
    own = [F.normalize(each[label] - common, dim=-1) for label in batch.labels[run]]
    pa = [plain_summary(method.aggregator, options, run, image, of_image)
          for image, of_image in zip(batch.features[run], own, strict=True)]
    return p, torch.stack(pa)


def plain_penalties(features, p, pa):
    distance = ((p - pa) ** 2).sum(dim=1).mean()
    return 0.7 * distance + 1.3 * (1 - (features * pa).sum(dim=1)).mean()


def plain_score(method, run, image, p, template):
    """z_c of one image and one class."""
    match method.variant.projection:
        case "language":
            share = method.variant.share
            return SCALE * ((1 - share) * (image @ template) + share * (p @ template))
        case "class":
            moved = mlp(method.projection.mlp, torch.cat([p, template]), run)
        case "blind":
            moved = mlp(method.projection.mlp, template, run)
    return SCALE * F.cosine_similarity(image, template + moved, dim=0)


@pytest.mark.parametrize("options, projection", [
    ({}, "language"), ({"agg_values": "identity"}, "language"), ({"aggregator": "mean"}, "class"),
    ({"aggregator": "mlp"}, "blind")])
def test_classification_is_that_of_the_plain_form(options, projection, prompts, batch):
    method = build(prompts=prompts, projection=projection, share=0.3, mu=1.3, lambda_distill=0.7,
                   **options)
    losses = method.loss(batch)
    for run, (features, labels) in enumerate(zip(batch.features, batch.labels, strict=True)):
        p, pa = plain_parts(method, options, prompts, batch, run)
        z = torch.stack([torch.stack([plain_score(method, run, image, spoken, template)
                                      for template in TEMPLATES])
                         for image, spoken in zip(features, p, strict=True)])
        torch.testing.assert_close(method.scores(features)[run], z, rtol=1e-5, atol=1e-4)
        assert torch.equal(method.predict(features)[run], z.argmax(dim=1))
        expected = F.cross_entropy(z, labels) + plain_penalties(features, p, pa)
        assert losses[run].item() == pytest.approx(expected.item(), rel=2e-5)


def test_retrieval_is_that_of_the_plain_form(prompts, batch):
    method = build(Retriever, prompts, share=0.3, mu=1.3, lambda_distill=0.7)
    losses = method.loss(batch)
    for run, (features, labels) in enumerate(zip(batch.features, batch.labels, strict=True)):
        p, pa = plain_parts(method, {}, prompts, batch, run)
        images = F.normalize(0.7 * features + 0.3 * p, dim=1)
        captions = [(caption, label) for label in labels
                    for caption in prompts.features[label, :COUNTS[label]]]
        shares = (SCALE * images @ torch.stack([c for c, _ in captions]).T).exp()
        own = labels[:, None] == torch.stack([label for _, label in captions])
        one, other = ((shares / shares.sum(dim=dim, keepdim=True)).log() for dim in (1, 0))
        task = -sum(one[i, own[i]].mean() for i in range(6)) / 6
        task -= sum(other[own[:, j], j].mean() for j in range(len(captions))) / len(captions)
        expected = task / 2 + plain_penalties(features, p, pa)
        assert losses[run].item() == pytest.approx(expected.item(), rel=2e-5)
        torch.testing.assert_close(method.image_features(batch.features)[run], images)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("options", AGGREGATORS, ids=str)
def test_before_the_first_step_it_is_zero_shot_clip(options, projection, prompts, batch):
    method = build(prompts=prompts, shaken=False, projection=projection, **options)
    images = batch.features[0]
    zero_shot = (SCALE * images @ TEMPLATES.T).expand(2, -1, -1)
    assert difference(method.scores(images), zero_shot) < 1e-6
    assert difference(method.generate(batch.features), batch.features) < 1e-6
    retriever = build(Retriever, prompts, shaken=False, projection=projection, **options)
    assert difference(retriever.image_features(batch.features), batch.features) < 1e-6


def test_the_share_leads_from_zero_shot_clip_to_the_aape_alone(batch):
    images = batch.features[0]
    none, half, whole = (build(share=share).scores(images) for share in (0, 0.5, 1))
    zero_shot = SCALE * (images @ TEMPLATES.T).expand(2, -1, -1)
    torch.testing.assert_close(none, zero_shot, rtol=0, atol=1e-5)
    generated = build().generate(images.expand(2, -1, -1))
    torch.testing.assert_close(whole, SCALE * generated @ TEMPLATES.T)
    torch.testing.assert_close(half, (none + whole) / 2)
    assert difference(whole, none) > 0.1


def test_the_aape_reaches_a_class_through_their_cosine_alone(batch):
    """What a template says beside the AAPE does not count, however far it is moved there."""
    method, images = build(share=1.0, seeds=(1,)), batch.features[0, :1]
    p = method.generate(images[None])[0, 0]
    aside = draw(DIM, seed=8)
    method.templates = (TEMPLATES + torch.outer(draw(CLASSES, seed=9), aside - aside @ p * p))[None]
    expected = SCALE * TEMPLATES @ p
    torch.testing.assert_close(method.scores(images)[0, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("projection, heard", [("language", True), ("class", True),
                                               ("blind", False)])
def test_only_the_blind_control_is_deaf_to_the_aape(projection, heard):
    method, images = build(projection=projection), draw(7, DIM, seed=3)
    about = other_images(images)
    assert torch.equal(about, images[[4, 5, 6, 0, 1, 2, 3]])
    own, exchanged = method.scores(images), method.scores(images, about)
    assert (difference(own, exchanged) > 0.01) == heard
    assert torch.equal(method.predict(images, about), exchanged.argmax(dim=-1))


def test_centred_prompts_say_only_what_sets_classes_apart(prompts):
    features, weights = centred(prompts)
    assert torch.equal(weights, prompts.weights)
    assert not features[weights == 0].any()
    torch.testing.assert_close(features[weights > 0].norm(dim=-1), torch.ones(COUNTS.sum()))
    moved = DescriptionFeatures((prompts.features + draw(DIM, seed=5)) * (weights > 0)[..., None],
                                weights)
    torch.testing.assert_close(centred(moved).features, features)  # what all share is taken away


def test_attention_starts_as_the_mean_prompt_and_runs_start_differently(prompts, batch):
    method = build(prompts=prompts, shaken=False)
    mean = build(prompts=prompts, aggregator="mean")
    torch.testing.assert_close(method.summary(batch), mean.summary(batch))
    for weight in (method.generator.first.weight, method.aggregator.query.weight):
        assert difference(weight[0], weight[1]) > 0.1
    assert torch.equal(build().generate(batch.features).norm(dim=-1).round(decimals=5),
                       torch.ones(2, 6))


def test_layers_begin_as_torch_s_own():
    ours = MLP([torch.Generator().manual_seed(1)], 150, 200, inputs=2)
    for layer, size_in, size_out in ((ours.first, 300, 200), (ours.second, 200, 150)):
        theirs = nn.Linear(size_in, size_out)
        for mine, reference in ((layer.weight, theirs.weight), (layer.bias, theirs.bias)):
            assert mine.abs().max() <= reference.abs().max() * 1.05
            assert mine.std().item() == pytest.approx(reference.std().item(), rel=0.15)


@pytest.mark.parametrize("options", [o for o in AGGREGATORS if "random" not in o.values()], ids=str)
def test_order_of_prompts_and_fillers_do_not_matter(options, prompts, batch):
    method = build(prompts=prompts, **options)
    expected, gradients = method.summary(batch), summary_gradients(method, batch)
    more = DescriptionFeatures(F.pad(prompts.features, (0, 0, 2, 1), value=0.5),
                               F.pad(prompts.weights, (2, 1)))
    for other in (DescriptionFeatures(prompts.features.flip(1), prompts.weights.flip(1)), more):
        method.centred = centred(other)
        torch.testing.assert_close(method.summary(batch), expected)
        for a, b in zip(summary_gradients(method, batch), gradients, strict=True):
            torch.testing.assert_close(a, b)


def summary_gradients(method, batch):
    parameters = list(method.aggregator.parameters())
    if not parameters:
        return ()
    return torch.autograd.grad(method.reward_loss(batch.features, method.summary(batch)).sum(),
                               parameters)


def test_with_identity_values_the_summary_is_a_convex_combination(prompts, batch):
    method = build(prompts=prompts, agg_values="identity")
    own, weights = (part[batch.labels] for part in centred(prompts))
    attention = method.aggregator.weights(batch.features, own, weights)
    assert (attention >= 0).all() and (attention[weights[:, :, None].expand_as(attention) == 0]
                                       == 0).all()
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 6, 4))
    combined = (attention.mean(dim=2)[..., None] * own).sum(dim=2)
    torch.testing.assert_close(method.summary(batch), F.normalize(combined, dim=-1))
    assert attention.std(dim=-1).max() > 0.05  # it does choose


def test_random_summaries_are_prompts_of_the_class_each_about_equally_often(prompts):
    method = build(prompts=prompts, aggregator="random")
    labels = torch.tensor([[0, 1, 2]]).expand(2, -1)
    batch = Batch(None, draw(2, 3, DIM), labels)
    seen = torch.stack([method.summary(batch) for _ in range(400)])  # [400, R, B, d]
    for place, label in enumerate(labels[0]):
        hits = (seen[:, :, place, None] - method.centred.features[label]).abs().amax(dim=-1) < 1e-6
        shares = hits.double().mean(dim=(0, 1))[:COUNTS[label]]
        assert shares.sum() == 1 and (shares - 1 / COUNTS[label]).abs().max() < 0.06


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", AGGREGATORS, ids=str)
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_parts_learn_each_from_its_own_terms(projection, options, kind, prompts, batch):
    method = build(kind, prompts, projection=projection, **options)
    heard = set() if projection == "blind" else {"generator"}
    learns = {"aggregator"} if list(method.aggregator.parameters()) else set()
    reached = {"task": heard | LEARNED[projection], "distillation": {"generator"},
               "reward": learns}
    for term, loss in method.terms(batch).items():
        assert parts_with_gradient(method, loss) == reached[term], term
    everything = {name.split(".")[0] for name, _ in method.named_parameters()}
    assert parts_with_gradient(method, method.loss(batch)) == everything
    assert everything == {"generator"} | LEARNED[projection] | learns


def parts_with_gradient(method, loss):
    """The parts that a loss reaches; fails where a run's loss reaches another run."""
    if not loss.requires_grad:
        return set()
    named = dict(method.named_parameters())
    gradients = torch.autograd.grad(loss[0], named.values(), allow_unused=True, retain_graph=True)
    reached = set()
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is not None and gradient.any():
            assert gradient[0].any() and not gradient[1:].any(), name
            reached.add(name.split(".")[0])
    return reached


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"aggregator": "random"},
                                     {"projection": "class"}, {"projection": "blind"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_runs_trained_together_are_what_each_is_alone(kind, options, prompts):
    labels = torch.arange(40) % CLASSES
    images = type("Images", (), {"features": draw(40, DIM), "labels": labels,
                                 "views": draw(40, 2, DIM, seed=1)})
    draws = torch.stack([torch.randperm(40, generator=torch.Generator().manual_seed(s))[:24]
                         for s in (1, 2, 3)])
    schedule = Schedule(epochs={1: 6}, batch_size=8, lr=0.1)

    def trained(seeds, draws):
        method = build(kind, prompts, seeds, shaken=False, **options)
        losses = train(method, images, draws, schedule, 1, seeds)
        return method, losses

    together, losses = trained([1, 2, 3], draws)
    start = dict(build(kind, prompts, [1, 2, 3], shaken=False, **options).named_parameters())
    for run in range(3):
        alone, losses_alone = trained([run + 1], draws[run:run + 1])
        assert difference(losses[:, run], losses_alone[:, 0]) < 1e-5
        for name, parameter in together.named_parameters():
            moved = difference(parameter[run], start[name][run]) if start[name].any() else 1
            assert moved > 1e-4, name
            torch.testing.assert_close(parameter[run], dict(alone.named_parameters())[name][0],
                                       rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{"projection": name} for name in PROJECTIONS], ids=str)
def test_prediction_needs_neither_aggregator_nor_prompts(options, prompts):
    images = draw(40, DIM, seed=3)
    whole = build(prompts=prompts, **options)
    learned = {name: p.detach() for name, p in whole.named_parameters()}
    kept = build(shaken=False, **options).restore(learned)
    assert not any("aggregator" in name for name in kept.state_dict())
    assert not {"aggregator", "prompts", "centred"} & set(dir(kept))
    assert torch.equal(kept.scores(images), whole.scores(images))
    assert torch.equal(kept.predict(images), whole.predict(images))
    retriever = build(Retriever, prompts, **options)
    kept = build(Retriever, shaken=False, **options).restore(dict(retriever.named_parameters()))
    features = images.expand(2, -1, -1)
    assert torch.equal(kept.image_features(features), retriever.image_features(features))


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_an_image_s_score_does_not_depend_on_its_company_or_its_classes(projection):
    method, images = build(projection=projection), draw(600, DIM, seed=3)
    scores = method.scores(images)
    torch.testing.assert_close(method.scores(images[7:9]), scores[:, 7:9])
    torch.testing.assert_close(method.predict(images), scores.argmax(dim=-1))
    fewer = Classifier(TEMPLATES[1:3], method.variant, SCALE, (1, 2)).restore(method.state_dict())
    torch.testing.assert_close(fewer.scores(images), scores[:, :, 1:3])


def test_dropout_leaves_out_its_share_of_the_weights_in_training_alone(prompts, batch):
    method = build(prompts=prompts, dropout=0.4, agg_values="identity")
    aggregator, (own, weights) = method.aggregator, (part[batch.labels] for part in method.centred)
    attention = aggregator.weights(batch.features, own, weights).mean(dim=2)
    method.eval()
    torch.testing.assert_close(method.summary(batch),
                               F.normalize(torch.einsum("rbk,rbkd->rbd", attention, own), dim=-1))
    method.train()
    seen = torch.stack([torch.einsum("rbd,rbkd->rbk", method.summary(batch), own)
                        for _ in range(20)])
    assert seen.std(dim=0).max() > 0.05  # different ones each time
    ones = DescriptionFeatures(torch.eye(8).repeat(1, 1, 1), torch.full((1, 8), 1 / 8))
    single = aggregators.Attention([torch.Generator().manual_seed(1)], 8, 1, "identity", 0.4)
    images = draw(1, 2000, 8)
    shown = (part[torch.zeros(1, 2000, dtype=int)] for part in ones)
    left = single(images, *shown) > 0
    assert left.double().mean().item() == pytest.approx(0.6, abs=0.02)


def test_the_number_of_prompts_is_cut_to_k(prompts, batch):
    method = build(prompts=prompts, k=2, aggregator="mean")
    for run, label in ((0, 0), (0, 2)):  # classes with four prompts and with one
        own = centred(prompts.first(2)).features[label, :min(2, COUNTS[label])]
        expected = F.normalize(own.mean(dim=0), dim=0)
        torch.testing.assert_close(method.summary(batch)[run, label], expected)
    assert prompts.first(2).weights.tolist() == [[.5, .5], [.5, .5], [1, 0], [.5, .5], [.5, .5]]
    assert torch.equal(prompts.first().weights, prompts.weights)


def test_heads_that_do_not_divide_the_features_are_refused(prompts):
    with pytest.raises(ValueError, match="3 heads do not divide features of size 16"):
        Classifier(TEMPLATES, AAPEVariant(heads=3), SCALE, (1,), prompts)


def test_pieces_and_recomputation_change_nothing(prompts, batch, monkeypatch):
    method = build(prompts=prompts, projection="class")
    whole, expected = loss_and_gradients(method, batch)
    two_images = 2 * 2 * CLASSES * DIM
    monkeypatch.setattr(projections, "PIECE", two_images)
    for kept in (2**24, two_images):
        monkeypatch.setattr(projections, "KEPT", kept)
        loss, gradients = loss_and_gradients(method, batch)
        torch.testing.assert_close(loss, whole)
        for a, b in zip(gradients, expected, strict=True):
            torch.testing.assert_close(a, b)


def loss_and_gradients(method, batch):
    loss = method.loss(batch)
    return loss.detach(), torch.autograd.grad(loss.sum(), list(method.parameters()))


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // leaf.element_size()
                 for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_pairs_of_images_and_classes_are_neither_made_nor_kept_all_at_once(projection,
                                                                           monkeypatch):
    """With 1,000 classes and 256 images of size 64 all pairs would be 16 million numbers."""
    monkeypatch.setattr(projections, "KEPT", 2**20)
    dim, classes, images = 64, 1000, 256
    prompts = DescriptionFeatures(draw(classes, 5, dim), torch.full((classes, 5), 0.2))
    variant = AAPEVariant(projection=projection)
    method = Classifier(draw(classes, dim, seed=1), variant, SCALE, (1,), prompts)
    batch = Batch(None, draw(1, images, dim, seed=2), torch.arange(images)[None])
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = method.loss(batch).sum()
        loss.backward()
    pairs = images * classes * dim
    assert largest.numel <= max(projections.KEPT, images * classes) < pairs / 10
    assert sum(kept) < pairs / 5
