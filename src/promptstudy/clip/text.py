"""The frozen text tower, run on no more tokens than the result depends on.

A CLIP text feature is the hidden state at the end-of-text (EOT) token of a *causal* transformer, so
five things that the usual code computes can be left out without changing the result:

1. tokens after EOT cannot influence it: sequences are cut there;
2. a prefix shared by all classes, `[SOS] + context`, has the same hidden states for every class at
   every layer: it is run once, and each class's suffix attends to the prefix's keys and values;
3. in the last block only the EOT row is needed;
4. the frozen weights need no gradients (they are never computed);
5. classes run in chunks of similar length, so that few of their tokens are padding.

A leading run axis R lets many trainings share one pass: each run has its own prefix.

Where all classes have too many activations to store until the backward pass (as ImageNet's 1,000
do), they are stored up to a bound; those of further chunks are recomputed in the backward pass,
from the same prefix (gradient checkpointing, Chen et al., 2016). Features and gradients are the
same up to rounding.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from ..errors import PromptError, UnsupportedTower
from .openclip import open_clip

# Below this many tokens of padding another chunk does not pay: few classes run in one piece.
PADDING = 100
# Bytes of activations stored for the backward pass: more than the pocket suite ever needs, and few
# enough for a step with 1,000 classes in 3 GB, a third of which a CPU's allocator loses between
# tensors.
HELD = 5 * 2**28
CHUNKS = 6  # in HELD; one more chunk is in memory while its activations are recomputed
# Activations that a block stores per token, in units of its width D: the inputs of both norms,
# query, keys and values, the MLP's 4 D, and 4 D more with QuickGELU. Attention weights are not
# counted; the shared prefix offsets them.
HELD_WIDTHS = 14


class TextEncoder(nn.Module):
    """Any stock open_clip causal text tower, called on embeddings split into prefix and suffix.

    `width` is the size D of a token embedding, `dim` the size d of a text feature.
    Raises `NotImplementedError` naming the property of a tower for which the savings do not hold.
    """

    token_embedding: nn.Embedding
    positional_embedding: Tensor
    ln_final: nn.Module
    blocks: Any
    text_projection: Any

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        tower: Any = getattr(model, "text", model)  # open_clip's CustomTextCLIP keeps it in `.text`
        _check_causal(tower)
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.blocks = tower.transformer.resblocks
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.tokenizer = tokenizer
        self.width = tower.token_embedding.embedding_dim
        self.context_length = len(tower.positional_embedding)
        with torch.no_grad():
            self.dim = self._project(torch.zeros(1, self.width, device=self.device)).shape[-1]
        start, end = self.tokenize([""])[0][:2].tolist()
        self.start_token, self.end_token = start, end

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.token_embedding.weight.device

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return token ids [N, context length]; texts that are too long are cut before EOT."""
        return self.tokenizer(texts).to(self.device)

    def word_tokens(self, text: str) -> list[int]:
        """Return the token ids of `text` as a list, without start, end and padding."""
        row = self.tokenize([text])[0]
        return row[1:row.argmax()].tolist()

    def forward(self, prefix: Tensor, suffix: Tensor, end: Tensor) -> Tensor:
        """Return un-normalised text features [R, C, d] of C prompts in R runs.

        prefix: embeddings [R, P, D] that all prompts of a run begin with (P >= 1, the start token
        at least); suffix: embeddings [R, C, S, D] that follow, padded at the right; end: position
        [C] of each prompt's EOT in its suffix. Positional embeddings are added here.
        """
        runs, classes, length, _ = suffix.shape
        start = prefix.shape[1]
        if start + length > self.context_length:
            raise PromptError(f"a prompt of {start + length} tokens does not fit the text tower's "
                              f"{self.context_length}; use fewer context vectors or shorter names")
        shared = self._run_prefix(prefix + self.positional_embedding[:start])
        token = HELD_WIDTHS * self.width * len(self.blocks) * suffix.element_size() * runs
        padding = runs * (classes * length - (end + 1).sum().item())
        if padding < PADDING and classes * length * token <= HELD:
            return self._run_suffix(suffix, end, shared)
        return self._run_in_chunks(suffix, end, shared, HELD / token)

    def _run_prefix(self, hidden):
        """Return every block's keys and values of the embedded prefix [R, P, D]."""
        hidden = hidden.unsqueeze(1)  # [R, 1, P, D]
        sees = hidden.new_ones(*[hidden.shape[2]] * 2, dtype=torch.bool).tril()
        shared = []
        for block in self.blocks[:-1]:
            query, *own = _heads(block, hidden)
            hidden = _finish(block, hidden, _attend(query, own, None, sees))
            shared.append(own)
        return [*shared, _heads(self.blocks[-1], hidden, "kv")]

    def _run_suffix(self, suffix, end, shared):
        """Return the features [R, C, d] of embedded suffixes after a prefix that has been run."""
        runs, classes, length, _ = suffix.shape
        start = shared[0][0].shape[-2]
        hidden = suffix + self.positional_embedding[start:start + length]
        sees = suffix.new_ones(length, start + length, dtype=torch.bool).tril(diagonal=start)
        for block, before in zip(self.blocks[:-1], shared[:-1], strict=True):
            query, *own = _heads(block, hidden)
            hidden = _finish(block, hidden, _attend(query, own, before, sees))

        last = self.blocks[-1]
        own = _heads(last, hidden, "kv")
        row = hidden[:, torch.arange(classes, device=end.device), end].unsqueeze(2)  # [R, C, 1, D]
        query, = _heads(last, row, "q")
        mixed = _attend(query, own, shared[-1], sees[end].unsqueeze(1))
        return self._project(self.ln_final(_finish(last, row, mixed).squeeze(2)))

    def _run_in_chunks(self, suffix, end, shared, most):
        """Like `_run_suffix`, in chunks: most names are short and a few are long.

        The activations of `most` tokens per run are stored, and those of one more chunk.
        """
        run = functools.partial(self._run_suffix, shared=shared)
        order = end.argsort(stable=True)
        sizes = _chunk_sizes(end[order] + 1, most / CHUNKS)
        features, held = [], 0
        for chunk, ends in zip(suffix[:, order].split(sizes, dim=1), end[order].split(sizes),
                               strict=True):
            longest = ends[-1].item() + 1
            held += len(ends) * longest
            features.append(run(chunk[:, :, :longest], ends) if held <= most else checkpoint(
                run, chunk[:, :, :longest], ends, use_reentrant=False, preserve_rng_state=False))
        return torch.cat(features, dim=1)[:, order.argsort()]

    @torch.no_grad()
    def encode_text(self, texts: list[str], batch_size: int = 256,
                    progress: str | None = None) -> Tensor:
        """Return un-normalised features [N, d] of plain texts.

        Texts run sorted by length, so that short ones are not padded to the longest. `progress`
        names the progress bar; None shows none.
        """
        tokens = self.tokenize(texts)
        ends = tokens.argmax(dim=-1)
        features = torch.empty(len(texts), self.dim, device=self.device)
        batches = ends.argsort(stable=True).split(batch_size)
        for batch in tqdm(batches, desc=progress, disable=progress is None):
            cut = tokens[batch, :ends[batch].max() + 1]
            embedded = self.token_embedding(cut).unsqueeze(0)
            features[batch] = self(embedded[:, 0, :1], embedded[:, :, 1:], ends[batch] - 1)[0]
        return features

    def encode_templates(self, class_names: list[str], templates: Sequence[str]) -> Tensor:
        """Return normalised class features [C, d]: the mean over templates of normalised features.

        One template gives the hand-crafted prompt's zero-shot weights, several the prompt ensemble:
        normalise each, average, normalise again.
        """
        texts = [t.format(name) for t in templates for name in class_names]
        features = F.normalize(self.encode_text(texts), dim=-1)
        mean = features.view(len(templates), len(class_names), -1).mean(dim=0)
        return F.normalize(mean, dim=-1)

    def _project(self, hidden):
        if self.text_projection is None:
            return hidden
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(hidden)
        return hidden @ self.text_projection


