"""The linear probe is scikit-learn's logistic regression, searched as in CoOp's study."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from promptstudy.methods.linear_probe import fit_linear_probe


def clusters(classes, per_class, seed, noise=1.5, dim=6):
    centres = torch.randn(10, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes).repeat_interleave(per_class)
    features = centres[labels] + noise * torch.randn(len(labels), dim, generator=generator)
    return features, labels


def data(classes=(0, 1, 2, 3), seed=0):
    return *clusters(classes, 4, seed), *clusters(classes, 8, seed + 100)


def fitted(c, features, labels):
    return LogisticRegression(C=c, max_iter=1000).fit(features.numpy(), labels.numpy())


def searched_c(features, labels, val_features, val_labels):
    """The search of CoOp's code, step by step."""
    def accuracy(c):
        predicted = fitted(c, features, labels).predict(val_features.numpy())
        return np.mean(predicted == val_labels.numpy())

    grid = [1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6]
    peak = grid[int(np.argmax([accuracy(c) for c in grid]))]
    low, high = peak / 10, peak * 10
    for _ in range(8):
        middle = 10 ** ((np.log10(low) + np.log10(high)) / 2)
        if accuracy(low) < accuracy(high):
            chosen, low = high, middle
        else:
            chosen, high = low, middle
    return chosen


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("seed", range(4))
def test_the_search_is_coops(seed):
    *_, c = fit_linear_probe(*data(seed=seed), 4)
    assert c == pytest.approx(searched_c(*data(seed=seed)), rel=1e-9)


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (0, 1)], ids=str)
def test_the_probe_is_scikit_learns_at_the_chosen_c(classes):
    features, labels, val_features, val_labels = data(classes)
    weight, bias, c = fit_linear_probe(features, labels, val_features, val_labels, len(classes))
    reference = fitted(c, features, labels)
    test_features, test_labels = clusters(classes, 50, seed=7)
    scores = test_features @ weight.T + bias
    expected = torch.from_numpy(reference.predict_proba(test_features.numpy()))
    assert torch.equal(scores.argmax(dim=1), torch.from_numpy(
        reference.predict(test_features.numpy())))
    torch.testing.assert_close(scores.softmax(dim=1).double(), expected.double(), rtol=0, atol=1e-5)
    accuracy = (scores.argmax(dim=1) == test_labels).float().mean()
    assert accuracy > 1.2 / len(classes)


@pytest.mark.parametrize("classes", [(1, 3, 4), (1, 3)], ids=str)
def test_a_class_without_an_image_is_never_predicted(classes):
    weight, bias, _ = fit_linear_probe(*data(classes), 6)
    assert weight.shape == (6, 6) and bias.shape == (6,)
    features = torch.randn(500, 6, generator=torch.Generator().manual_seed(1))
    scores = 1000 * features @ weight.T + bias
    assert set(scores.argmax(dim=1).tolist()) == set(classes)


def test_the_probe_is_deterministic():
    first, second = fit_linear_probe(*data(), 4), fit_linear_probe(*data(), 4)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert first[2] == second[2]
