"""The methods that learn, by name: `methods/NAME.py` is the method NAME.

Each such module has, beside its model,
    texts(task)                                  the texts it learns from (JSON-able), or None
    build(task, setting, class_names, draws)     the untrained model, one run per seed
    restore(task, setting, learned, subset="all", onto=None)
                                                 what was learned, around other class names
and, if one training gives several predictors,
    predictions(params, setting, model, inputs)  see `predictions` here.
Its model has `loss(batch)`, `predict(...)` and `reads_local`. What can be set about the method, and
how it is called and drawn, is `params/methods/NAME.py`.
"""

import difflib
import importlib
from types import ModuleType
from typing import Any

from torch import Tensor

from ..errors import ParamsError
from ..params import Params, Setting
from ..params.methods import BLOCKS


def load(name: str) -> ModuleType:
    """Return the module of a method; raises `ParamsError` listing the methods for another name."""
    if name not in BLOCKS:
        near = difflib.get_close_matches(name, BLOCKS, n=1, cutoff=0)[0]
        raise ParamsError(f"there is no method {name!r}; did you mean {near!r}? The methods are "
                          f"{', '.join(BLOCKS)}")
    return importlib.import_module(f"{__package__}.{name}")


def predictions(params: Params, method: str, setting: Setting, model: Any,
                inputs: list[Tensor]) -> dict[str, Tensor]:
    """Return what a trained `model` predicts of its `inputs`, `{label of the variant: [R, N]}`.

    That is one variant, the setting's own, unless the method's module says more.
    """
    own = getattr(load(method), "predictions", None)
    return (own(params, setting, model, inputs) if own
            else {setting.variant.label: model.predict(*inputs)})
