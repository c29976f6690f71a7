"""The fast text encoder gives what the usual 77-token form gives."""

import copy
import functools
import weakref
from pathlib import Path
from unittest import mock

import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from plain import (
    POCKET,
    TOKENIZER,
    difference,
    plain_encode,
    plain_features,
    plain_prompts,
    shaken,
    small_clip,
)
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

from promptstudy.clip import text
from promptstudy.clip.prompts import PromptLayout
from promptstudy.clip.text import TextEncoder
from promptstudy.params import ContextParams

NAMES = ["cat", "great white shark", "cat (felis)", "Boeing 737-800"]
REAL_POCKET = Path(__file__).parents[1] / "data" / "pocket_clip"
POSITIONS = ("end", "middle", "front")


@pytest.fixture(scope="session")
def rn50():
    torch.manual_seed(0)
    return shaken(open_clip.create_model("RN50"))


@pytest.fixture(scope="session")
def pocket():
    return small_clip(**POCKET)


@pytest.fixture(scope="session")
def tiny():
    return small_clip()


def compare(model, context, names=NAMES, runs=2, seed=0):
    """Return the relative differences of features and of context gradients, fast against plain."""
    encoder = TextEncoder(model, TOKENIZER)
    layout = PromptLayout(encoder, names, context)
    generator = torch.Generator().manual_seed(seed)
    shape = (runs, *([len(names)] if context.class_specific else []), context.n_ctx, encoder.width)
    contexts = (0.02 * torch.randn(shape, generator=generator)).requires_grad_()
    features = encoder(*layout(contexts))
    reference = torch.stack([plain_features(model, names, c, context.position) for c in contexts])
    direction = torch.randn(reference.shape, generator=generator)
    gradient, = torch.autograd.grad((features * direction).sum(), contexts)
    reference_gradient, = torch.autograd.grad((reference * direction).sum(), contexts)
    return difference(features, reference), difference(gradient, reference_gradient)


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("tower", ["pocket", "rn50"])
def test_features_and_gradients_equal_the_plain_form(tower, position, class_specific, request):
    context = ContextParams(n_ctx=16, position=position, class_specific=class_specific)
    names, runs = (NAMES, 3) if tower == "pocket" else (NAMES[:2], 2)
    assert max(compare(request.getfixturevalue(tower), context, names, runs)) < 1e-5


@pytest.mark.parametrize("n_ctx", [1, 4, 5])
@pytest.mark.parametrize("position", POSITIONS)
def test_any_number_of_context_vectors_equals_the_plain_form(position, n_ctx, tiny):
    assert max(compare(tiny, ContextParams(n_ctx=n_ctx, position=position), runs=1)) < 1e-5


@pytest.mark.parametrize("variant", [
    {"custom": True}, {"proj_bias": True}, {"custom": True, "proj_bias": True},
    {"proj_type": "none"}, {"quick_gelu": True}, {"ls_init_value": 0.3}, {"heads": 4, "layers": 1},
    {"mlp_ratio": 2.0}], ids=str)
@pytest.mark.parametrize("position", ["end", "middle"])
def test_every_stock_causal_tower_equals_the_plain_form(variant, position):
    model = small_clip(**variant)
    assert max(compare(model, ContextParams(n_ctx=4, position=position))) < 1e-5
    encoder = TextEncoder(model, TOKENIZER)
    assert encoder.dim == model.encode_text(TOKENIZER(["cat"])).shape[-1]


def test_activation_matters_to_the_comparison():
    gelu, quick = small_clip(), small_clip(quick_gelu=True)
    context = torch.zeros(4, 32)
    assert difference(plain_features(quick, NAMES, context), plain_features(gelu, NAMES, context)) \
        > 1e-3


@pytest.mark.skipif(not (REAL_POCKET / "open_clip_model.safetensors").is_file(),
                    reason="the embedded backbone is not there")
def test_the_embedded_backbone_equals_the_plain_form():
    model = open_clip.create_model(f"local-dir:{REAL_POCKET}").eval().requires_grad_(False)
    for position in POSITIONS:
        assert max(compare(model, ContextParams(n_ctx=16, position=position))) < 1e-5


