"""The pipeline as jobs: which are sent, what a job does, and a run on a real SLURM cluster."""

import os
import shutil
from pathlib import Path

import pytest
import slurm_cluster
from slurm_cluster import cluster_command, commit, make_small
from tiny_project import PROJECT, dvc, finish

from promptstudy import budget, cluster
from promptstudy.cluster import Job, jobs_of
from promptstudy.errors import StageError, UserError
from promptstudy.lifetime import RAN
from promptstudy.runcache import JOBS, commit_of, missing, opened, run_stage
from promptstudy.suite import git

LEFT = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
# a page in git, a stage below each of two, and one that both end in
STAGES = """stages:
  a:
    cmd: echo a >> ../ran; cat src/x > artefacts-a; echo page > reports/a.html
    deps: [src/x]
    outs: [artefacts-a, {reports/a.html: {cache: false}}]
  b:
    cmd: echo b >> ../ran && test -e ../good && cat artefacts-a > b
    deps: [artefacts-a]
    outs: [b]
  c: {cmd: echo c >> ../ran && cat artefacts-a > c, deps: [artefacts-a], outs: [c]}
  d: {cmd: echo d >> ../ran && cat b c > d, deps: [b, c], outs: [d]}
"""


def test_jobs_wait_for_what_they_read():
    assert jobs_of(LEFT) == [Job(["a"], []), Job(["b"], ["a"]), Job(["c"], ["a"]),
                             Job(["d"], ["b", "c"])]
    assert jobs_of(LEFT, 2) == [Job(["a"], []), Job(["b", "c"], ["a"]), Job(["d"], ["b", "c"])]
    assert jobs_of({"d": ["b"]}) == [Job(["d"], ["b"])]  # b is in the queue
    assert jobs_of({}) == []


def test_the_time_on_several_gpus_is_that_of_a_schedule():
    hours = {"a": 1, "b": 2, "c": 3, "d": 1}
    assert budget.elapsed(LEFT, hours) == 1 + 3 + 1
    assert budget.elapsed(LEFT, hours, 2) == 5
    assert budget.elapsed(LEFT, hours, 1) == 7
    assert budget.elapsed({}, {}) == 0
    assert budget.elapsed({"a": [], "b": [], "c": []}, hours, 2) == 4


@pytest.fixture
def bare(tmp_path):
    """A git and DVC project of four small stages; `ran` beside it lists those that ran."""
    from dvc.repo import Repo
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / "reports").mkdir()
    (root / "src" / "x").write_text("x\n")
    (root / "reports" / "keep").write_text("")
    (root / "dvc.yaml").write_text(STAGES.replace("..", str(tmp_path)))
    (root / ".gitignore").write_text("/.work\n/artefacts-a\n/b\n/c\n/d\n")
    shutil.copy(PROJECT / "cluster.sbatch", root)
    git("init", "--quiet", folder=root)
    Repo.init(str(root)).close()
    commit(root)
    (tmp_path / "good").write_text("")
    return root


def left_in(root):
    with opened(root) as repo:
        return missing(repo)


def ran(root):
    return (root.parent / "ran").read_text().split()


def test_what_jobs_have_made_is_taken_from_the_cache_and_nothing_runs(bare):
    assert left_in(bare) == LEFT
    for stage in LEFT:
        run_stage(bare, stage, commit_of(bare))
    assert ran(bare) == list(LEFT) and not (bare / JOBS / "a").exists()
    run_stage(bare, "d", commit_of(bare))
    assert left_in(bare) == {} and ran(bare) == list(LEFT)
    assert (bare / "d").read_text() == "x\nx\n" and (bare / "reports" / "a.html").is_file()
    with opened(bare) as repo:
        assert repo.reproduce() == [] and not repo.status()


def test_what_the_project_s_folder_has_made_is_not_made_again_by_a_job(bare):
    with opened(bare) as repo:
        repo.reproduce("a")
    assert left_in(bare) == {"b": [], "c": [], "d": ["b", "c"]}
    run_stage(bare, "b", commit_of(bare))
    assert ran(bare) == ["a", "b"]


