"""Pages from the HTML templates in `pages/`."""

from jinja2 import Environment, PackageLoader


def render(template, **values):
    """Return a page made from one of the package's HTML templates."""
    loader = PackageLoader("promptstudy", "pages")
    return Environment(loader=loader, autoescape=False).get_template(template).render(values)
