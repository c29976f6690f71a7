"""dvc.yaml names the code that each stage depends on: all of it, and nothing else."""

from pathlib import Path

import pytest
import yaml
from conftest import changed
from dvc.repo import Repo
from ruamel.yaml import YAML

from promptstudy import code, pipeline
from promptstudy.errors import ParamsError
from promptstudy.params import load_params
from promptstudy.params.methods import BLOCKS

PROJECT = Path(__file__).parents[1]
DEFINITION = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in DEFINITION["stages"].items()
          if not stage.get("frozen")}
CODE = [path.relative_to(PROJECT).as_posix() for folder in ("src", "notebooks")
        for path in sorted((PROJECT / folder).rglob("*"))
        if path.suffix in (".py", ".html", ".css", ".js", ".csv", ".ipynb")
        and ".ipynb_checkpoints" not in path.parts]


def test_dvc_yaml_is_what_make_dependencies_writes():
    for name, stage in STAGES.items():
        listed = [path for path in stage["deps"] if path.startswith("src/")]
        assert listed == pipeline.code_of(stage, PROJECT), \
            f"the code of stage {name} has changed what it needs; run `make stages`"


def loaded(text):
    return YAML().load(text)


def test_dvc_yaml_has_the_stages_of_the_suite_s_methods():
    text = (PROJECT / "dvc.yaml").read_text()
    named = [name for name in BLOCKS if name in DEFINITION["stages"]]
    assert pipeline.with_methods(loaded(text), named) == loaded(text)
    fewer = pipeline.with_methods(loaded(text), ["coop", "dualview"])
    left = {name: stage.get("do", stage) for name, stage in fewer["stages"].items()}
    assert {"coop", "dualview", "dualview_page"} <= left.keys()
    assert not {"aape", "aape_page", "kgcoop", "dualpt"} & left.keys()
    for name in ("evaluate", "figures", "metrics", "report"):
        assert "dualview" in left[name]["params"] and "aape" not in left[name]["params"]
    assert "artefacts/coop" in left["evaluate"]["deps"]
    assert "artefacts/aape" not in left["evaluate"]["deps"]
    assert not any("kgcoop" in path for path in left["dualview_page"]["deps"]
                   if path.startswith("artefacts"))
    again = pipeline.with_methods(fewer, ["coop", "dualview", "aape"])
    assert again["stages"]["aape"]["do"]["cmd"] == STAGES["aape"]["cmd"]
    assert "artefacts/aape" in again["stages"]["evaluate"]["deps"]
    assert "aape" in again["stages"]["report"]["params"]


def test_a_stage_too_many_or_too_few_is_said(suite):
    path = suite.root / "dvc.yaml"
    text = (PROJECT / "dvc.yaml").read_text()
    path.write_text(text)
    pipeline.check_stages(suite)
    with pytest.raises(ParamsError, match="aape: has a stage but no block"):
        pipeline.check_stages(changed(suite, captioned={}, aape=None))
    path.write_text(text.replace("\n  kgcoop:\n", "\n  other:\n"))
    with pytest.raises(ParamsError, match="kgcoop: has a block but no stage"):
        pipeline.check_stages(suite)


def test_keys_that_dvc_reads_must_be_given(suite):
    """Params have defaults, but DVC does not know them."""
    (suite.root / "dvc.yaml").write_text((PROJECT / "dvc.yaml").read_text())
    path = suite.root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    del params["captioned"], params["transfer"]["domain"]
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(ParamsError) as error:
        pipeline.check_stages(load_params(path))
    assert str(error.value).splitlines()[1:] == ["  captioned: {}", "  transfer: {domain: {}}"]


def stages_that_name(file):
    return {name for name, stage in STAGES.items()
            if any(file == path or file.startswith(f"{path}/") for path in stage["deps"])}


TRAINED = {"coop", "kgcoop", "prograd", "dualpt", "dualview", "aape"}
PAGES = {"features", "describe", "coop_page", "dualpt_page", "dualview_page", "aape_page",
         "evaluate", "figures"}


