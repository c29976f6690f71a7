"""Other suites: their params are the papers' own, and a folder that runs one leaves ours alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from promptstudy.datasets.layouts import LAYOUTS
from promptstudy.datasets.sources import PIECES
from promptstudy.errors import ParamsError
from promptstudy.llm.queries import read_queries
from promptstudy.params import Setting, load_params
from promptstudy.plans import count_epochs, schedule_of
from promptstudy.suite import frozen_outputs, make_suite

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def paper():
    return load_params(PROJECT / "params-paper.yaml")


# its params


def test_every_layout_is_in_the_suite_under_its_own_name(paper):
    assert {name: block.layout for name, block in paper.every_dataset.items()} \
        == {name: name for name in LAYOUTS}
    assert set(paper.transfer.domain) == {
        name for name, layout in LAYOUTS.items() if layout.test_only}


def test_templates_are_coops(paper):
    own = {"oxford_pets": "a photo of a {}, a type of pet.",
           "oxford_flowers": "a photo of a {}, a type of flower.",
           "fgvc_aircraft": "a photo of a {}, a type of aircraft.", "dtd": "{} texture.",
           "eurosat": "a centered satellite photo of {}.",
           "food101": "a photo of {}, a type of food.", "ucf101": "a photo of a person doing {}."}
    for name, block in paper.datasets.items():
        assert block.template == own.get(name, "a photo of a {}.")


def test_named_backbones_are_openais(paper):
    text = (PROJECT / "params-paper.yaml").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith("name: "))
    names = line.replace("name:", "").replace("# or", ",").replace(" ", "").split(",")
    assert names[0] == paper.backbone.name and paper.backbone.pretrained == "openai"
    assert {name.removesuffix("-quickgelu") for name in names} == {
        "RN50", "RN101", "ViT-B-32", "ViT-B-16"}
    assert {(name, "openai") for name in names} <= set(open_clip.list_pretrained())


@pytest.mark.parametrize("dataset, epochs", [
    ("imagenet", [50, 50, 50, 50, 50]), ("dtd", [50, 100, 100, 200, 200])])
def test_coops_schedule(paper, dataset, epochs):
    setting = Setting("few_shot", paper.coop.few_shot, 16)
    schedule = schedule_of(paper, "coop", dataset, setting)
    assert [count_epochs(schedule, shots, 10**6) for shots in (1, 2, 4, 8, 16)] == epochs
    assert (schedule.lr, schedule.batch_size, schedule.momentum, schedule.weight_decay,
            schedule.warmup_epochs, schedule.warmup_lr) == (0.002, 32, 0.9, 5e-4, 1, 1e-5)


def test_contexts_are_the_papers(paper):
    assert paper.coop.few_shot.label == "M16" and paper.prograd.base_to_new.label == "w1-M4-words"
    assert paper.coop.base_to_new.label == "M4-words" and paper.coop.base_to_new.n_ctx == 4
    assert (paper.shots, paper.seeds, paper.base_to_new_shots) == ([1, 2, 4, 8, 16], [1, 2, 3], 16)


def test_queries_fit_the_suite(paper):
    queries = read_queries(paper)
    assert set(queries.subjects) <= set(paper.datasets) and len(queries.queries) == 5


def test_the_laptop_suite_measures_what_the_papers_have_numbers_of(paper):
    laptop = load_params(PROJECT / "params-laptop.yaml")
    assert laptop.backbone.name == "RN50-quickgelu" and laptop.backbone.pretrained == "openai"
    for name, block in laptop.datasets.items():
        assert block == paper.datasets[name]
        assert not any(piece.by_hand for piece in PIECES[name])  # `fetch` brings all of it
    assert laptop.coop.few_shot == paper.coop.few_shot
    ours, theirs = laptop.coop.schedule, paper.coop.schedule
    assert ours.epochs == {shots: theirs.epochs[shots] for shots in laptop.shots}
    assert ours.model_copy(update={"epochs": {}, "epochs_on": {}}) == theirs.model_copy(
        update={"epochs": {}, "epochs_on": {}})
    assert read_queries(laptop).queries


# the folder that runs it


@pytest.fixture
def project(own_suite):
    """A project as git has it: the tiny suite's with its results, and the other suites' params."""
    for name in ("params-paper.yaml", "params-laptop.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, own_suite)
    for queries in (PROJECT / "llm").glob("*.yaml"):
        shutil.copy(queries, own_suite / "llm")
    shutil.copytree(PROJECT / "notebooks", own_suite / "notebooks")
    (own_suite / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc" / "config", own_suite / ".dvc")
    (own_suite / "reports").mkdir()
    for path in (*frozen_outputs(PROJECT), "reports/02_features-shapes.html",
                 "reports/results.csv"):
        (own_suite / path).write_text(path)
    (own_suite / "dvc.lock").write_text("schema: '2.0'\n")
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for command in (["init", "--quiet"], ["add", "--force", "."],
                    [*author, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *command], cwd=own_suite, check=True)
    return own_suite


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True,
                          text=True).stdout


def test_folder_runs_the_suite_and_the_first_is_left_alone(project, tmp_path):
    before = git(project, "rev-parse", "HEAD")
    make_suite(project, "paper", tmp_path / "paper", tmp_path / "data root")
    assert git(project, "status", "--porcelain") == "" and git(project, "rev-parse", "HEAD") \
        == before
    assert load_params(project / "params.yaml").suite == "tiny"
    params = load_params(tmp_path / "paper" / "params.yaml")
    assert (params.suite, params.data_root) == ("paper", tmp_path / "data root")
    # no result of the other suite is taken for one of this
    kept = {f"reports/{path.name}" for path in (tmp_path / "paper" / "reports").iterdir()}
    assert kept == {"reports/00_pocket_clip.html", "reports/09_captioning.html",
                    "reports/captioning.csv"}
    assert not (tmp_path / "paper" / "dvc.lock").exists()
    assert git(tmp_path / "paper", "branch", "--show-current") == "suite-paper\n"


def test_dvc_makes_the_suites_stages_there(project, tmp_path):
    make_suite(project, "paper", tmp_path / "paper")
    dvc = Path(sys.executable).with_name("dvc")
    stages = subprocess.run([dvc, "stage", "list", "--name-only"], cwd=tmp_path / "paper",
                            check=True, capture_output=True, text=True).stdout.split()
    assert {stage.partition("@")[2] for stage in stages if stage.startswith("coop@")} \
        == {name for name, layout in LAYOUTS.items() if not layout.test_only}


@pytest.mark.parametrize("name, folder, message", [
    ("papers", "new", r"params-papers.yaml does not exist; there are the suites: laptop, paper"),
    ("paper", ".", "exists already; give another folder")])
def test_suite_that_does_not_exist_and_folder_that_does(project, tmp_path, name, folder, message):
    with pytest.raises(ParamsError, match=message):
        make_suite(project, name, tmp_path / folder)


def test_project_without_git(own_suite, tmp_path):
    shutil.copy(PROJECT / "params-paper.yaml", own_suite)
    with pytest.raises(ValueError, match="git clone failed: "):
        make_suite(own_suite, "paper", tmp_path / "paper")


def test_unusable_params_make_no_folder(project, tmp_path):
    path = project / "params-paper.yaml"
    path.write_text(path.read_text().replace("seeds:", "seed:"))
    with pytest.raises(ParamsError, match="seed: unknown key; did you mean 'seeds'"):
        make_suite(project, "paper", tmp_path / "paper")
    assert not (tmp_path / "paper").exists()