def test_tracked_data_is_put_in_its_place_and_never_overwritten(bare):
    (bare / "data").mkdir()
    for name in ("one", "two"):
        (bare / "data" / name).write_text(name)
    with opened(bare) as repo:
        repo.add("data")
    commit(bare)
    shutil.rmtree(bare / "data")
    assert left_in(bare) == LEFT and (bare / "data" / "two").read_text() == "two"
    (bare / "data" / "two").write_text("changed")
    with pytest.raises(UserError, match="data of data.dvc has changed; keep it with"):
        left_in(bare)
    assert (bare / "data" / "two").read_text() == "changed"
    shutil.rmtree(bare / "data")
    shutil.rmtree(bare / ".dvc" / "cache")
    with pytest.raises(UserError, match="not in DVC's cache; run `dvc pull data.dvc`"):
        left_in(bare)


def test_old_results_stay_until_there_are_new_ones(bare):
    with opened(bare) as repo:
        repo.reproduce()
    (bare / "cluster.sbatch").write_text("#SBATCH --partition=gpu\n")
    commit_of(bare)  # which does not mind that file
    (bare / "src" / "x").write_text("y\n")
    with pytest.raises(UserError, match="src/x: not as in the last commit"):
        commit_of(bare)
    commit(bare)
    assert left_in(bare) == LEFT and (bare / "d").read_text() == "x\nx\n"
    (bare / "src" / "x").write_text("x\n")
    assert left_in(bare) == {}


def test_a_stage_that_fails_keeps_its_folder_and_stops_those_below_alone(bare, capfd):
    (bare.parent / "good").unlink()
    with pytest.raises(StageError, match="b: failed"):
        cluster.run(bare, ["a", "b", "c"], commit_of(bare))
    said = capfd.readouterr().out
    assert "== a: done" in said and "== b: failed" in said and "== c: done" in said
    with pytest.raises(StageError, match="d needs b, which is not in the cache"):
        run_stage(bare, "d", commit_of(bare))
    assert left_in(bare) == {"b": [], "d": ["b"]}
    half = bare / JOBS / "b" / ".work"
    half.mkdir()
    (half / "setting").write_text("finished")
    (bare / "src" / "y").write_text("")
    commit(bare)  # the folder is given the new commit, and keeps what was finished
    with pytest.raises(StageError, match="b: failed to run: echo b"):
        run_stage(bare, "b", commit_of(bare))
    assert (half / "setting").is_file() and (bare / JOBS / "b" / "src" / "y").is_file()


def test_the_script_names_what_each_job_waits_for(bare):
    jobs = cluster.submit(bare, LEFT, "abc", 2, send=False)
    text = (bare / JOBS / cluster.SCRIPT).read_text()
    assert len(jobs) == 3 and text.count("sbatch --parsable") == 3
    assert '"--dependency=afterok:${job0}" cluster.sbatch --commit abc b c)' in text
    assert '"--dependency=afterok:${job1}" cluster.sbatch --commit abc d)' in text
    text = cluster.script(bare, jobs_of({"d": ["b", "c"]}), "abc", {"b": "7", "c": "8"})
    assert '"--dependency=afterok:7:8"' in text
    (bare / "cluster.sbatch").unlink()
    with pytest.raises(UserError, match="git checkout cluster.sbatch"):
        cluster.submit(bare, LEFT, "abc", send=False)


def test_without_slurm_the_message_says_so(bare, monkeypatch):
    with pytest.raises(UserError, match="nothing was sent yet"):
        cluster.states(bare)
    (bare / JOBS).mkdir(parents=True)
    (bare / JOBS / cluster.SENT).write_text("1 abc a\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no `squeue` here"):
        cluster.states(bare)


