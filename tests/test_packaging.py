"""What pyproject.toml asks for, what requirements.txt pins and what the code imports agree."""

import ast
import importlib
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from promptstudy import code

PROJECT = Path(__file__).parents[1]
ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
EXTRAS = ABOUT["optional-dependencies"]
PINS = re.findall(r"(?m)^([\w.-]+)==\S+$", (PROJECT / "requirements.txt").read_text())
PROVIDERS = packages_distributions()
OWN = {"promptstudy"} | {path.stem for folder in ("tests", "benchmarks")
                         for path in (PROJECT / folder).glob("*.py")}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras):
    """The packages that the project asks for with those extras."""
    names = list(ABOUT["dependencies"])
    for extra in extras:
        for name in EXTRAS[extra]:
            _, inner, rest = name.partition("[")
            names += declared(*rest.rstrip("]").split(",")) if inner else [name]
    return {canonical(name) for name in names}


def imported(text):
    """The packages of others that Python code imports, at its top or inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module.partition(".")[0])
    return {canonical(PROVIDERS[module][0]) for module in modules - OWN - sys.stdlib_module_names}


def imported_by(*modules):
    """The packages that modules of ours need, with all of ours that they depend on."""
    return set().union(*(imported(path.read_text()) for path in code.files(*modules)
                         if path.suffix == ".py"))


def texts(folder):
    for path in sorted((PROJECT / folder).rglob("*.py")):
        yield path.read_text()
    for path in sorted((PROJECT / folder).glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        yield re.sub(r"(?m)^\s*[%!].*$", "", "\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))


@pytest.mark.parametrize("folder", ["src", "notebooks", "tests", "benchmarks"])
def test_everything_imported_is_asked_for(folder):
    found = set().union(*map(imported, texts(folder)))
    assert found and found <= declared("dev")
    if folder == "src":
        assert found <= declared("pipeline", "llm", "pocket")


COMMANDS = {name: (f"promptstudy.commands.{name}",) for name in (
    "check", "doctor", "fetch", "packs", "shifted", "linear_probe", "captions", "predict", "export",
    "import", "metrics", "plan")}
COMMANDS |= {"train": ("promptstudy.commands.train", *code.METHODS),
             "evaluate": ("promptstudy.evaluation", "promptstudy.transfer")}


@pytest.mark.parametrize("modules", COMMANDS.values(), ids=COMMANDS)
def test_data_training_and_evaluation_need_no_extra(modules):
    assert imported_by("promptstudy.__main__", *modules) <= declared()


@pytest.mark.parametrize("module, extra", [
    ("commands.notebook", "notebooks"), ("commands.report", "notebooks"),
    ("commands.strip", "notebooks"), ("plots.style", "notebooks"), ("commands.repro", "pipeline"),
    ("commands.stages", "pipeline"), ("commands.suite", "pipeline"),
    ("commands.cluster", "pipeline"),
    ("commands.ask", "llm"), ("commands.llm", "llm"),
    ("pocket.model", "pocket"), ("pocket.teacher", "pocket"), ("pocket.vocabulary", "pocket")])
def test_other_commands_need_their_extra(module, extra):
    needed = imported_by(f"promptstudy.{module}")
    assert needed <= declared(extra) and not needed <= declared()


def test_everything_asked_for_is_pinned_once():
    names = [canonical(name) for name in PINS]
    assert declared("dev") <= set(names) and len(names) == len(set(names))
    assert EXTRAS.keys() - {"dev"} == set(re.search(r"\[(.*)\]", EXTRAS["dev"][0])[1].split(","))


def test_make_and_conda_install_all_of_it_as_pinned():
    assert '--requirement requirements.txt --editable ".[dev]"' in re.sub(
        r"\s*\\\n\s*", " ", (PROJECT / "Makefile").read_text())
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    assert environment["dependencies"][-1]["pip"] == ["--requirement requirements.txt",
                                                      "--editable .[dev]"]


@pytest.mark.parametrize("argument, name", [
    ("/a/bin/promptstudy", "promptstudy"), ("/a/promptstudy/__main__.py", "python -m promptstudy")])
def test_help_calls_the_script_as_it_was_called(monkeypatch, capsys, argument, name):
    module, function = ABOUT["scripts"]["promptstudy"].split(":")
    monkeypatch.setattr(sys, "argv", [argument, "train", "--help"])
    with pytest.raises(SystemExit) as ended:
        getattr(importlib.import_module(module), function)()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} train [-h]")


def test_citation_and_licence():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type"} <= citation.keys()
    assert citation["authors"] == ABOUT["authors"]
    assert (citation["license"], citation["version"]) == (ABOUT["license"], ABOUT["version"])
    assert len(citation["references"]) == 4
    prose = " ".join(" ".join("".join(cell["source"]) for cell in json.loads(
        path.read_text())["cells"]) for path in sorted((PROJECT / "notebooks").glob("*.ipynb")))
    prose = " ".join(prose.split())
    for paper in citation["references"]:
        assert {"type", "title", "authors"} <= paper.keys()
        assert paper["title"] in prose and str(paper["year"]) in prose
        assert all(author["family-names"] in prose for author in paper["authors"])
    for name in (ABOUT["readme"], *ABOUT["license-files"]):
        assert (PROJECT / name).is_file()


def test_hooks_run_what_is_pinned():
    """Nothing is downloaded by pre-commit."""
    repos = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {repo["repo"] for repo in repos} == {"local"}
    assert {hook["language"] for repo in repos for hook in repo["hooks"]} == {"system"}
