"""The text tower: CLIP's causal transformer, its token embeddings, and the texts it learns from."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor
from torch.nn import functional as F

from .model import CONTEXT, principal_directions
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..clip.text import TextEncoder

START, END = 49406, 49407  # CLIP's start and end of text


def tokenize_words(texts: Iterable[str], limit: int) -> list[list[int]]:
    """Return BPE token ids of `texts` without start and end, each cut to `limit` tokens."""
    tokenizer = SimpleTokenizer()
    return [tokenizer.encode(text)[:limit] for text in texts]


def token_vectors(word_vectors: Tensor, word_tokens: list[list[int]], own_vectors: Tensor,
                  vocab_size: int = END + 1) -> Tensor:
    """Return a vector for every BPE token, `[vocab_size, d]`.

    It is the average over the words that contain the token (a word of k tokens counts 1/k) and, for
    the first tokens of the vocabulary, the sentence embedding of the token's own string
    (`own_vectors [m, d]`). Tokens without either get zeros.
    """
    total = torch.zeros(vocab_size, word_vectors.shape[1])
    lengths = torch.tensor([len(ids) for ids in word_tokens])
    flat = torch.tensor([token for ids in word_tokens for token in ids])
    source = torch.repeat_interleave(torch.arange(len(word_tokens)), lengths)
    weight = 1 / lengths[source].float()
    total.index_add_(0, flat, weight[:, None] * word_vectors[source])
    seen = torch.zeros(vocab_size).index_add_(0, flat, weight)
    total[:len(own_vectors)] += own_vectors
    seen[:len(own_vectors)] += 1
    return total / seen.clamp_min(1)[:, None]


def token_strings(count: int) -> list[str]:
    """Return the first `count` strings of CLIP's BPE vocabulary, without the end-of-word mark."""
    tokenizer = SimpleTokenizer()
    return [tokenizer.decode([i]).strip() or "." for i in range(min(count, START))]


