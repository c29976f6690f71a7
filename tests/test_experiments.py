"""DVC's own commands: metrics, plots and experiments say something about the suite's results."""

import functools
import json
import os
import shutil
import subprocess

import pandas as pd
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from made_up_results import made_up
from tiny_project import BIN, PROJECT

from promptstudy.params import load_params
from promptstudy.results import METHODS, write_results
from promptstudy.summary import write_summary

DEFINITION = yaml.safe_load((PROJECT / "dvc.yaml").read_text())

# In place of the notebook that evaluates: the rows of CoOp on one dataset.
EVALUATE = """
from promptstudy.evaluation import Evaluation
from promptstudy.params import load_params
from promptstudy.results import results_table, write_results
params = load_params()
evaluation = Evaluation.load(params, "shapes")
evaluation.hand_crafted()
evaluation.learned("coop")
write_results(params.root / "reports" / "results.csv", results_table(evaluation.rows))
"""


def test_a_method_s_file_holds_its_means(suite):
    results = made_up(suite)
    (suite.root / "reports" / "metrics").mkdir(parents=True)
    (suite.root / "reports" / "metrics" / "gone.json").write_text("{}")
    write_results(suite.root / "reports" / "results.csv", results)
    write_summary(suite)
    files = {path.stem: json.loads(path.read_text())
             for path in (suite.root / "reports" / "metrics").iterdir()}
    assert files["coop"] == {"few_shot": {"01": 56.5, "02": 66.5}, "base": 70.0, "new": 40.0,
                             "H": 50.91}
    assert files["zero_shot"] == {"few_shot": {"00": 50.0}, "base": 50.0, "new": 50.0, "H": 50.0}
    assert files["linear_probe"] == {"few_shot": {"01": 50.0, "02": 70.0}}
    assert "few_shot" not in files["kgcoop"] and files["kgcoop"]["new"] == 49.5
    assert list(files) and set(files) <= set(METHODS)
    curves = pd.read_csv(suite.root / "reports" / "curves" / "few_shot.csv")
    assert list(curves["method"].unique()) == [METHODS[name] for name in METHODS if name in files
                                               and "few_shot" in files[name]]
    assert curves.query("method == 'CoOp' and shots == 2")["accuracy"].item() == 66.5
    points = pd.read_csv(suite.root / "reports" / "curves" / "base_to_new.csv")
    assert set(points["method"]) == {METHODS[name] for name in files if "base" in files[name]}


def test_dvc_yaml_names_the_templates_and_columns():
    fields = {"few_shot": ("shots", "accuracy"), "base_to_new": ("base", "new")}
    for entry in DEFINITION["plots"]:
        (path, plot), = entry.items()
        name = path.removeprefix("reports/curves/").removesuffix(".csv")
        template = json.loads((PROJECT / ".dvc" / "plots" / f"{plot['template']}.json").read_text())
        assert (plot["x"], plot["y"]) == fields[name] and "<DVC_METRIC_DATA>" in str(template)
        assert plot["title"] and plot["x_label"] and plot["y_label"]
    assert "reports/metrics" in DEFINITION["metrics"]


@pytest.mark.parametrize("file", ["params.yaml", "params-paper.yaml"])
@pytest.mark.parametrize("key, value", [("coop.schedule.lr", 0.0123), ("aape.few_shot.mu", 7),
                                        ("dualview.schedule.lr", 0.5)])
def test_setting_a_parameter_changes_it_and_nothing_else(tmp_path, file, key, value):
    """DVC loses what it sets below a YAML anchor that another block repeats."""
    (tmp_path / "params.yaml").write_text((PROJECT / file).read_text())
    expected = yaml.safe_load((PROJECT / file).read_text())
    *above, last = key.split(".")
    inner = functools.reduce(lambda block, name: block.setdefault(name, {}), above, expected)
    known, inner[last] = last in inner, value
    apply_overrides(tmp_path / "params.yaml", [f"{'' if known else '+'}{key}={value}"])
    assert yaml.safe_load((tmp_path / "params.yaml").read_text()) == expected
    load_params(tmp_path / "params.yaml")


