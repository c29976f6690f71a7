"""The paper suite and the laptop suite, end to end, on datasets in miniature.

The paper suite has all fifteen datasets, every method and protocol. `promptstudy suite` makes the
folder, and what DVC would run there is run: every command of `dvc.yaml` in the order of its graph.
Only the tower (random, of two layers), the images and the numbers of epochs, shots, seeds and views
are small. Notebooks are executed in this process, since a hundred kernels would take a quarter of
an hour; `test_pipeline` runs notebooks as users do.
"""

import multiprocessing.util
import shlex
import sys
from contextlib import chdir
from pathlib import Path

import matplotlib.pyplot as plt
import miniature
import nbformat
import networkx
import papermill
import pytest
import yaml
from conftest import VIT, save_clip
from dvc.repo import Repo
from IPython.core.interactiveshell import InteractiveShell
from test_suite import project  # noqa: F401 -- a fixture

from promptstudy.__main__ import main
from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.params import load_params
from promptstudy.results import METHODS, TRANSFER, read_results
from promptstudy.suite import make_suite

SHIFTED = {name for name, layout in LAYOUTS.items() if layout.test_only}


def small(path):
    """Leave little to compute in a suite's params."""
    params = yaml.safe_load(path.read_text())
    params |= {"shots": [1, 2], "base_to_new_shots": 2, "seeds": params["seeds"][:2],
               "backbone": {"name": "local-dir:data/clip"}}
    params["transfer"]["shots"] = 2
    params["features"] |= {"views": 2, "local_grid": 2}
    for block in (params[method] for method in METHODS if method in params):
        block["schedule"] |= {"epochs": {1: 1, 2: 1}, "epochs_on": {}}
        block["ablation_shots"] = [2]
    path.write_text(yaml.safe_dump(params))


def commands(folder):
    """Return the command of every stage in an order in which DVC may run them."""
    with Repo(folder) as repo:
        order = networkx.dfs_postorder_nodes(repo.index.graph)  # a stage comes after what it needs
        return [stage.cmd for stage in order if stage.is_data_source is False and not stage.frozen]


def executed_here(source, target, parameters, **_):
    """Execute a notebook as papermill does, but without a kernel."""
    notebook, shell = nbformat.read(source, as_version=4), InteractiveShell()
    with chdir(Path(source).parent):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                shell.run_cell(cell.source).raise_error()
            if "parameters" in cell.metadata.get("tags", ()):
                shell.push(parameters)
    plt.close("all")
    nbformat.write(notebook, target)


@pytest.fixture
def run(project, tmp_path, monkeypatch):  # noqa: F811
    """A function that runs a suite on these datasets; it returns its params and results."""
    def run(name, datasets):
        folder, data_root = tmp_path / name, tmp_path / "data_root"
        for dataset in datasets:
            miniature.build(data_root, dataset)
        make_suite(project, name, folder, data_root)
        small(folder / "params.yaml")
        save_clip(folder / "data" / "clip", VIT)
        monkeypatch.setattr(papermill, "execute_notebook", executed_here)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PROMPTSTUDY_PARAMS", "")  # undone after what notebooks' commands set
        plt.switch_backend("agg")
        multiprocessing.util.get_temp_dir()  # now, as a running notebook has a folder of its own,
        # whose path is too long for the sockets of the processes that decode images
        for command in commands(folder):
            python, *arguments = shlex.split(command)
            assert python == "python" and arguments[:2] == ["-m", "promptstudy"]
            monkeypatch.setattr(sys, "argv", ["promptstudy", "--params",
                                              str(folder / "params.yaml"), *arguments[2:]])
            main()
        return load_params(folder / "params.yaml"), read_results(folder / "reports" / "results.csv")
    return run


def check_coverage(params, results):
    """Every method is there, on every dataset, in every protocol that the suite trains it for."""
    learned = results[results["method"].isin(params.methods)]
    for protocol in ("few_shot", "base_to_new"):
        of = learned[learned["protocol"] == protocol]
        assert set(of["method"]) == {method for method, block in params.methods.items()
                                     if getattr(block, protocol)}
        for method in of["method"].unique():
            assert set(of[of["method"] == method]["dataset"]) == set(params.datasets)
    source, domain = params.transfer.source, params.transfer.domain
    for protocol, places in (("cross_dataset", set(params.datasets)),
                             ("domain", {source, *domain})):
        of = results[results["protocol"] == protocol]
        assert set(of["dataset"]) == {source}
        for method in params.methods:
            assert set(of[of["method"] == method]["subset"]) == places
    for page in ("index", "papers", "07_evaluate", f"06_aape-{source}"):
        assert (params.root / "reports" / f"{page}.html").stat().st_size > 5000


@pytest.mark.filterwarnings("ignore")  # of many kinds, about so few images
def test_paper_suite_runs_end_to_end(run):
    params, results = run("paper", LAYOUTS)
    assert set(results["method"]) == set(METHODS)
    assert set(results["dataset"]) == LAYOUTS.keys() - SHIFTED
    assert set(TRANSFER) < set(results["protocol"])
    check_coverage(params, results)


@pytest.mark.filterwarnings("ignore")
def test_laptop_suite_runs_end_to_end(run):
    params, results = run("laptop", ["oxford_pets", "caltech101", "dtd"])
    assert set(params.methods) < set(results["method"])
    check_coverage(params, results)
