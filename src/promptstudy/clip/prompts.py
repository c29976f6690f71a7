"""Positions of context vectors and class names in a prompt (CoOp, section 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import PromptError
from ..params import ContextParams
from .text import TextEncoder


class PromptLayout(nn.Module):
    """Prompts of C classes with M context vectors each, split for the fast text encoder.

    With the class name at the `end`, a prompt reads `[SOS] v_1 .. v_M name . [EOT]`; in the
    `middle`, `[SOS] v_1 .. v_{M/2} name v_{M/2+1} .. v_M . [EOT]`; at the `front`,
    `[SOS] name v_1 .. v_M . [EOT]`. The part before the name is the same for all classes, so
    it is a prefix that the encoder runs once, unless every class has its own context.

    Called with context vectors [R, M, D] (unified) or [R, C, M, D] (class-specific), it returns
    `(prefix [R, P, D], suffix [R, C, S, D], end [C])`, the arguments of `TextEncoder.forward`.
    """

    slots: Tensor  # [C, S] which context vector is at each place of a suffix; -1: none
    end: Tensor  # [C]
    start: Tensor  # [1, D]
    words: Tensor  # [C, S, D]

    def __init__(self, encoder: TextEncoder, class_names: list[str],
                 context: ContextParams) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.n_ctx = context.n_ctx
        self.class_specific = context.class_specific
        before = {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[context.position]
        self.n_shared = 0 if self.class_specific else before

        rows = [self._row(encoder, name, before) for name in self.class_names]
        length = max(len(row) for row in rows)
        tokens = torch.zeros(len(rows), length, dtype=torch.long)
        slots = torch.full((len(rows), length), -1)
        for index, row in enumerate(rows):
            for place, (token, slot) in enumerate(row):
                tokens[index, place], slots[index, place] = token, slot
        self.register_buffer("slots", slots.to(encoder.device))
        self.register_buffer("end", torch.tensor([len(row) - 1 for row in rows],
                                                 device=encoder.device))
        with torch.no_grad():
            start = torch.tensor([encoder.start_token], device=encoder.device)
            self.register_buffer("start", encoder.token_embedding(start))
            self.register_buffer("words", encoder.token_embedding(tokens.to(encoder.device)))

    def check(self, contexts: Tensor) -> None:
        """Raise `ValueError` for contexts [..., M, D] or [..., C, M, D] that do not fit."""
        classes, n_ctx = contexts.shape[-3:-1]
        if self.class_specific and classes != len(self.class_names):
            raise PromptError(f"class-specific contexts of {classes} classes cannot be used for "
                              f"{len(self.class_names)} others")
        if n_ctx != self.n_ctx:
            raise PromptError(f"contexts of {n_ctx} vectors do not fit a prompt of {self.n_ctx}")

    def _row(self, encoder, name, before):
        """The suffix of one class as (token, context slot) pairs; a missing one is 0 or -1."""
        sentence = encoder.word_tokens(f"{name}.")
        name_length = len(encoder.word_tokens(name))
        context = [(0, slot) for slot in range(self.n_ctx)]
        row = context[self.n_shared:before]
        row += [(token, -1) for token in sentence[:name_length]]
        row += context[before:]
        return row + [(token, -1) for token in (*sentence[name_length:], encoder.end_token)]

    def forward(self, contexts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        runs, classes = len(contexts), len(self.slots)
        start = self.start.expand(runs, -1, -1)
        prefix = start if not self.n_shared else torch.cat(
            [start, contexts[:, :self.n_shared]], dim=1)
        suffix = self.words.expand(runs, -1, -1, -1)
        if (self.slots >= 0).any():
            # gather, because the gradient of indexing is summed in the order of the threads
            each = contexts if self.class_specific else contexts[:, None].expand(
                -1, classes, -1, -1)
            slots = self.slots.clamp(min=0)[..., None].expand(runs, -1, -1, each.shape[-1])
            suffix = torch.where(self.slots[..., None] >= 0, each.gather(2, slots), suffix)
        return prefix, suffix, self.end


def initial_contexts(encoder: TextEncoder, layout: PromptLayout, context: ContextParams,
                     seeds: Sequence[int], n_prompts: int | None = None) -> Tensor:
    """Return context vectors [R, M, D] or [R, C, M, D], one run per seed.

    Initial words give the embeddings of those words, the same for every run; otherwise each run
    draws from N(0, 0.02^2) with its own seed. With `n_prompts` = N every run has N prompts,
    [R, N, M, D] or [R, N, C, M, D], and initial words get that noise too, since prompts that start
    equal stay equal. Raises `ValueError` when the initial words are not M tokens.
    """
    shape: tuple[int, ...] = (layout.n_ctx, encoder.width)
    if layout.class_specific:
        shape = (len(layout.class_names), *shape)
    if n_prompts is not None:
        shape = (n_prompts, *shape)
    draws = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    noise = (0.02 * torch.stack(draws)).to(encoder.device)
    if not context.init:
        return noise
    words = torch.tensor(encoder.word_tokens(context.init), device=encoder.device)
    if len(words) != context.n_ctx:
        raise PromptError(f"the initial words {context.init!r} are {len(words)} tokens, "
                          f"n_ctx is {context.n_ctx}; set it to {len(words)}")
    with torch.no_grad():
        vectors = encoder.token_embedding(words)
    return vectors.expand_as(noise).clone() if n_prompts is None else vectors + noise


def layout_tokens(encoder: TextEncoder, name: str, context: ContextParams) -> list[tuple[str, str]]:
    """Return a prompt as (text, kind) pairs for a figure; kinds are fixed, context and name."""
    layout = PromptLayout(encoder, [name], context)
    name_tokens = encoder.word_tokens(name)
    pairs = [("SOS", "fixed")] + [(f"v{slot + 1}", "context") for slot in range(layout.n_shared)]
    for place, slot in enumerate(layout.slots[0].tolist()):
        if slot >= 0:
            pairs.append((f"v{slot + 1}", "context"))
        elif name_tokens:
            pairs.append((encoder.tokenizer.decode([name_tokens.pop(0)]).strip(), "name"))
        else:
            pairs.append(("EOT" if place == layout.end[0] else ".", "fixed"))
    return pairs


def nearest_words(encoder: TextEncoder, vectors: Tensor,
                  count: int = 1) -> list[list[tuple[str, float]]]:
    """Return, for each of the vectors [M, D], its `count` nearest words as (word, distance).

    Distance is Euclidean, between context vectors and token embeddings.
    """
    # the default computes distances by a matrix product, which is not 0 for equal vectors
    distances = torch.cdist(vectors, encoder.token_embedding.weight,
                            compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.topk(count, largest=False)
    return [[(encoder.tokenizer.decode([token]).strip(), distance)
             for token, distance in zip(tokens, row, strict=True)]
            for tokens, row in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)]