@pytest.fixture
def pretended(bare, tmp_path, monkeypatch):
    """`sbatch` prints the next id, `squeue` prints the file `queue` beside the project."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/sent\n"
                                  f"wc -l < {tmp_path}/sent\n")
    (tools / "squeue").write_text(f"#!/bin/sh\ncat {tmp_path}/queue\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    (tmp_path / "queue").write_text("")
    return bare


def test_what_is_in_the_queue_is_not_sent_again(pretended):
    cluster.submit(pretended, LEFT, "abc")
    queue = pretended.parent / "queue"
    queue.write_text(f"2|RUNNING|{pretended}\n3|PENDING|/elsewhere\n")
    jobs = cluster.submit(pretended, {"b": [], "d": ["b"]}, "abc")
    assert jobs == [Job(["d"], ["b"])]
    assert "--dependency=afterok:2 " in (pretended.parent / "sent").read_text().splitlines()[-1]
    with pytest.raises(UserError, match="job 2 .b. is of commit abc, not def"):
        cluster.submit(pretended, {"b": []}, "def")


def test_the_state_of_a_stage_is_told_from_queue_and_log(pretended):
    cluster.submit(pretended, LEFT, "abc", 2)
    assert {state.word for state in cluster.states(pretended)} == {"cancelled"}
    logs = pretended / JOBS
    (logs / "a-1.log").write_text("== a: begins on n1\n== a: done\n")
    (logs / "b-2.log").write_text("== b: begins on n1\n0%\r9%\rno such file\n== b: failed\n"
                                  "== c: begins on n1\n1%\r2%\r3%\n")
    (pretended.parent / "queue").write_text(f"2|RUNNING|{pretended}\n3|PENDING|{pretended}\n")
    found = {state.stage: state for state in cluster.states(pretended)}
    assert {stage: state.word for stage, state in found.items()} == {
        "a": "done", "b": "failed", "c": "RUNNING", "d": "PENDING"}
    assert "no such file" in found["b"].said and "3%" not in found["b"].said
    (pretended.parent / "queue").write_text("")
    found = {state.stage: state for state in cluster.states(pretended)}
    assert found["c"].word == "killed" and found["c"].said.endswith("3%")
    assert found["d"].word == "cancelled"


# --- a real cluster ------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.skipif(not slurm_cluster.available(),
                    reason="needs root and Debian's packages slurm-wlm and munge")
def test_a_cluster_that_loses_a_job_and_a_node_gives_the_bytes_of_dvc_repro(tiny_suite, tmp_path):
    project, alone = tmp_path / "project", tmp_path / "alone"
    make_small(project, tiny_suite)
    git("clone", "--quiet", str(project), str(alone))
    reference = dvc(alone, "repro")
    try:
        with slurm_cluster.Cluster() as slurm:
            assert "8 jobs" in cluster_command(project, "plan", "--gpus", "2")
            lose_a_job(project, slurm)
            lose_a_node(project, slurm)
        finish(reference)
    finally:
        reference.kill()  # if it has not ended; its stages end with it
    said = finish(dvc(project, "repro"))
    assert "Running stage" not in said and not (project / RAN).exists()
    results = Path("reports") / "results.csv"
    assert (project / results).read_bytes() == (alone / results).read_bytes()
    assert "nothing is missing" in cluster_command(project, "collect")


def words(project):
    return {state.stage: state.word for state in cluster.states(project)}


def log_of(project, slurm, stage):
    """Return the log of a stage's job as soon as the stage has begun."""
    pattern = f"{stage}-*.log"
    return slurm.wait(lambda: next((log for log in (project / JOBS).glob(pattern)
                                    if "begins" in log.read_text()), None))


def lose_a_job(project, slurm):
    assert "sent 8 jobs" in cluster_command(project, "submit")
    log_of(project, slurm, "features@shapes")
    slurm.command("scancel", "--signal=KILL", "--full", "--name=features@shapes", "--me")
    slurm.wait(slurm.idle)
    # what does not depend on it has gone on
    assert words(project) == {
        "check": "done", "shifted": "done", "features@shapes": "killed",
        **dict.fromkeys(["describe@shapes", "linear_probe@shapes", "coop@shapes", "evaluate",
                         "metrics"], "cancelled")}
    said = cluster_command(project, "status")
    assert "features@shapes: killed; .work/cluster/features@shapes-" in said


def lose_a_node(project, slurm):
    assert "sent 6 jobs" in cluster_command(project, "submit")
    log = log_of(project, slurm, "coop@shapes")
    node = slurm.command("squeue", "-h", "-n", "coop@shapes", "-o", "%N").strip()
    slurm.kill(node)
    slurm.wait(lambda: slurm.is_down(node))
    slurm.hurry()
    slurm.wait(lambda: log.read_text().count("== coop@shapes: begins") == 2)  # on the other node
    slurm.start(node)
    slurm.wait(slurm.idle)
    assert set(words(project).values()) == {"done"}, cluster_command(project, "status")
