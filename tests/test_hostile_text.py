"""Names and sentences that others wrote are text: no HTML in pages, no formulas in figures."""

import inspect
import json

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from conftest import changed
from matplotlib.text import Text
from test_published import numbers, paper_params, paper_results  # noqa: F401 -- fixtures
from test_results import made_up, suite  # noqa: F401 -- the fixture

from promptstudy import plots
from promptstudy.notebooks import notebook_html, run_notebook
from promptstudy.params import load_params
from promptstudy.published import page as published_page
from promptstudy.published.comparison import Comparison, compare
from promptstudy.report import write_report
from promptstudy.results import main_rows, write_results

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


# pages


def report_of(suite, text):  # noqa: F811
    """The page of the made-up results with `text` for everything that has a free name."""
    path = suite.root / "params.yaml"
    quoted = json.dumps(text)  # as YAML too
    path.write_text(path.read_text().replace("proto_ctx: {", f"{quoted}: {{"))
    params = load_params(path)
    frame = made_up(params).replace({
        "dataset": {"shapes": text}, "subset": {"shapes": text, "lines": f"{text} 2"},
        "variant": {"proto_ctx": text, "t": f"{text} 3"}, "backbone": {"b": f"{text} 4"}})
    transfer = params.transfer.model_copy(update={"source": text})
    datasets = {text: params.datasets["shapes"], "figures": params.datasets["figures"]}
    params = changed(params, suite=f"{text} 5", datasets=datasets, transfer=transfer)
    (params.root / "data" / "clip" / "build.json").write_text(json.dumps({"about": f"{text} 6"}))
    write_results(params.root / "reports" / "results.csv", frame)
    return write_report(params)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_of_results_and_params_stand_in_the_report_as_text(suite, text):  # noqa: F811
    reports = report_of(suite, text).parent
    index, papers = ((reports / name).read_text() for name in ("index.html", "papers.html"))
    for number in ("", " 2", " 3", " 4", " 5", " 6"):
        assert f"{text}{number}" in shown(index)
    for number in (" 4", " 5", " 6"):
        assert f"{text}{number}" in shown(papers)
    for page in (index, papers):
        found = elements(page)
        assert "<script" not in page and "<img src=x" not in page and '"><b>' not in page
        assert not [name for name, attributes in found if "onerror" in attributes]
    path = suite.root / "params.yaml"
    path.write_text(path.read_text().replace(json.dumps(text), "proto_ctx"))
    again = report_of(suite, "plain").parent
    assert [elements((again / name).read_text()) for name in ("index.html", "papers.html")] == [
        elements(index), elements(papers)]


def test_published_numbers_and_why_others_are_not_compared_are_text(
        numbers, paper_params, monkeypatch):  # noqa: F811
    cells = compare(paper_results(numbers)[0], paper_params).cells

    def page_of(texts):
        one, two, three, four, five, six = texts
        ours = numbers.replace({"method": {"MaPLe": one}, "paper": {"CoOp": two},
                                "variant": {"M16-end": four}})
        ours.loc[ours["note"] != "", "note"] = three
        monkeypatch.setattr(published_page, "load_numbers", lambda: ours)
        monkeypatch.setattr(published_page, "load_sources", lambda: pd.Series({five: six}))
        monkeypatch.setattr(published_page, "MARKS", {one: two})
        mine = cells.replace({"method": {"coop": one}, "variant": {"M16-end": two},
                              "target": {"dtd": three}}).assign(backbone=four)
        page = published_page.papers_page(Comparison(mine, [five, six]), paper_params)
        for text in texts:
            assert text in shown(page)
        return page

    hostile = page_of(HOSTILE)
    assert elements(hostile) == elements(page_of([f"plain {n}" for n in range(6)]))
    assert "<script" not in hostile and "<img" not in hostile


def test_a_notebook_s_title_and_note_are_text():
    for text in HOSTILE:
        cells = [nbformat.v4.new_markdown_cell("no heading")]
        page = notebook_html(nbformat.v4.new_notebook(cells=cells), text, note=f"note {text}")
        found = BeautifulSoup(page, "html.parser")
        assert found.title.text == text and found.find(class_="note").text == f"note {text}"
        assert not found.find_all(["script", "img", "b"])
        cells[0].source = f"# {text}"  # whose own HTML stays HTML, but not in the title
        page = notebook_html(nbformat.v4.new_notebook(cells=cells), "name")
        assert BeautifulSoup(page, "html.parser").title.text == text


def test_what_notebooks_print_show_and_draw_is_text(tmp_path):
    """With a real kernel, whose displays are pandas' and whose pictures are matplotlib's."""
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in (
        ("names = []", ["parameters"]),
        ("import matplotlib.pyplot as plt, pandas as pd\nfrom promptstudy import plots", []),
        ("print(*names)", []),
        ("names", []),
        ("{name: name for name in names}", []),
        ("pd.Series(names, index=names)", []),
        ("pd.DataFrame({'class': names}, index=pd.Index(names, name=names[0]))", []),
        ("pd.DataFrame([range(len(names))], columns=pd.Index(names, name=names[1]))", []),
        ("figure, axis = plt.subplots()\naxis.barh(names, range(len(names)), label=names[4])\n"
         "axis.set(title=names[4], xlabel=names[-2])\naxis.legend();", []))]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    run_notebook(path, {"names": NAMES}, tmp_path / "executed.ipynb", tmp_path / "n.html")
    page = (tmp_path / "n.html").read_text()
    found = BeautifulSoup(page, "html.parser")
    assert len(found.find_all("table")) == 2
    for text in NAMES:
        assert "<" not in text or text not in page
        assert found.get_text().count(text) >= 3
        assert sum(cell.text == text for cell in found.find_all(["th", "td"])) >= 3
    assert not found.find_all(["script", "b"]) and not found.find_all(onerror=True)
    image, = found.find_all("img")
    assert image["src"].startswith("data:image/png")


