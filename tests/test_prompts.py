"""Where context vectors and class names stand, and what context vectors start from."""

import pytest
import torch
from plain import TOKENIZER, difference, plain_prompts, small_clip
from torch.nn import functional as F

from promptstudy.clip.prompts import (
    PromptLayout,
    initial_contexts,
    layout_tokens,
    nearest_words,
)
from promptstudy.clip.text import TextEncoder
from promptstudy.params import ContextParams

NAMES = ["cat", "great white shark", "cat (felis)"]
WORDS = ContextParams(n_ctx=4, init="a photo of a")
POSITIONS = ("end", "middle", "front")


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(small_clip(seed=3), TOKENIZER)


@pytest.fixture(scope="module")
def model():
    return small_clip(seed=3)


def features(encoder, layout, contexts):
    return encoder(*layout(contexts))


@pytest.mark.parametrize("n_ctx", [1, 4, 5])
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_prompts_are_assembled_as_described(position, class_specific, n_ctx, encoder, model):
    context = ContextParams(n_ctx=n_ctx, position=position, class_specific=class_specific)
    contexts = torch.randn(2, *([len(NAMES)] if class_specific else []), n_ctx, encoder.width)
    prefix, suffix, end = PromptLayout(encoder, NAMES, context)(contexts)
    for run in range(2):
        expected, ends = plain_prompts(model, NAMES, contexts[run], position)
        assert torch.equal(ends, end + prefix.shape[1])
        for index, last in enumerate(ends):
            prompt = torch.cat([prefix[run], suffix[run, index]])
            assert torch.equal(prompt[:last + 1], expected[index, :last + 1])


def test_the_first_half_of_an_odd_context_is_the_shorter_one(encoder):
    layout = PromptLayout(encoder, ["cat"], ContextParams(n_ctx=5, position="middle"))
    assert layout.n_shared == 2
    assert layout.slots[0].tolist() == [-1, 2, 3, 4, -1, -1]


@pytest.mark.parametrize(("position", "expected"), [
    ("end", "SOS v1 v2 v3 great white shark . EOT"),
    ("middle", "SOS v1 great white shark v2 v3 . EOT"),
    ("front", "SOS great white shark v1 v2 v3 . EOT")])
@pytest.mark.parametrize("class_specific", [False, True])
def test_the_tokens_of_a_layout_are_named_in_order(position, expected, class_specific, encoder):
    context = ContextParams(n_ctx=3, position=position, class_specific=class_specific)
    pairs = layout_tokens(encoder, "great white shark", context)
    assert " ".join(text for text, _ in pairs) == expected
    kinds = {text: kind for text, kind in pairs}
    assert [kinds[t] for t in ("SOS", "v2", "white", ".", "EOT")] == [
        "fixed", "context", "name", "fixed", "fixed"]


@pytest.mark.parametrize("name", [*NAMES, "Boeing 737-800", "yorkshire terrier", "it's"])
def test_words_as_context_give_the_feature_of_the_sentence(name, encoder, model):
    layout = PromptLayout(encoder, [name, "a much longer class name"], WORDS)
    found = features(encoder, layout, initial_contexts(encoder, layout, WORDS, [1]))[0, 0]
    expected = model.encode_text(TOKENIZER([f"a photo of a {name}."]))[0]
    assert difference(found, expected) < 1e-5


@pytest.mark.parametrize("position", POSITIONS)
def test_a_longer_name_does_not_change_the_other_classes(position, encoder):
    context = ContextParams(n_ctx=4, position=position)
    contexts = torch.randn(1, 4, encoder.width)
    few = features(encoder, PromptLayout(encoder, NAMES, context), contexts)
    more = features(encoder, PromptLayout(encoder, [*NAMES, "word " * 30], context), contexts)
    assert difference(more[:, :len(NAMES)], few) < 1e-6


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_permuting_classes_permutes_features(position, class_specific, encoder):
    context = ContextParams(n_ctx=4, position=position, class_specific=class_specific)
    order = [2, 0, 1]
    contexts = torch.randn(2, *([len(NAMES)] if class_specific else []), 4, encoder.width)
    permuted = contexts[:, order] if class_specific else contexts
    before = features(encoder, PromptLayout(encoder, NAMES, context), contexts)
    names = [NAMES[i] for i in order]
    after = features(encoder, PromptLayout(encoder, names, context), permuted)
    assert difference(after, before[:, order]) < 1e-6
    assert difference(after, before) > 1e-3


