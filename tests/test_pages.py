"""The report's pages as a real browser shows them; skipped where there is no Chromium."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from browser import Browser
from bs4 import BeautifulSoup
from made_up_results import write_made_up

from promptstudy.files import write_text
from promptstudy.glossary import explained
from promptstudy.notebook_page import NO_ALT, notebook_html
from promptstudy.params import load_params
from promptstudy.plots import style
from promptstudy.report import write_report
from promptstudy.results import read_results

PROJECT = Path(__file__).parents[1]
WIDTHS = (390, 800, 1400)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def notebook():
    """An executed notebook with a wide table, figures of both kinds, and long lines."""
    figure, axis = plt.subplots(figsize=(14, 2))
    axis.plot([1, 2], label="line")
    axis.legend()
    drawn = style.picture(figure, style.described(figure))
    plt.close(figure)
    wide = pd.DataFrame([[0.123456] * 40], columns=[f"column {n}" for n in range(40)])
    pixels = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
              "RU5ErkJggg==")
    display = [nbformat.v4.new_output("display_data", data=data) for data in (
        {"text/html": wide.to_html()}, {"text/html": str(drawn)}, {"image/png": pixels})]
    return nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A title\n\n## Equations\n\n$$" + r"\arg\max_c " * 30
                                      + "$$\n\nand $\\hat y = \\operatorname{argmax}_c f$."),
        nbformat.v4.new_code_cell("x = 1", outputs=[
            nbformat.v4.new_output("stream", name="stdout", text="word" * 300), *display])])


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The report of the committed results, and a notebook's pages for two datasets.

    Which images each run gets right is made up, as that file is not in git.
    """
    root = tmp_path_factory.mktemp("site")
    shutil.copy(PROJECT / "params.yaml", root)
    (root / "data").symlink_to(PROJECT / "data")
    folder = root / "reports"
    folder.mkdir()
    params = load_params(root / "params.yaml")
    results = read_results(PROJECT / "reports" / "results.csv")
    lacking = {label for block in params.methods.values()
               for label in (block.base_to_new.label, *explained(block))} - set(results["variant"])
    if lacking:
        pytest.skip(f"reports/results.csv is older than params.yaml, it lacks {sorted(lacking)}; "
                    "run make repro")
    write_made_up(folder, results)
    write_report(params)
    siblings = [(dataset, f"01_x-{dataset}") for dataset in ("birds", "cats")]
    for _, name in siblings:
        write_text(folder / f"{name}.html", notebook_html(notebook(), name, "A note.", siblings))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def test_the_index_is_small_and_the_same_on_every_run(reports):
    page = reports / "index.html"
    before = page.read_bytes()
    assert len(before) <= 400_000
    write_report(load_params(reports.parent / "params.yaml"))
    assert page.read_bytes() == before


def test_pages_fit_every_width_and_ask_for_nothing(reports, browser):
    committed = [page for page in (PROJECT / "reports").glob("*.html")
                 if "<main" in page.read_text()]  # others were made by an earlier version
    for page in [*reports.glob("*.html"), *committed]:
        asked = browser.open(page)
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()], page.name
        for width in WIDTHS:
            browser.resize(width)
            assert browser.run(OVERFLOW) <= 0, (page.name, width)


def test_verdicts_are_in_sight(reports, browser):
    browser.resize(1400)
    browser.open(reports / "index.html")
    right = browser.run(
        "Math.max(...[...document.querySelectorAll('#claims-table td:nth-child(2)')]"
        ".map((cell) => cell.getBoundingClientRect().right))")
    assert 0 < right < 1400
    assert browser.run("document.querySelector('#claims-table .scroll').scrollWidth - "
                       "document.querySelector('#claims-table .scroll').clientWidth") <= 0


def test_the_first_screen_answers(reports, browser):
    browser.resize(1400, 1000)
    browser.open(reports / "index.html")
    bottoms = browser.run(
        "['.first ol', '.warning', '#first-chart', '.tally', '#leaderboard-table'].map((what) => "
        "document.querySelector(what).getBoundingClientRect().bottom)")
    assert max(bottoms) < 1000
    assert browser.run("document.querySelector('#first-chart .scroll').scrollWidth - "
                       "document.querySelector('#first-chart .scroll').clientWidth") <= 0
    browser.resize(390, 844)
    browser.open(reports / "index.html")  # where contents are folded
    assert browser.run("document.querySelector('.first ol').getBoundingClientRect().top") < 600