# figures


def frame_of(suite):  # noqa: F811
    """The made-up results, where datasets, kinds of test images and a variant are hostile."""
    return made_up(suite).replace({
        "dataset": {"shapes": FORMULA, "figures": PRICES}, "variant": {"proto_ctx": FORMULA},
        "subset": {"shapes": FORMULA, "figures": PRICES, "lines": HOSTILE[0], "photos": "$x$"}})


def pictures(count):
    return [torch.rand(8, 8, 3).numpy() for _ in range(count)]


def example():
    ranked = [(name, 100 / (place + 1)) for place, name in enumerate(NAMES)]
    return {"path": f"{FORMULA}/{PRICES}.png", "truth": FORMULA, "before": ranked, "after": ranked}


N = len(NAMES)
FIGURES = {  # name: how to draw it from hostile results, and what it has to show
    "few_shot": (lambda frame, main, params: (main,), [FORMULA, PRICES]),
    "base_to_new": (lambda frame, main, params: (main,), [FORMULA, PRICES]),
    "transfer": (lambda frame, main, params: (main, "domain"), [FORMULA, HOSTILE[0], "$x$"]),
    "studies": (lambda frame, main, params: (frame, "coop", ["M4", "M4-csc", "M4-middle"]),
                [FORMULA]),
    "base_to_new_studies": (lambda frame, main, params: (
        frame, "dualview", ["M4", "CE only", "MI only", "aug only", FORMULA]), [FORMULA]),
    "trade_off": (lambda frame, main, params: (frame, main, params.dualview.lambda_curve),
                  [FORMULA]),
    "typicality": (lambda frame, main, params: (frame,), [FORMULA, PRICES]),
    "training_curves": (lambda *_: ({name: torch.rand(5, 2) for name in NAMES}, [1, 2]), NAMES),
    "prompt_layouts": (lambda *_: ({name: [(name, "name")] for name in NAMES},), NAMES),
    "heat_map": (lambda *_: (torch.rand(N, N).numpy(), NAMES, NAMES, FORMULA, PRICES), NAMES),
    "similarities": (lambda *_: ({FORMULA: torch.rand(N, N), PRICES: torch.rand(N, N)}, NAMES),
                     NAMES),
    "feature_space": (lambda *_: ((torch.rand(N, 4), torch.arange(N)), {
        FORMULA: (torch.rand(N, 4), torch.arange(N))}, NAMES), NAMES),
    "matrices": (lambda *_: ({name: torch.rand(2, 2).numpy() for name in NAMES},), NAMES),
    "attention_maps": (lambda *_: (torch.rand(N, 2, 2, 2), NAMES, pictures(N)), NAMES),
    "sentence_weights": (lambda *_: ([[0.5] * N] * 2, [NAMES] * 2, [FORMULA, PRICES],
                                     pictures(2)), NAMES),
    "picture_grid": (lambda *_: ({name: pictures(2) for name in NAMES},), NAMES),
    "example_predictions": (lambda *_: ([example()] * 2, pictures(2), FORMULA), [
        f"{FORMULA}/{PRICES}.png ({FORMULA})", f"{FORMULA}  20%",
        f"zero-shot CLIP (left) and {FORMULA} (right); the right class is green"]),
    "class_changes": (lambda *_: ({name: pd.Series(range(N), index=NAMES) for name in NAMES[4:]},),
                      [*NAMES, f"{FORMULA}: 7 classes up, 0 down"])}


def test_every_function_that_draws_is_tried():
    public = {name for name, found in inspect.getmembers(plots, inspect.isfunction)
              if found.__module__ == plots.__name__ and not name.startswith("_")}
    assert public - {"save"} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_show_text_as_it_stands(suite, tmp_path, name):  # noqa: F811
    frame = frame_of(suite)
    arguments, expected = FIGURES[name]
    figure = getattr(plots, name)(*arguments(frame, main_rows(frame, suite), suite))
    plots.save(figure, tmp_path / "figure.png")
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert set(expected) <= {text.get_text() for text in texts}
    assert not [text for text in texts if text.get_parse_math()]
    for axis in figure.axes:  # labels that matplotlib writes as formulas stand nowhere
        labels = [label.get_text() for a in (axis.xaxis, axis.yaxis)
                  for label in a.get_ticklabels(which="both")]
        assert not [label for label in labels if r"\math" in label]
    plt.close(figure)


def test_figures_that_notebooks_draw_themselves_show_text_as_it_stands(tmp_path):
    figure, axis = plt.subplots()
    axis.set_xscale("log", base=2)  # as 03_coop does
    axis.set_xticks([1, 2, 4], [FORMULA, "2", "4"])
    axis.plot([1, 4], [1, 2], label=FORMULA)
    axis.set(title=FORMULA, xlabel=PRICES)
    axis.bar_label(axis.bar([1, 2], [1, 2]), [FORMULA, PRICES])
    axis.legend()
    plots.save(figure, tmp_path / "figure.png")
    labels = [label.get_text() for label in axis.get_xticklabels(which="both") if label.get_text()]
    assert labels == [FORMULA, "2", "4"]
    plt.close(figure)