@pytest.mark.parametrize("position", POSITIONS)
def test_a_class_specific_context_only_serves_its_class(position, encoder):
    context = ContextParams(n_ctx=4, position=position, class_specific=True)
    contexts = torch.randn(2, len(NAMES), 4, encoder.width, requires_grad=True)
    found = features(encoder, PromptLayout(encoder, NAMES, context), contexts)
    for index in range(len(NAMES)):
        gradient, = torch.autograd.grad(found[:, index].sum(), contexts, retain_graph=True)
        touched = gradient.abs().sum(dim=(0, 2, 3)) > 0
        assert touched.tolist() == [i == index for i in range(len(NAMES))]


def test_initial_words_are_the_same_for_every_run_and_class(encoder):
    expected = encoder.token_embedding(torch.tensor(TOKENIZER.encode("a photo of a")))
    for class_specific in (False, True):
        context = WORDS.model_copy(update={"class_specific": class_specific})
        layout = PromptLayout(encoder, NAMES, context)
        contexts = initial_contexts(encoder, layout, context, [1, 2])
        assert contexts.shape == (2, *([3] if class_specific else []), 4, encoder.width)
        assert torch.equal(contexts, expected.expand_as(contexts))


def test_random_contexts_depend_on_the_seed_alone(encoder):
    context = ContextParams(n_ctx=400)
    layout = PromptLayout(encoder, NAMES, context)
    both = initial_contexts(encoder, layout, context, [1, 2])
    alone = initial_contexts(encoder, layout, context, [2])
    assert torch.equal(both[1], alone[0]) and not torch.equal(both[0], both[1])
    assert both.std().item() == pytest.approx(0.02, rel=0.03)
    assert abs(both.mean().item()) < 1e-3


def test_initial_words_must_be_as_many_tokens_as_context_vectors(encoder):
    context = ContextParams(n_ctx=16, init="a photo of a")
    layout = PromptLayout(encoder, NAMES, context)
    with pytest.raises(ValueError, match="'a photo of a' are 4 tokens, n_ctx is 16"):
        initial_contexts(encoder, layout, context, [1])


def test_the_nearest_word_of_a_words_embedding_is_the_word():
    encoder = TextEncoder(small_clip(width=256), TOKENIZER)
    words = ["photo", "shark", "the"]
    tokens = torch.tensor([TOKENIZER.encode(word)[0] for word in words])
    found = nearest_words(encoder, encoder.token_embedding(tokens), count=3)
    for word, row in zip(words, found, strict=True):
        assert row[0] == (word, 0.0)
        assert 0 < row[1][1] <= row[2][1]


def test_the_distance_to_a_word_is_euclidean(encoder):
    vectors = F.normalize(torch.randn(2, encoder.width), dim=-1)
    table = encoder.token_embedding.weight
    for vector, row in zip(vectors, nearest_words(encoder, vectors), strict=True):
        distances = (table - vector).norm(dim=-1)
        assert row[0][1] == pytest.approx(distances.min().item(), rel=1e-5)
        assert row[0][0] == TOKENIZER.decode([distances.argmin().item()]).strip()


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_gradients_do_not_depend_on_the_order_of_threads(position, class_specific, encoder):
    """Repeating a gradient shows the difference once in many runs, its operations always do."""
    context = ContextParams(n_ctx=4, position=position, class_specific=class_specific)
    layout = PromptLayout(encoder, NAMES, context)
    contexts = initial_contexts(encoder, layout, context, [1, 2]).requires_grad_()
    prefix, suffix, _ = layout(contexts)
    operations, ahead = set(), [suffix.grad_fn, prefix.grad_fn]
    while ahead:
        operation = ahead.pop()
        if operation is not None and operation not in operations:
            operations.add(operation)
            ahead += [after for after, _ in operation.next_functions]
    names = {operation.name() for operation in operations}
    assert "torch::autograd::AccumulateGrad" in names  # the walk reached the contexts
    assert not names & {"IndexBackward0", "IndexPutBackward0"}
