"""CoOp as a model: what it computes and what it learns."""


import pytest
import torch
from plain import TOKENIZER, difference, plain_features, small_clip
from torch.nn import functional as F

from promptstudy.clip.text import TextEncoder
from promptstudy.datasets.subsets import base_and_new
from promptstudy.methods.coop import CoOp
from promptstudy.metrics import top1
from promptstudy.params import ContextParams
from promptstudy.training import Batch

NAMES = ["cat", "great white shark", "cat (felis)", "dog"]
SCALE = 30.0


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=5)


@pytest.fixture(scope="module")
def encoder(model):
    return TextEncoder(model, TOKENIZER)


@pytest.fixture(scope="module")
def batch(encoder):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 6, encoder.dim, generator=generator)
    labels = torch.randint(len(NAMES), (2, 6), generator=generator)
    return Batch(torch.arange(6).expand(2, -1), F.normalize(features, dim=-1), labels)


def coop(encoder, names=NAMES, seeds=(1, 2), contexts=None, **context):
    return CoOp(encoder, names, ContextParams(**{"n_ctx": 4} | context), SCALE, contexts=contexts,
                seeds=seeds)


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_loss_and_prediction_are_those_of_the_plain_form(position, class_specific, model, encoder,
                                                         batch):
    method = coop(encoder, position=position, class_specific=class_specific)
    losses = method.loss(batch)
    for run, contexts in enumerate(method.contexts):
        text = F.normalize(plain_features(model, NAMES, contexts, position), dim=-1)
        # p(y = i | x) = exp(cos(t_i, x) / tau) / sum_j exp(cos(t_j, x) / tau)
        score = torch.exp(SCALE * batch.features[run] @ text.T)
        chosen = score[torch.arange(6), batch.labels[run]]
        expected = -(chosen / score.sum(dim=1)).log().mean()
        assert losses[run].item() == pytest.approx(expected.item(), rel=1e-5)
        assert torch.equal(method.predict(batch.features[run])[run], score.argmax(dim=1))


def test_with_the_words_of_a_sentence_it_is_zero_shot_clip(encoder):
    method = coop(encoder, seeds=[1], init="a photo of a")
    expected = encoder.encode_templates(NAMES, ["a photo of a {}."])
    assert difference(method.class_features()[0], expected) < 1e-5


@pytest.mark.parametrize("class_specific", [False, True])
def test_only_the_contexts_learn(class_specific, model, encoder, batch):
    method = coop(encoder, class_specific=class_specific)
    method.loss(batch).sum().backward()
    learned = [name for name, p in method.named_parameters() if p.requires_grad]
    assert learned == ["contexts"]
    assert all(p.grad is None for n, p in method.named_parameters() if n != "contexts")
    assert not any(p.requires_grad for p in model.parameters())
    assert (method.contexts.grad.flatten(2).norm(dim=-1) > 0).all()
    size = 4 * encoder.width
    assert method.contexts.numel() == 2 * size * (len(NAMES) if class_specific else 1)


def test_a_run_gets_its_gradient_from_its_own_loss_alone(encoder, batch):
    method = coop(encoder)
    gradient, = torch.autograd.grad(method.loss(batch)[0], method.contexts)
    assert gradient[0].norm() > 0 and gradient[1].norm() == 0


def test_learned_contexts_serve_other_classes_unless_class_specific(encoder):
    unified = coop(encoder)
    other = coop(encoder, ["lion", "tiger"], contexts=unified.contexts.detach())
    assert other.class_features().shape == (2, 2, encoder.dim)
    specific = coop(encoder, class_specific=True)
    with pytest.raises(ValueError, match="4 classes cannot be used for 2"):
        coop(encoder, ["lion", "tiger"], contexts=specific.contexts.detach(), class_specific=True)
    with pytest.raises(ValueError, match="contexts of 3 vectors do not fit a prompt of 4"):
        coop(encoder, contexts=unified.contexts.detach()[:, :3])


def test_training_leaves_the_given_starting_point_as_it_was(encoder):
    start = torch.zeros(1, 4, encoder.width)
    method = coop(encoder, contexts=start)
    with torch.no_grad():
        method.contexts += 1
    assert (start == 0).all()


def test_top1_counts_images_in_percent():
    labels = torch.tensor([0, 1, 2, 2])
    predicted = torch.tensor([[0, 1, 2, 1], [1, 0, 2, 1]])
    assert top1(predicted, labels).tolist() == [75, 25]


def test_of_an_odd_number_of_classes_base_has_one_more():
    base, new = base_and_new(5)
    assert list(base) == [0, 1, 2] and list(new) == [3, 4]
