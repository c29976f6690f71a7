"""Recall against brute force, with several captions an image and several images a caption."""

import pytest
import torch
from torch.nn import functional as F

from promptstudy import metrics
from promptstudy.metrics import best_ranks, recalls


def draw(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def brute_recall(queries, answers, query_labels, answer_labels, k):
    """Recall@k of one run by sorting every query's answers, wrong ones first where they tie."""
    hits, asked = 0, 0
    for query, label in zip(queries, query_labels.tolist(), strict=True):
        if label not in answer_labels.tolist():
            continue
        scored = [((query @ answer).item(), other != label)
                  for answer, other in zip(answers, answer_labels.tolist(), strict=True)]
        best = sorted(scored, key=lambda pair: (-pair[0], -pair[1]))[:k]
        hits += any(not wrong for _, wrong in best)
        asked += 1
    return asked, 100 * hits / asked


@pytest.mark.parametrize("image_labels, text_labels", [
    (range(30), [i // 5 for i in range(150)]),  # five captions of each image
    ([i % 6 for i in range(40)], [i // 3 for i in range(18)]),  # and several images of each
    ([0, 1, 1, 2, 9], [1, 2, 2, 7]),  # images 0 and 4 and the last caption belong to nothing
], ids=["own captions", "classes", "some alone"])
def test_recall_is_that_of_brute_force(image_labels, text_labels, monkeypatch):
    monkeypatch.setattr(metrics, "CHUNK", 7)
    image_labels, text_labels = (torch.tensor(list(x)) for x in (image_labels, text_labels))
    images, texts = draw(2, len(image_labels), 6), draw(len(text_labels), 6, seed=1)
    found = recalls(images, texts, image_labels, text_labels)
    for run in range(2):
        for direction, arguments in {
                "image_to_text": (images[run], texts, image_labels, text_labels),
                "text_to_image": (texts, images[run], text_labels, image_labels)}.items():
            count, values = found[direction]
            assert list(values) == [1, 5, 10]
            for k in values:
                asked, expected = brute_recall(*arguments, k)
                assert count == asked
                assert values[k][run].item() == pytest.approx(expected)
    assert not torch.equal(found["image_to_text"][1][1], found["text_to_image"][1][1])


def test_a_tie_counts_against_the_query():
    same = torch.ones(1, 3, 1)
    ranks = best_ranks(same[:, :1], same, torch.tensor([0]), torch.tensor([1, 0, 2]))
    assert ranks.tolist() == [[3]]
    ranks = best_ranks(same[:, :1], same, torch.tensor([0]), torch.tensor([0, 0, 0]))
    assert ranks.tolist() == [[1]]  # right ones do not tie with each other


def test_perfect_and_reversed_features():
    vectors = F.normalize(torch.eye(12), dim=-1)
    labels = torch.arange(12)
    _, values = recalls(vectors[None], vectors, labels, labels)["image_to_text"]
    assert [values[k].item() for k in (1, 5, 10)] == [100, 100, 100]
    _, values = recalls(-vectors[None], vectors, labels, labels)["image_to_text"]
    assert [values[k].item() for k in (1, 5, 10)] == [0, 0, 0]


def test_nothing_that_belongs_together_is_refused():
    with pytest.raises(ValueError, match="no image and no text have the same label"):
        recalls(draw(1, 2, 4), draw(2, 4), torch.tensor([0, 1]), torch.tensor([2, 3]))
