"""The linear probe: logistic regression on image features, as in CoOp's comparison."""

import functools
import math
import warnings
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from ..clip.backbone import Backbone
from ..datasets.packs import FeaturePack
from ..params import Params

COARSE = (1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6)
HALVINGS = 8
DEFAULT_C = 1.0  # scikit-learn's own, where there is no validation image to choose C on


def fit_linear_probe(features: Tensor, labels: Tensor, val_features: Tensor, val_labels: Tensor,
                     n_classes: int) -> tuple[Tensor, Tensor, float]:
    """Return `(weight [C, d], bias [C], C value)` of the best probe on the validation images.

    L2-regularised logistic regression on un-normalised features. As in CoOp's code, the inverse
    regularisation strength is the best of a coarse grid, refined by eight rounds of bisection
    within a decade on either side. Without validation images it is `DEFAULT_C`.
    """

    @functools.cache  # the bisection comes back to values it has tried
    def fitted(log_c):
        model = LogisticRegression(C=10**log_c, max_iter=1000, solver="lbfgs")
        # matrices are so small that several threads would mostly wait for each other
        with warnings.catch_warnings(), threadpool_limits(1):
            # with little regularisation 1,000 iterations are not enough, in CoOp's runs either
            warnings.simplefilter("ignore", ConvergenceWarning)
            # with one image per class, scikit-learn takes the labels for numbers to predict
            warnings.filterwarnings("ignore", message="The number of unique classes")
            model.fit(features.numpy(), labels.numpy())
        return model

    @functools.cache
    def score(log_c):
        return fitted(log_c).score(val_features.numpy(), val_labels.numpy())

    best = _searched(score) if len(val_labels) else math.log10(DEFAULT_C)
    model = fitted(best)
    weight = torch.zeros(n_classes, features.shape[1])
    bias = torch.full((n_classes,), -torch.inf)  # a class without an image is never predicted
    rows, offsets = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(model.classes_) == 2:  # scikit-learn gives one row: the second class minus the first
        rows, offsets = (torch.cat([torch.zeros_like(t), t]) for t in (rows, offsets))
    weight[model.classes_], bias[model.classes_] = rows.float(), offsets.float()
    return weight, bias, 10**best


def _searched(score):
    """Return the best logarithm of C by CoOp's search, given the score of one."""
    best = max((math.log10(c) for c in COARSE), key=score)
    left, right = best - 1, best + 1
    for _ in range(HALVINGS):
        better_right = score(left) < score(right)
        best, middle = (right if better_right else left), (left + right) / 2
        left, right = (middle, right) if better_right else (left, middle)
    return best


def fit_all(params: Params, pack: FeaturePack, progress: str | None = None) -> dict[str, Tensor]:
    """Return the tensors `SHOTS/SEED/{weight,bias,C}` of the probes of every draw of the suite."""
    tensors: dict[str, Tensor] = {}
    runs = [(shots, seed) for shots in params.shots for seed in params.seeds]
    for shots, seed in tqdm(runs, desc=progress, disable=progress is None):
        train, val = pack.draw(shots, seed)
        weight, bias, c = fit_linear_probe(
            pack.train.features[train], pack.train.labels[train],
            pack.val.features[val], pack.val.labels[val], len(pack.class_names))
        tensors |= {f"{shots}/{seed}/weight": weight, f"{shots}/{seed}/bias": bias,
                    f"{shots}/{seed}/C": torch.tensor(c)}
    return tensors


def provenance(params: Params, pack: FeaturePack, backbone: Backbone) -> dict[str, Any]:
    """Return the record of what a dataset's linear probes depend on."""
    return {"method": "linear_probe", "seeds": params.seeds, "shots": params.shots,
            "images": pack.provenance["images"], "class_names": pack.class_names,
            "image_fingerprint": backbone.image_fingerprint}


def predict(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the predicted classes [N] of un-normalised image features [N, d]."""
    return (features @ weight.T + bias).argmax(dim=-1)