SENTENCES = ["a photo of a cat.", "", "dog", "a blurry photo of the large great white shark, again",
             "word " * 74, "word " * 75, "one sentence that does not end " * 20, "cat"]


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_encode_text_equals_open_clip_in_order_for_any_batch_size(batch_size, pocket):
    features = TextEncoder(pocket, TOKENIZER).encode_text(SENTENCES, batch_size)
    reference = pocket.encode_text(TOKENIZER(SENTENCES))
    for row, expected in zip(features, reference, strict=True):
        assert difference(row, expected) < 1e-5


def test_encode_text_equals_open_clip_for_rn50(rn50):
    features = TextEncoder(rn50, TOKENIZER).encode_text(SENTENCES[:4])
    assert difference(features, rn50.encode_text(TOKENIZER(SENTENCES[:4]))) < 1e-5


def test_encode_templates_normalises_averages_and_normalises(tiny):
    names, templates = ["cat", "great white shark"], ["a photo of a {}.", "{}, drawn", "art of {}"]
    expected = []
    for name in names:
        features = tiny.encode_text(TOKENIZER([t.format(name) for t in templates]))
        expected.append(F.normalize(F.normalize(features, dim=-1).mean(dim=0), dim=-1))
    found = TextEncoder(tiny, TOKENIZER).encode_templates(names, templates)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("class_specific", [False, True])
def test_runs_do_not_influence_each_other(position, class_specific, tiny):
    encoder = TextEncoder(tiny, TOKENIZER)
    layout = PromptLayout(encoder, NAMES, ContextParams(
        n_ctx=4, position=position, class_specific=class_specific))
    contexts = torch.randn(2, *([len(NAMES)] if class_specific else []), 4, encoder.width)
    changed = contexts.clone()
    changed[0] *= -1
    before, after = encoder(*layout(contexts)), encoder(*layout(changed))
    assert difference(after[1], before[1]) < 1e-6
    assert difference(after[0], before[0]) > 1e-3


@pytest.mark.parametrize(("reason", "variant"), [
    ("causal", {"no_causal_mask": True}),
    ("causal", {"no_causal_mask": True, "custom": True}),
    ("class token", {"embed_cls": True, "custom": True}),  # as in CoCa
    ("EOT", {"pool_type": "last"}),
    ("EOT", {"pool_type": "first", "custom": True}),
    ("EOT", {"pool_type": "eos"}),
    ("ResidualAttentionBlock", {"qk_norm": True})], ids=str)
def test_a_tower_for_which_the_savings_do_not_hold_is_refused(reason, variant):
    with pytest.raises(NotImplementedError, match=f"cannot be used.*{reason}"):
        TextEncoder(small_clip(**variant), TOKENIZER)


def test_a_hugging_face_tower_is_refused():
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = nn.Module()
    with mock.patch("open_clip.hf_model.AutoConfig.from_pretrained", return_value=config):
        model.text = HFTextEncoder("some/model", output_dim=24, pretrained=False)
    with pytest.raises(NotImplementedError, match="not open_clip's own text transformer"):
        TextEncoder(model, TOKENIZER)


def test_a_prompt_that_is_too_long_is_refused(tiny):
    encoder = TextEncoder(tiny, TOKENIZER)
    contexts = torch.zeros(1, 16, encoder.width)
    fits = PromptLayout(encoder, ["word " * 58], ContextParams(n_ctx=16))  # 1 + 16 + 58 + 2 = 77
    assert encoder(*fits(contexts)).shape == (1, 1, encoder.dim)
    for n_words in (59, 200):
        layout = PromptLayout(encoder, ["cat", "word " * n_words], ContextParams(n_ctx=16))
        with pytest.raises(ValueError, match="77"):
            encoder(*layout(contexts))