def _check_causal(tower):
    """Refuse towers whose feature depends on tokens after EOT or whose blocks are not stock."""
    reason = None
    if not hasattr(tower, "transformer") or not hasattr(tower, "positional_embedding"):
        reason = "it is not open_clip's own text transformer"
    elif tower.attn_mask is None:
        reason = "its attention is not causal"
    elif getattr(tower, "cls_emb", None) is not None:
        reason = "it appends a class token after the text"
    elif getattr(tower, "text_pool_type", getattr(tower, "pool_type", None)) != "argmax":
        reason = "its feature is not taken at the EOT token (pool_type 'argmax')"
    elif any(type(block) is not open_clip.transformer.ResidualAttentionBlock
             for block in tower.transformer.resblocks):
        reason = "its blocks are not open_clip's ResidualAttentionBlock"
    if reason:
        raise UnsupportedTower(f"this text tower cannot be used for prompt learning: {reason}")


def _chunk_sizes(lengths, most):
    """Return the number of classes in each chunk of sorted `lengths` [C]: about `most` tokens each.

    Lengths within a chunk differ by less than 1 : 1.42, so that few tokens are padding.
    """
    alike = (2 * lengths.log2()).round()
    part = (lengths.cumsum(dim=0) - lengths).div(most, rounding_mode="floor")
    return torch.stack([alike, part]).unique_consecutive(dim=1, return_counts=True)[1].tolist()