def test_readers_can_switch_sort_and_filter(reports, browser):
    browser.resize(1400)
    browser.open(reports / "index.html")
    visible = ("[...document.querySelectorAll('[data-group=few-shot]')].filter((p) => !p.hidden)"
               ".map((p) => p.id)")
    assert browser.run(visible) == ["few-shot-mean-over-datasets"]
    browser.run("{const s = document.querySelector('[data-switch=few-shot]'); s.value = 'dtd10';"
                "s.onchange()}")
    assert browser.run(visible) == ["few-shot-dtd10"]
    assert browser.run("location.hash") == "#few-shot-dtd10"
    column = ("[...document.querySelectorAll('#leaderboard-table td:nth-child(2)')]"
              ".map((c) => +c.dataset.v)")
    head = "document.querySelector('#leaderboard-table th:nth-child(2) button').click()"
    browser.run(head)
    falling = [value for value in browser.run(column) if value]
    assert falling == sorted(falling, reverse=True) and len(falling) > 4
    browser.run(head)
    rising = [value for value in browser.run(column) if value]
    assert rising == falling[::-1]
    shown = ("[...document.querySelectorAll('#claims-table tbody tr')].filter((r) => !r.hidden)"
             ".map((r) => r.cells[1].textContent)")
    everything = browser.run(shown)
    browser.run("{verdict.value = 'holds'; verdict.onchange()}")
    assert browser.run(shown) == ["holds"] * everything.count("holds") != everything
    browser.run("{verdict.value = ''; search.value = 'no such claim'; search.oninput()}")
    assert browser.run(shown) == []


def test_a_link_to_a_dataset_shows_it(reports, browser):
    browser.open(reports / "papers.html")
    browser.send("Page.navigate", url=(reports / "index.html").as_uri() + "#few-shot-grocery")
    for _ in range(200):
        if browser.run("document.readyState === 'complete' && "
                       "!!document.getElementById('few-shot-grocery')"):
            break
    assert browser.run("document.getElementById('few-shot-grocery').hidden") is False


def test_dark_mode_changes_the_page(reports, browser):
    for page in ("index.html", "papers.html", "01_x-cats.html"):
        browser.open(reports / page)
        colour = "getComputedStyle(document.body).backgroundColor"
        before = browser.run(colour)
        browser.run("theme.click()")
        assert browser.run(colour) != before
        browser.run("theme.click()")


def test_tables_are_open_in_print(reports, browser):
    browser.open(reports / "papers.html")
    closed = "[...document.querySelectorAll('details')].filter((each) => !each.open).length"
    assert browser.run(closed) > 5
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(closed) == 0


def test_pages_have_what_readers_of_any_kind_need(reports):
    titles = []
    for path in reports.glob("*.html"):
        text = path.read_text()
        page = BeautifulSoup(text, "html.parser")
        titles.append((page.title.text, page.h1.get_text()))
        assert NO_ALT not in text and page.main and page.html["lang"]
        assert all("\\" not in math.get_text() for math in page.find_all("math"))
        assert all(image.get("alt") for image in page.find_all("img"))
        assert all(svg.get("aria-label") for svg in page.find_all("svg", role="img"))
        assert all(head.get("id") for head in page.find_all("h2"))
        ids = [each["id"] for each in page.find_all(id=True)]
        assert len(ids) == len(set(ids))
        targets = {link["href"][1:] for link in page.find_all("a", href=re.compile("^#."))}
        assert targets <= set(ids)
    assert len(set(titles)) == len(titles)
    cats = BeautifulSoup((reports / "01_x-cats.html").read_text(), "html.parser")
    links = {link["href"] for link in cats.nav.find_all("a")}
    assert {"index.html", "01_x-birds.html", "#Equations"} <= links
    assert cats.title.text == "A title: cats" and cats.h1.get_text().rstrip("¶") == "A title: cats"


def test_every_point_of_a_figure_is_a_number_of_its_table(reports):
    """Points say what they are: `CoOp, 1 shot: 38.1 ± 2.9 (seeds ...)`; so do the table's cells."""
    page = BeautifulSoup((reports / "index.html").read_text(), "html.parser")
    checked = 0
    for figure, table in (("first", "few-shot-average"), ("domain", "domain"),
                          ("base-to-new-dtd10", "base-to-new-dtd10"),
                          ("few-shot-grocery", "few-shot-grocery"),
                          ("cross-dataset", "cross-dataset")):
        rows = page.find(id=f"{table}-table").find_all("tr")
        heads = [re.sub(r" (%|points)$", "", cell.text) for cell in rows[0].find_all("th")]
        cells = {(row.td.text, head): re.sub("⚠.*", "", cell.text)
                 for row in rows[1:] for head, cell in zip(heads, row.find_all("td"), strict=True)}
        for title in page.find(id=f"{figure}-chart").svg.find_all("title"):
            method, column, number = re.fullmatch(
                r"(.*), (.*): ([\d.]+(?: ± [\d.]+)?)(?: \(seeds .*\))?", title.text).groups()
            assert cells[method, column] == number
            checked += 1
    assert checked > 100