@pytest.mark.parametrize("tower", ["pocket", "rn50"])
def test_a_training_step_needs_ten_times_fewer_operations_than_the_plain_form(tower, request):
    model = request.getfixturevalue(tower)
    names = [" ".join(["word"] * (1 + i % 5)) for i in range(37)]
    encoder = TextEncoder(model, TOKENIZER)
    layout = PromptLayout(encoder, names, ContextParams(n_ctx=16))
    contexts = torch.zeros(1, 16, encoder.width)
    shapes_only = copy.deepcopy(model).to("meta")  # counts operations without doing them

    def operations(encode, prompts):
        prompts = [tensor.to("meta") if tensor.is_floating_point() else tensor
                   for tensor in prompts]  # where the ends are must be known
        prompts[0].requires_grad_()
        with FlopCounterMode(display=False) as counter:
            encode(*prompts).sum().backward()
        return counter.get_total_flops()

    plain = operations(functools.partial(plain_encode, shapes_only),
                       plain_prompts(model, names, contexts[0], "end"))
    fast = operations(copy.deepcopy(encoder).to("meta"), layout(contexts))
    assert plain > 10 * fast


# many classes

MANY = [" ".join(["word"] * (1 + i % 7)) for i in range(40)]
FORMS = [{}, {"class_specific": True}, {"position": "middle"}, {"position": "front"}]


def step(encoder, context, runs, names=MANY):
    """Return features, the contexts' gradient and the operations of forward and of backward."""
    layout = PromptLayout(encoder, names, context)
    shape = (runs, *([len(names)] if context.class_specific else []), context.n_ctx, encoder.width)
    generator = torch.Generator().manual_seed(0)
    draw = functools.partial(torch.randn, generator=generator,
                             dtype=encoder.positional_embedding.dtype)
    contexts = draw(shape).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        features = encoder(*layout(contexts))
        forward = counter.get_total_flops()
        (features * draw(features.shape)).sum().backward()
    return features.detach(), contexts.grad, forward, counter.get_total_flops() - forward


@pytest.mark.parametrize("held", [1, 10**6, 2 * 10**6])  # nothing, a part, most
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_chunks_of_classes_give_the_same_features_and_gradients(form, runs, held, monkeypatch):
    encoder = TextEncoder(small_clip(layers=3, quick_gelu=True), TOKENIZER).double()
    context = ContextParams(n_ctx=4, **form)
    monkeypatch.setattr(text, "PADDING", float("inf"))  # in one piece
    features, gradient, *_ = step(encoder, context, runs)
    monkeypatch.setattr(text, "HELD", held)
    with mock.patch.object(text, "checkpoint", side_effect=text.checkpoint) as recomputed:
        chunked, chunked_gradient, *_ = step(encoder, context, runs)
    assert recomputed.called
    assert difference(chunked, features) < 1e-13
    assert difference(chunked_gradient, gradient) < 1e-13


def test_chunks_without_gradients(tiny, monkeypatch):
    encoder = TextEncoder(tiny, TOKENIZER)
    expected = encoder.encode_text(SENTENCES)
    monkeypatch.setattr(text, "HELD", 1)
    assert difference(encoder.encode_text(SENTENCES), expected) < 1e-6


def test_only_what_cannot_be_held_is_computed_again(monkeypatch):
    """Of names of one length nothing is saved by sorting, so that every operation counts."""
    encoder, context = TextEncoder(small_clip(layers=3), TOKENIZER), ContextParams(n_ctx=4)
    names = ["word"] * 40
    _, _, forward, backward = step(encoder, context, 1, names)
    for held, again in ((1, 1), (0.5, 0.5), (0.75, 0.25)):
        # 40 names are 120 tokens
        monkeypatch.setattr(text, "HELD", held * 120 * 14 * 32 * 3 * 4 if held < 1 else 1)
        _, _, chunked, chunked_backward = step(encoder, context, 1, names)
        assert chunked == forward  # the prefix, too, is run once
        assert chunked_backward == pytest.approx(backward + again * forward, rel=0.1)


