"""Pages from the HTML templates in `pages/`."""

import functools
import re
from typing import Any

from jinja2 import Environment, PackageLoader


def render(template: str, **values: Any) -> str:
    """Return a page made from one of the package's HTML templates.

    Values are text and their special characters are escaped, as names come from other people's
    files. Only `Markup` goes into the page unchanged.
    """
    return _environment().get_template(template).render(values)


def slug(text: object) -> str:
    """Return a text as the `id` of an element: letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-") or "x"


@functools.cache
def _environment():
    return Environment(loader=PackageLoader("promptstudy", "pages"), autoescape=True,
                       trim_blocks=True, lstrip_blocks=True)
