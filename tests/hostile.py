"""Names and sentences as others may write them: no HTML in pages, no formulas in figures."""

from bs4 import BeautifulSoup

FORMULA = r"$\href{javascript:alert(1)}{x}$"
PRICES = "from $5 to $6"
HOSTILE = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><b>', "{{7*7}}", FORMULA,
           "salt & pepper's"]
NAMES = [*HOSTILE, PRICES, r"\$5"]


def elements(page):
    """The elements of a page in order, with their attributes' names."""
    return [(found.name, sorted(found.attrs))
            for found in BeautifulSoup(page, "html.parser").find_all()]


def shown(page):
    return BeautifulSoup(page, "html.parser").get_text()