@pytest.mark.parametrize("file, stages", [
    ("src/promptstudy/plots/style.py", PAGES | {"report"}),
    ("src/promptstudy/plots/accuracy.py", {"figures", "report"}),
    ("src/promptstudy/tables.py", PAGES | {"report"}),
    ("src/promptstudy/pages/site.js", PAGES | {"report"}),
    ("src/promptstudy/plots/inside.py", {"features", "coop_page", "dualpt_page", "dualview_page"}),
    ("src/promptstudy/plots/cases.py", {"describe", "dualpt_page", "aape_page", "evaluate"}),
    ("src/promptstudy/methods/coop.py",
     {"coop", "kgcoop", "prograd", "dualview", "coop_page", "dualview_page", "evaluate"}),
    ("src/promptstudy/methods/dualpt.py", {"dualpt", "dualpt_page", "evaluate"}),
    ("src/promptstudy/methods/projections.py", {"aape", "aape_page", "captions", "evaluate"}),
    ("src/promptstudy/training.py",
     TRAINED | {"captions", "evaluate"} | PAGES & {f"{name}_page" for name in TRAINED}),
    ("src/promptstudy/results.py", PAGES | {"report", "metrics"}),
    ("src/promptstudy/summary.py", {"metrics"}), ("src/promptstudy/prediction.py", set()),
    ("src/promptstudy/claims/coop.py", {"figures", "report"}),
    ("src/promptstudy/notebooks.py", PAGES),
    ("src/promptstudy/pages/style.css", PAGES | {"report"}),
    ("src/promptstudy/files.py", set(STAGES)),
    ("src/promptstudy/evaluation.py", {"evaluate"}),
    ("src/promptstudy/published/numbers.csv", {"features", "report"}),
    ("src/promptstudy/datasets/fetch.py", set()),
    ("src/promptstudy/doctor.py", set()),
    ("src/promptstudy/llm/ask.py", set()),
    ("notebooks/03_coop.ipynb", {"coop_page"})])
def test_a_file_is_named_by_the_stages_that_use_it(file, stages):
    assert stages_that_name(file) == stages


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    """A project whose stages are all up to date, though none has run: DVC only sees files."""
    root = tmp_path_factory.mktemp("unchanged") / "project"
    stages = {name: {"cmd": stage["cmd"].replace("${key}", "x"),
                     "deps": [path for path in stage["deps"]
                              if path.startswith(("src/", "notebooks/"))]}
              for name, stage in STAGES.items()}
    for file in CODE:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes((PROJECT / file).read_bytes())
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with Repo.init(str(root), no_scm=True) as repo:
        for stage in repo.index.stages:
            stage.save()
            stage.dump(update_pipeline=False)
        assert not repo.status()
        yield root, repo, list(repo.index.stages)


@pytest.mark.parametrize("file", CODE)
def test_a_changed_file_makes_exactly_its_stages_run(unchanged, file):
    """For DVC itself, which is asked what it would run."""
    root, repo, stages = unchanged
    path = root / file
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n")
        # each stage's status, as `dvc status` joins them; that reads all YAML again for every file
        with repo.lock:
            changed = {stage.name for stage in stages if stage.status()}
        assert changed == stages_that_name(file)
    finally:
        path.write_bytes(before)


def test_imports_are_found_wherever_they_stand(tmp_path, monkeypatch):
    package = tmp_path / code.NAME
    for file, text in {
            "__init__.py": "\"\"\"Nothing.\"\"\"\n", "a.py": "from . import b\nfrom .c import d\n",
            "b.py": f"def f():\n    import {code.NAME}.inner.e\n    return 'page.html'\n",
            "c/__init__.py": "VALUE = 1\n", "c/d.py": "", "inner/__init__.py": "", "unused.py": "",
            "inner/e.py": f"from ..c.d import x\nfrom {code.NAME} import g\n", "g.py": "",
            "evaluation.py": "", "page.html": '{% include "x.css" %}', "x.css": "",
            "y.css": ""}.items():
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(text)
    monkeypatch.setattr(code, "PACKAGE", package)
    for function in (code._data, code._needs):
        function.cache_clear()
    try:
        found = {path.relative_to(package).as_posix() for path in code.files(f"{code.NAME}.a")}
    finally:
        for function in (code._data, code._needs):
            function.cache_clear()
    assert found == {"a.py", "b.py", "c/__init__.py", "c/d.py", "inner/e.py", "g.py", "page.html",
                     "x.css"}


def test_a_notebook_needs_what_its_cells_import(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text('{"cells": [{"cell_type": "markdown", "source": ["import promptstudy.llm"]}, '
                    '{"cell_type": "code", "source": ["%matplotlib inline\\n", '
                    '"from promptstudy import textfiles"]}]}')
    assert [file.name for file in code.notebook_files(path)] == ["textfiles.py"]


def test_learned_tensors_depend_on_the_code_of_their_training_alone():
    names = {path.relative_to(code.PACKAGE).as_posix()
             for path in code.files("promptstudy.commands.train", "promptstudy.methods.coop")}
    assert {"methods/coop.py", "training.py", "clip/text.py", "task.py"} <= names
    assert not {"plots/style.py", "evaluation.py", "scores.py", "methods/dualpt.py", "results.py",
                "llm/ask.py", "report.py"} & names
    assert len({code.training_sha256(name) for name in TRAINED}) == len(TRAINED)
