"""The methods that learn: `params/methods/NAME.py` holds the block of the method NAME.

The block defines the method's settings, its name and its colour (`MethodParams`); the method itself
is `methods/NAME.py`. A new method needs only these two modules.
"""

import importlib
import pkgutil

from ..method import MethodParams


def _block(name):
    """The `MethodParams` that a module of this package defines."""
    module = importlib.import_module(f"{__name__}.{name}")
    return next(each for each in vars(module).values()
                if isinstance(each, type) and issubclass(each, MethodParams)
                and each.__module__ == module.__name__)


# {name: block}, in the order in which the papers appeared
BLOCKS = dict(sorted(((module.name, _block(module.name))
                      for module in pkgutil.iter_modules(__path__)),
                     key=lambda item: item[1].arxiv))