def initialise_tokens(encoder: "TextEncoder", vectors: Tensor, answers: Tensor,
                      std: float = 0.02, seed: int = 0) -> None:
    """Fill the token embedding from `vectors [vocab, e]` (sentence space) and the teacher's
    `answers [vocab, dim]`, both by token (see `token_vectors`).

    Three quarters of the width hold the answers' principal directions, the rest the vectors', so
    that a word's target is in its tokens from the start, also for words that are never taught. All
    are scaled to `std` and turned by a random rotation; rows of zeros stay random.
    """
    weight = encoder.token_embedding.weight
    width = weight.shape[1]
    known = vectors.norm(dim=1) > 0
    first, second = (_standardised(part[known], count) for part, count in
                     ((answers, 3 * width // 4), (vectors, width - 3 * width // 4)))
    rows = torch.zeros(int(known.sum()), width)
    rows[:, :first.shape[1]] = first
    rows[:, width - second.shape[1]:] = second
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    with torch.no_grad():
        weight.normal_(std=std)
        weight[known] = rows @ rotation * std
        encoder.positional_embedding.normal_(std=std / 4)


def _standardised(rows, count):
    """Return at most `count` principal components `[n, count]` of `rows`, of unit variance over
    all."""
    centred = rows - rows.mean(0)
    components = centred @ principal_directions(centred[:20000].double(), count).float().T
    return components / components.std()


def pad(token_lists: list[list[int]], tail: list[int]) -> tuple[Tensor, Tensor]:
    """Return `(ids [n, s], end [n])` of token lists, each followed by `tail` and end of text."""
    rows = [ids + tail + [END] for ids in token_lists]
    end = torch.tensor([len(row) - 1 for row in rows])
    return torch.tensor([row + [0] * (int(end.max()) + 1 - len(row)) for row in rows]), end


def encode_words(encoder: "TextEncoder", token_lists: list[list[int]],
                 prefix: str = "a photo of a", suffix: str = ".", context: Tensor | None = None,
                 batch: int = 1024) -> Tensor:
    """Return unit features `[n, dim]` of words (as token lists) between `prefix` and `suffix`.

    `context [m, width]` replaces the prefix's token vectors, as CoOp does. Without gradients.
    """
    head, tail = tokenize_words([prefix, suffix], CONTEXT)
    with torch.no_grad():
        start = prefix_vectors(encoder, head if context is None else context)
        return torch.cat([
            F.normalize(encode(encoder, start, *pad(token_lists[i:i + batch], tail)), dim=1)
            for i in range(0, len(token_lists), batch)])


def prefix_vectors(encoder: "TextEncoder", prefix: list[int] | Tensor) -> Tensor:
    """Return the embeddings `[p, width]` of the start token and a prefix: token ids, or vectors."""
    if torch.is_tensor(prefix):
        return torch.cat([encoder.token_embedding(torch.tensor([START])), prefix])
    return encoder.token_embedding(torch.tensor([START, *prefix]))


def encode(encoder: "TextEncoder", prefix: Tensor, suffix: Tensor, end: Tensor) -> Tensor:
    """Return features `[n, dim]` of texts that share the vectors `prefix` `[p, width]`.

    `suffix` `[n, s]` are token ids that end with the end of text at index `end` `[n]`.
    """
    return encoder(prefix[None], encoder.token_embedding(suffix)[None], end)[0]


def nearest_names(features: Tensor, word_features: Tensor, words: Sequence[str],
                  count: int = 5) -> list[list[tuple[str, float]]]:
    """Return, for each row of `features`, the `count` nearest of `words` as `(word, cosine)`."""
    values, index = (features @ word_features.T).topk(min(count, len(words)), dim=1)
    return [[(words[i], round(v.item(), 2)) for i, v in zip(row, value, strict=True)]
            for row, value in zip(index.tolist(), values, strict=True)]


def plural(word: str) -> str:
    """Return the regular English plural of a noun."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


class TextSampler:
    """Draws batches of texts that share a prefix: bare names, templates, contexts, descriptions.

    A batch is `(prefix, suffix ids, end, targets)`; `prefix` is a list of token ids or, for a
    random context, a tensor `[m, width]`. `train` holds the indices of the words in use,
    `phrases` what can be said of a synset (`{offset: [phrase, ...]}`, its gloss first).
    """

    BARE = ("", "a", "an", "the", "my", "a photo of", "photo", "image of a")
    TAILS = ("", ".", "texture", "texture.", ", a type of object.", "in the scene.")

    def __init__(self, vocabulary: Vocabulary, targets: Tensor, concepts: Tensor,
                 pairs: list[tuple[int, int]], phrases: dict[int, list[str]], train: Tensor,
                 width: int, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.width, self.targets, self.train = width, targets, train
        self.weights = vocabulary.weights[train]
        self.tokens = tokenize_words(vocabulary.words, 12)
        self.plurals = tokenize_words([plural(word) for word in vocabulary.words], 12)
        used = set(train.tolist())
        rows = [k for k, (word, offset) in enumerate(pairs) if word in used and offset in phrases]
        self.concept_targets = concepts[torch.tensor(rows, dtype=torch.long)]
        self.concept_weights = vocabulary.weights[[pairs[k][0] for k in rows]]
        self.concept_words = [vocabulary.words[pairs[k][0]] for k in rows]
        self.phrases = [phrases[pairs[k][1]] for k in rows]
        templates = [template("{}").split("{}") for template in OPENAI_IMAGENET_TEMPLATES]
        split = [("a photo of a ", ".")] * 20 + templates
        self.templates = [tuple(tokenize_words(pair, CONTEXT)) for pair in split]
        self.bare = tokenize_words(self.BARE, CONTEXT)
        self.tails = tokenize_words(self.TAILS, CONTEXT)

    def _draw(self, count):
        return int(torch.randint(count, (), generator=self.generator))

    def _words(self, size):
        drawn = torch.multinomial(self.weights, size, True, generator=self.generator)
        return self.train[drawn]

    def _describe(self, row):
        """Return a description of a concept: name and phrases, or its gloss without the name."""
        word, phrases = self.concept_words[row], self.phrases[row]
        style = self._draw(5)
        if style == 0:
            return phrases[0]
        if style == 1:
            return f"{word}: {phrases[0]}"
        if style == 2:
            return f"{word}, {', '.join(phrases[::-1])}."
        phrase = phrases[self._draw(len(phrases))]
        return f"{word} {phrase}." if phrase.startswith("with ") else f"{word}, {phrase}."

    def _descriptions(self, size):
        drawn = torch.multinomial(self.concept_weights, size, True, generator=self.generator)
        texts = [self._describe(i) for i in drawn.tolist()]
        prefix = (self.bare[0], self.bare[1], self.templates[0][0])[self._draw(3)]
        return prefix, *pad(tokenize_words(texts, 32), []), self.concept_targets[drawn]

    def batch(self, size: int) -> tuple[list[int] | Tensor, Tensor, Tensor, Tensor]:
        """Return one batch. Of twenty batches four are descriptions (a third as many), four bare
        words, six in templates, one after random words, five after random vectors."""
        kind = self._draw(20)
        if kind < 4 and len(self.phrases):
            return self._descriptions(max(1, size // 3))
        index = self._words(size)
        tokens = self.plurals if self._draw(5) == 0 else self.tokens
        tail = self.tails[self._draw(2) if self._draw(2) else self._draw(len(self.tails))]
        prefix: list[int] | Tensor
        if kind < 8:
            prefix = self.bare[self._draw(len(self.bare))]
        elif kind < 14:
            prefix, tail = self.templates[self._draw(len(self.templates))]
        elif kind < 15:
            prefix = torch.randint(START, (1 + self._draw(16),), generator=self.generator).tolist()
        else:
            prefix = 0.02 * torch.randn(1 + self._draw(20), self.width, generator=self.generator)
        return prefix, *pad([tokens[i] for i in index.tolist()], tail), self.targets[index]
