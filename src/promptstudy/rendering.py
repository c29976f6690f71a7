"""Pages from the HTML templates in `pages/`."""

from jinja2 import Environment, PackageLoader
from markupsafe import Markup


def render(template, **values):
    """Return a page made from one of the package's HTML templates.

    Values are text and their special characters are escaped, as names come from other people's
    files. Only `Markup` goes into the page unchanged.
    """
    loader = PackageLoader("promptstudy", "pages")
    return Environment(loader=loader, autoescape=True).get_template(template).render(values)


def html_table(frame, **options):
    """Return a DataFrame as an HTML table for `render`, with its text escaped.

    options: those of `DataFrame.to_html`.
    """
    return Markup(frame.to_html(index=False, border=0, escape=True, **options))
