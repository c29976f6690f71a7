"""Faults put into the tiny project: nothing is lost, nothing damaged is used, nothing stays behind.

The short form of `benchmarks/faults.py`.
"""

import json
import os
import random
import sys

import pytest
from tiny_project import PROJECT

from promptstudy import repro
from promptstudy.errors import UserError

sys.path.insert(0, str(PROJECT / "benchmarks"))
import faults


@pytest.fixture
def bare(tmp_path):
    """A DVC project of two stages that have not run."""
    from dvc.repo import Repo
    Repo.init(str(tmp_path), no_scm=True).close()
    (tmp_path / "dvc.yaml").write_text("""stages:
  one: {cmd: echo one > made, outs: [made]}
  many: {cmd: mkdir folder && echo many > folder/made, outs: [folder]}
""")
    return tmp_path


@pytest.mark.parametrize("damaged", [
    b"", b'{"write": {"x": {"pi', bytes(20), b'{"write": {"x": {"qid": 1}}}', b"[]", b"\xff"])
def test_a_list_of_who_uses_what_that_dvc_cannot_read_is_removed(bare, damaged):
    rwlock = bare / ".dvc" / "tmp" / "rwlock"
    rwlock.write_bytes(damaged)
    assert repro.sweep(bare) == [".dvc/tmp/rwlock"]
    assert not rwlock.exists()
    assert repro.reasons(bare)["one"]


@pytest.mark.parametrize("whole", [b"{}", b'{"write": {"x": {"pid": 1, "cmd": "dvc"}}}'])
def test_a_list_of_who_uses_what_that_dvc_can_read_stays(bare, whole):
    rwlock = bare / ".dvc" / "tmp" / "rwlock"
    rwlock.write_bytes(whole)
    assert repro.sweep(bare) == [] and rwlock.read_bytes() == whole


def test_another_dvc_at_work_is_told_in_a_message(bare):
    blocker = {"pid": os.getpid(), "cmd": "dvc repro one"}
    (bare / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(
        {"write": {str(bare / "made"): blocker}, "read": {}}))
    with pytest.raises(UserError, match=rf"another DVC command .*PID {os.getpid()}\): dvc repro"):
        repro.reasons(bare)


@pytest.mark.parametrize("damaged", [b"", bytes(20), b"schema: '2.0'\nstages: [", b"\xff"])
def test_a_damaged_lock_file_is_told_in_a_message(bare, damaged):
    (bare / "dvc.lock").write_bytes(damaged)
    with pytest.raises(UserError, match="dvc.lock.*git checkout dvc.lock"):
        repro.reasons(bare)


def test_a_damaged_file_in_the_cache_is_removed_and_made_again(bare, monkeypatch):
    from dvc.repo import Repo
    monkeypatch.chdir(bare)
    with Repo() as dvc:
        dvc.reproduce()
    assert repro.sweep(bare) == [] and "one" not in repro.reasons(bare)
    for path, name in ((bare / "made", "one"), (bare / "folder" / "made", "many")):
        cached = faults.in_cache(bare, path)
        cached.chmod(0o644)
        cached.write_text("damaged")
        cached.chmod(0o444)
        path.unlink()
        assert repro.sweep(bare) == [cached.relative_to(bare).as_posix()]
        assert name in repro.reasons(bare)
        with Repo() as dvc:
            dvc.reproduce()
        assert path.read_text() == f"{name}\n" and cached.read_text() == f"{name}\n"


@pytest.fixture(scope="module")
def faulty(project):
    return faults.Project(project)


def assert_nothing_lost(outcome):
    assert not outcome.lost and not outcome.orphans and not outcome.stray, outcome


@pytest.mark.slow
@pytest.mark.parametrize("victim, early", [  # early: while it imports and asks who runs it
    ("dvc SIGKILL", True), ("group SIGTERM", True), ("group SIGKILL", False),
    ("kernel SIGKILL", False)])
def test_a_killed_run_is_made_good_by_the_next_command(faulty, victim, early, monkeypatch):
    monkeypatch.setattr(faults, "PATIENCE", 60)  # the machine may be busy
    rng = random.Random(0)
    assert_nothing_lost(faults.kill(faulty, number=victim, rng=rng, victim=victim, early=early))


@pytest.mark.slow
def test_a_damaged_list_of_who_uses_what_is_made_good_by_the_next_command(faulty):
    outcome = faults.damage_rwlock(faulty, "cut", random.Random(0))
    assert outcome.noticed
    assert_nothing_lost(outcome)


@pytest.mark.slow
def test_a_second_run_beside_one_that_runs_says_so_and_ends(faulty):
    outcome = faults.twice(faulty, *faults.REPRO)
    assert outcome.noticed
    assert_nothing_lost(outcome)


@pytest.mark.slow
def test_one_flipped_bit_is_noticed(faulty, tmp_path):
    rng = random.Random(0)
    outcomes = [faults.flip_pack(faulty, rng, tmp_path), *faults.flip_artefacts(faulty, rng)]
    for kind, (path, read) in faults.inputs(faulty).items():
        outcomes.append(faults.flip_input(faulty, kind, path, read, rng))
    for outcome in outcomes:
        assert outcome.noticed, outcome
        assert not outcome.lost, outcome
        # what only DVC reads, or what may still be read as something else, is noticed by DVC
        assert outcome.refused or outcome.kind.removeprefix("bit: ") in (
            "backbones JSON", "params.schema.json", "CLIP's config", "CLIP's build.json",
            "split JSON", "queries.yaml"), outcome