@pytest.fixture(scope="module")
def repository(trained, tiny_suite, tmp_path_factory):
    """A git and DVC project with the stages coop, evaluate (in brief) and metrics, all run."""
    root = tmp_path_factory.mktemp("experiments") / "project"
    shutil.copytree(PROJECT / "src", root / "src",
                    ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(tiny_suite / "data" / "clip", root / "data" / "clip")
    params = yaml.safe_load((tiny_suite / "params.yaml").read_text())
    params = {key: value for key, value in params.items() if key not in METHODS or key == "coop"}
    params |= {"data_root": None, "captioned": {}}
    params["datasets"].pop("figures")
    params["coop"]["schedule"]["lr"] = 0.002  # only keys that are there can be set
    params["transfer"]["domain"] = {}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "evaluate.py").write_text(EVALUATE)
    (root / ".gitignore").write_text("/data\n/artefacts\n/.work\n__pycache__/\n")
    made = load_params(root / "params.yaml")
    trained.pack.save(made.artefact("features", "shapes"))
    trained.backbone.save_record(root / "artefacts" / "backbones" / "shapes.json")
    stages = DEFINITION["stages"]
    absent = set(METHODS) - {"coop"}
    metrics = stages["metrics"] | {"params": ["coop"]}
    metrics["deps"] = [path for path in metrics["deps"]
                       if path.rpartition("/")[2].removesuffix(".py") not in absent]
    (root / "dvc.yaml").write_text(yaml.safe_dump({
        "stages": {
            "given": {"cmd": "true", "frozen": True, "deps": ["data"],
                      "outs": ["artefacts/backbones", "artefacts/features"]},
            "coop": stages["coop"],
            "evaluate": {"cmd": "python evaluate.py",
                         "deps": ["evaluate.py", "artefacts/coop/shapes.safetensors"],
                         "outs": [{path: {"cache": False}} for path in (
                             "reports/results.csv", "reports/results.sha256")]},
            "metrics": metrics},
        "metrics": DEFINITION["metrics"], "plots": DEFINITION["plots"]}))
    run(root, "git", "init", "--quiet")
    for key, value in (("user.name", "nobody"), ("user.email", "nobody@nowhere")):
        run(root, "git", "config", key, value)
    run(root, "dvc", "init", "--quiet")
    shutil.copytree(PROJECT / ".dvc" / "plots", root / ".dvc" / "plots")
    run(root, "dvc", "config", "core.analytics", "false")
    run(root, "dvc", "add", "--quiet", "data")
    run(root, "dvc", "commit", "--force", "given")
    run(root, "dvc", "repro")
    run(root, "git", "add", "--all")
    run(root, "git", "commit", "--quiet", "--message", "everything run")
    return root


def run(root, *command):
    """Run a command in a project as a user does whose environment has another copy installed."""
    path = BIN + os.pathsep + os.environ["PATH"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600,
                          env={**os.environ, "PATH": path, "PYTHONPATH": str(PROJECT / "src")})
    assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


def test_an_idea_runs_what_depends_on_it_and_can_be_compared(repository):
    said = run(repository, "dvc", "exp", "run", "--name", "slow", "-S", "coop.schedule.lr=0.0001")
    assert "Running stage 'coop@shapes'" in said and "Running stage 'metrics'" in said
    assert "given" not in said.replace("Stage 'given' didn't change", "")
    params = json.loads(run(repository, "dvc", "params", "diff", "--json"))
    assert params["params.yaml"]["coop.schedule.lr"]["new"] == 0.0001
    found = json.loads(run(repository, "dvc", "metrics", "show", "--json"))
    files = found[""]["data"]
    assert "01" in files["reports/metrics/coop.json"]["data"]["few_shot"]
    run(repository, "dvc", "metrics", "diff")
    page = run(repository, "dvc", "plots", "diff", "HEAD")
    html = (repository / "dvc_plots" / "index.html").read_text()
    assert "index.html" in page and "images per class" in html and "workspace" in html
    assert "accuracy on new classes" in html and "CoOp" in html