def test_chunks_are_of_like_length(monkeypatch):
    """Names of 1 to 7 words, padded to the longest, are 7 + 2 tokens; here hardly more than 4 + 2.
    """
    encoder, context = TextEncoder(small_clip(layers=3), TOKENIZER), ContextParams(n_ctx=4)
    monkeypatch.setattr(text, "PADDING", float("inf"))
    _, _, forward, _ = step(encoder, context, 1)
    monkeypatch.setattr(text, "HELD", 1)
    _, _, chunked, _ = step(encoder, context, 1)
    assert chunked < 0.75 * forward


def test_nothing_of_the_pocket_suite_is_computed_again(pocket):
    """Its largest step and its largest batch of descriptions are held as a whole."""
    encoder = copy.deepcopy(TextEncoder(pocket, TOKENIZER)).to("meta")
    with mock.patch.object(text, "checkpoint", side_effect=AssertionError):
        for runs, prefix, suffix in ((6, 17, 8), (3, 1, 25)):  # two prompts, class-specific ones
            for end in (torch.full((100,), suffix - 1), torch.arange(100) % suffix):
                encoder(torch.empty(runs, prefix, 256, device="meta"),
                        torch.empty(runs, 100, suffix, 256, device="meta"), end)
        encoder(torch.empty(1, 1, 256, device="meta"),
                torch.empty(1, 256, 76, 256, device="meta"), torch.full((256,), 75))


def test_padding_that_is_worth_it_is_left_out(monkeypatch):
    """Names of one and of seven words, padded, are 7 + 2 tokens each; half of them need three."""
    encoder, context = TextEncoder(small_clip(layers=3), TOKENIZER), ContextParams(n_ctx=4)
    few, many = (["word", "one two three four five six seven"] * count for count in (8, 9))
    assert len(few) // 2 * 6 < text.PADDING <= 2 * len(many) // 2 * 6
    with mock.patch.object(encoder, "_run_in_chunks", wraps=encoder._run_in_chunks) as chunks:
        step(encoder, context, 1, few)
        assert not chunks.called
        *expected, forward, _ = step(encoder, context, 2, many)
        assert chunks.called
    monkeypatch.setattr(text, "PADDING", float("inf"))
    *padded, as_many, _ = step(encoder, context, 2, many)
    assert forward < 0.7 * as_many
    assert all(difference(a, b) < 1e-6 for a, b in zip(expected, padded, strict=True))


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are there at once (`peak`), on the meta device, too."""

    def __init__(self):
        super().__init__()
        self.sizes, self.peak = {}, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given, made = ([leaf.untyped_storage() for leaf in tree_leaves(tree)
                        if isinstance(leaf, torch.Tensor)] for tree in ((args, kwargs), result))
        known = {storage._cdata for storage in given} | self.sizes.keys()
        for storage in made:
            if storage._cdata not in known:
                self.sizes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.sizes.values()))
        return result


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("form", FORMS[:3], ids=str)
def test_a_step_with_imagenets_classes_needs_three_gigabytes(form, runs, monkeypatch):
    """Counted with a sixth of ViT-B/16's twelve layers, and so with a sixth of what may be held."""
    encoder = TextEncoder(small_clip(512, width=512, heads=8, layers=2, quick_gelu=True), TOKENIZER)
    layout = PromptLayout(encoder, IMAGENET_CLASSNAMES, ContextParams(**form))
    shape = (1, *([1000] if "class_specific" in form else []), 16, 512)
    prefix, suffix, end = layout(torch.zeros(shape))
    prefix, suffix = (tensor.expand(runs, *tensor.shape[1:]).to("meta").requires_grad_()
                      for tensor in (prefix, suffix))
    encoder = copy.deepcopy(encoder).to("meta")
    held = (1 + 1 / text.CHUNKS) * text.HELD
    monkeypatch.setattr(text, "HELD", text.HELD // 6)
    with Live() as live:
        encoder(prefix, suffix, end).sum().backward()
    whatever_the_layers = 1.5 * suffix.nbytes + 40e6
    assert live.peak < held / 6 + whatever_the_layers  # in one piece two to five times as much
    the_rest = 3 * suffix.nbytes  # at most, for the suffixes themselves, contexts and momentum
    assert held + whatever_the_layers + the_rest < 3e9
