"""Scores of captions and answers, for each image or question; higher is better.

Values are shares or sums per image, which results give times 100, as is usual.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor

GRAMS = 4  # CIDEr-D counts runs of one to four words
SIGMA = 6.0  # of the Gaussian by which CIDEr-D judges lengths, in words
PREFIX = "A photo depicts "  # before a caption, in CLIPScore
FACTOR = 2.5  # CLIPScore's, which spreads usual cosines over 0 to 1
ANSWERS = 3  # as many people must have given an answer for it to be wholly right

ARTICLES = {"a", "an", "the"}
NUMBERS = {word: str(number) for number, word in enumerate(
    "none one two three four five six seven eight nine ten".split())} | {"zero": "0"}


def words(text: str) -> list[str]:
    """Return a text's words in lower case, without punctuation."""
    return re.findall(r"[\w'-]+", text.lower())


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return CIDEr-D [N] of captions, each against the references of its image.

    With g_n(s) the counts of the n-grams of a sentence, weighted by log(N / images that have the
    n-gram in a reference), and l(s) its length,
        CIDEr-D_n = mean over references r of e^(-(l(c) - l(r))^2 / 2 sigma^2)
                    min(g_n(c), g_n(r)) . g_n(r) / |g_n(c)| |g_n(r)|,
    and CIDEr-D is ten times the mean over n = 1 to 4. (Vedantam, Zitnick and Parikh, CVPR 2015; a
    length counts 2-grams, as in their code.) Raises `ValueError` for fewer than two images.
    """
    if len(captions) < 2:
        raise ValueError("CIDEr-D needs two images at least: its weights compare images")
    of_image = np.repeat(np.arange(len(references)), [len(own) for own in references])
    total = np.zeros(len(of_image))
    flat = [text for own in references for text in own]
    lengths = [np.array([max(0, len(words(text)) - 1) for text in texts])
               for texts in (captions, flat)]
    for n in range(1, GRAMS + 1):
        counter = CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False,
                                  ngram_range=(n, n))
        try:
            counts = counter.fit_transform([*flat, *captions]).astype(float)
        except ValueError:  # no text has n words
            continue
        refs, cands = counts[:len(flat)], counts[len(flat):]
        rows, columns = refs.nonzero()
        seen = Counter(column for _, column in set(zip(of_image[rows], columns, strict=True)))
        images = np.array([max(1, seen[column]) for column in range(counts.shape[1])])
        weights = np.log(len(references)) - np.log(images)
        refs, cands = (part.multiply(weights).tocsr() for part in (refs, cands))
        norms = [np.sqrt(part.multiply(part).sum(axis=1)).A1 for part in (cands, refs)]
        same = np.asarray(refs.minimum(cands[of_image]).multiply(refs).sum(axis=1)).ravel()
        product = norms[0][of_image] * norms[1]
        total += np.divide(same, product, out=np.zeros_like(same), where=product > 0)
    gap = lengths[0][of_image] - lengths[1]
    total *= np.exp(-gap ** 2 / (2 * SIGMA ** 2)) * 10 / GRAMS
    return np.bincount(of_image, total) / np.bincount(of_image)


def clip_score(images: Tensor, captions: Tensor) -> Tensor:
    """Return CLIPScore [N], 2.5 max(0, f . t), of normalised features of images and captions.

    images, captions: [N, d]; a caption is encoded after "A photo depicts ". (Hessel et al., EMNLP
    2021.)
    """
    return FACTOR * (images * captions).sum(dim=-1).clamp(min=0)


def ref_clip_score(score: Tensor, captions: Tensor, references: Sequence[Tensor]) -> Tensor:
    """Return RefCLIPScore [N], the harmonic mean of CLIPScore and the closest reference's cosine.

    score: CLIPScore [N]; captions: [N, d]; references: features [k, d] for each image, encoded as
    the captions are. It is 0 where either is.
    """
    closest = torch.stack([(own @ caption).max().clamp(min=0)
                           for own, caption in zip(references, captions, strict=True)])
    both = score + closest
    return torch.where(both > 0, 2 * score * closest / both.clamp(min=1e-12), 0)


def normalised(answer: str) -> str:
    """Return an answer as VQA compares it: lower case, no punctuation or articles, digits."""
    text = re.sub(r"(?<=\d),(?=\d)", "", answer.lower().strip())
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    text = re.sub(r"[;/\[\]\"{}()=+\\_<>@`?!,:-]", " ", text)
    return " ".join(NUMBERS.get(word, word) for word in text.split() if word not in ARTICLES)


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """Return how right an answer is, from 0 to 1, by the answers that people gave.

    Each person in turn is left out, and min(1, others who gave this answer / 3) is averaged.
    Answers are `normalised` unless all people gave the same. A single answer, which a rule gave,
    counts as that of everybody.
    """
    if len(set(answers)) > 1:
        answer, answers = normalised(answer), [normalised(each) for each in answers]
    else:
        answer, answers = answer.strip().lower(), [each.strip().lower() for each in answers]
    if len(answers) == 1:
        return float(answer == answers[0])
    same = [each == answer for each in answers]
    return float(np.mean([min(1, (sum(same) - own) / ANSWERS) for own in same]))


def cut(text: str, answers: Sequence[str]) -> str:
    """Return an answer's first words, as many as the longest of the right answers has.

    Punctuation at the end is left out, and so is what follows the next question.
    """
    most = max(len(each.split()) for each in answers)
    return " ".join(text.split(" Q:")[0].split()[:most]).rstrip(".,;:!?")
