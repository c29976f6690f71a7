"""An executed notebook as a page of the report."""

import re
from collections.abc import Sequence
from typing import Any

from bs4 import BeautifulSoup
from latex2mathml.converter import convert as to_mathml
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter

from .rendering import render

MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
NO_ALT = "No description has been provided for this image"  # nbconvert's
COMMAND = re.compile(r"\\([A-Za-z]+)")  # of LaTeX, where the converter did not know it


def notebook_html(notebook: Any, name: str, note: str = "",
                  siblings: Sequence[tuple[str, str]] = (), provenance: str = "") -> str:
    """Return an executed notebook as a self-contained page, the same for the same results.

    name: of the page, without a suffix; siblings: `(label, name)` of all pages of the same
    notebook, this one among them; provenance: where the page comes from, in words.

    Equations become MathML, which browsers render without a script from the network. Progress bars
    and warnings (stderr) are left out, since they hold times; printed text is joined into one
    piece, however the kernel sent it. Code is folded. HTML in a notebook's own text stays HTML;
    printed text and tables are escaped by nbconvert and by pandas.
    """
    heading = _title(notebook) or name  # before equations in it become MathML
    own = next((label for label, other in siblings if other == name), None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # papermill's own cell has a random one
        if cell.cell_type == "markdown":
            cell.source = _math_to_mathml(cell.source)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    exporter = HTMLExporter(template_name="basic", preprocessors=[CoalesceStreamsPreprocessor])
    body, _ = exporter.from_notebook_node(notebook)
    page = BeautifulSoup(body, "html.parser")
    if own is not None and page.h1:
        link = page.h1.find("a", class_="anchor-link")
        page.h1.insert(page.h1.contents.index(link) if link else len(page.h1), f": {own}")
    _fold_code(page)
    _describe_images(page)
    for box in page.select(".output_html, .output_svg, .output_png, pre, math[display=block]"):
        box["tabindex"] = "0"  # they scroll, by keyboard too
    sections = [{"id": each["id"], "title": each.get_text().rstrip("¶")}
                for each in page.find_all("h2", id=True)]
    style = HtmlFormatter(style="default").get_style_defs(".highlight")
    return render("page.html", title=heading if own is None else f"{heading}: {own}",
                  body=Markup(page), note=note, code_style=Markup(style), sections=sections,
                  siblings=siblings, name=name, provenance=provenance)


def _title(notebook):
    heading = re.match(r"#\s+(.+)", notebook.cells[0].source)
    return heading and heading.group(1)


def _fold_code(page):
    """Put each code cell's input into a box that opens, named after its first line."""
    for box in page.select("div.input"):
        box.name = "details"
        summary = page.new_tag("summary")
        summary.string = "Code"
        box.insert(0, summary)


def _describe_images(page):
    """Give images without a description the section that they stand in as one."""
    for image in page.find_all("img", alt=NO_ALT):
        heading = image.find_previous(["h1", "h2", "h3"])
        place = f" of the section “{heading.get_text().rstrip('¶')}”" if heading else ""
        image["alt"] = f"Figure{place}, which the text above it describes"


def _math_to_mathml(markdown):
    """Replace `$..$` and `$$..$$` outside code by MathML."""
    parts = CODE.split(markdown)  # the odd parts are code
    parts[::2] = [MATH.sub(_mathml, part) for part in parts[::2]]
    return "".join(parts)


def _mathml(match):
    block, inline = match.groups()
    made = to_mathml(block or inline, display="block" if block else "inline")
    return COMMAND.sub(r"\1", made)  # \arg as arg
