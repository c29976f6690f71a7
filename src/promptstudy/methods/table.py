"""The methods that learn, by name: `methods/NAME.py` is the method NAME.

Each such module has, beside its model,
    texts(task)                                  the texts it learns from (JSON-able), or None
    build(task, setting, class_names, draws)     the untrained model, one run a seed
    restore(task, setting, learned, subset, onto)  what was learned, around other class names
and its model has `loss(batch)`, `predict(...)` and `reads_local`.
"""

import difflib
import importlib

from ..errors import ParamsError

NAMES = ("coop", "kgcoop", "prograd", "dualpt", "dualview", "aape")


def load(name):
    """Return the module of a method; raises `ParamsError` listing the methods for another name."""
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0)[0]
        raise ParamsError(f"there is no method {name!r}; did you mean {near!r}? The methods are "
                          f"{', '.join(NAMES)}")
    return importlib.import_module(f"{__package__}.{name}")
