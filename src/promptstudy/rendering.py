"""Pages from the HTML templates in `pages/`."""

from jinja2 import Environment, PackageLoader
from markupsafe import Markup


def render(template, **values):
    """Return a page made from one of the package's HTML templates.

    Values are text, whose special characters are escaped: names come from files of other people.
    Only what is `Markup` stands in the page as it is.
    """
    loader = PackageLoader("promptstudy", "pages")
    return Environment(loader=loader, autoescape=True).get_template(template).render(values)


def html_table(frame, **options):
    """Return a DataFrame as an HTML table for `render`, with its text escaped.

    options: of `DataFrame.to_html`.
    """
    return Markup(frame.to_html(index=False, border=0, escape=True, **options))