def _heads(block, hidden, which="qkv"):
    """Return the requested ones of query, keys and values of `hidden` [R, C, S, D].

    Each has shape [R, heads, C, S, D / heads].
    """
    attention = block.attn
    size = attention.embed_dim
    rows = slice("qkv".index(which[0]) * size, ("qkv".index(which[-1]) + 1) * size)
    projected = F.linear(block.ln_1(hidden), attention.in_proj_weight[rows],
                         attention.in_proj_bias[rows])
    parts = projected.unflatten(-1, (len(which), attention.num_heads, attention.head_dim))
    return parts.permute(3, 0, 4, 1, 2, 5).unbind()


def _attend(query, own, shared, sees):
    """Return attention output [R, C, S, D] of `query` over shared and own keys and values.

    `own` belongs to the query's class, `shared` (or None) to all classes of a run: its scores are
    one matrix product over all classes instead of one per class, and its keys are never copied.
    `sees` marks the visible keys, shared ones first.
    """
    query = query * query.shape[-1] ** -0.5
    keys, values = own
    scores = query @ keys.transpose(-1, -2)
    if shared is not None:
        shared_keys, shared_values = (tensor.squeeze(2) for tensor in shared)  # [R, heads, P, .]
        size, count = query.shape[2:4], shared_keys.shape[-2]
        scores_shared = query.flatten(2, 3) @ shared_keys.transpose(-1, -2)
        scores = torch.cat([scores_shared.unflatten(2, size), scores], dim=-1)
    weights = scores.masked_fill(~sees, -torch.inf).softmax(dim=-1)
    if shared is None:
        mixed = weights @ values
    else:
        over_shared = weights[..., :count].flatten(2, 3) @ shared_values
        mixed = over_shared.unflatten(2, size) + weights[..., count:] @ values
    return mixed.permute(0, 2, 3, 1, 4).flatten(3)


def _finish(block, hidden, mixed):
    """The rest of a residual block once its attention has mixed the values."""
    hidden = hidden + block.ls_1(block.attn.out_proj(mixed))
    return hidden + block.ls_2(block.mlp(block.ln_2(hidden)))
