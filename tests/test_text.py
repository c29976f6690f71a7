"""The fast text encoder gives what the usual 77-token form gives."""

import copy
import functools
from pathlib import Path
from unittest import mock

import open_clip
import pytest
import torch
from open_clip.hf_model import HFTextEncoder
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
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig

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
        prompts = [tensor.to("meta") for tensor in prompts]
        prompts[0].requires_grad_()
        with FlopCounterMode(display=False) as counter:
            encode(*prompts).sum().backward()
        return counter.get_total_flops()

    plain = operations(functools.partial(plain_encode, shapes_only),
                       plain_prompts(model, names, contexts[0], "end"))
    fast = operations(copy.deepcopy(encoder).to("meta"), layout(contexts))
    assert plain > 10 * fast
