"""Random kills on a SLURM cluster: is everything recovered, and is anything computed twice?

    python benchmarks/cluster_faults.py [--kills 20] [--seed 0]

The small project of tests/slurm_cluster.py runs on the pretended cluster beside it, again and
again from nothing, until there were so many kills. A kill hits a job (all its processes), the
process of a stage, a node with all that runs on it, a slurmd alone, or slurmctld. A daemon is then
started again, and `cluster submit` is called whenever the queue is empty and stages are missing. A
run is recovered if `dvc repro` then runs nothing and results.csv has the bytes of a `dvc repro`
without a cluster. It needs root and SLURM, prints a line for each kill, and ends with 1 if a run
was not recovered or a stage was run again after it had finished.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from conftest import make_suite
from slurm_cluster import Cluster, cluster_command, make_small
from tiny_project import dvc, finish

from promptstudy.runcache import JOBS
from promptstudy.suite import git

SETTLED = 10  # seconds after which a node that is back has got all old orders
RESULTS = Path("reports") / "results.csv"


def kill_job(slurm, job, node):
    slurm.command("scancel", "--signal=KILL", "--full", job)


def kill_stage(slurm, job, node):
    for process in slurm.processes(node):
        with suppress(psutil.NoSuchProcess):
            if "DVC_STAGE" in process.environ():
                process.kill()


def kill_node(slurm, job, node):
    slurm.kill(node)
    slurm.wait(lambda: slurm.is_down(node))
    slurm.start(node)
    time.sleep(SETTLED)


def kill_slurmd(slurm, job, node):
    slurm.kill(node, alone=True)
    slurm.start(node)


def kill_slurmctld(slurm, job, node):
    slurm.kill("slurmctld")
    slurm.start("slurmctld")


VICTIMS = {"job": kill_job, "stage": kill_stage, "node": kill_node, "slurmd": kill_slurmd,
           "slurmctld": kill_slurmctld}


def run(root, slurm, rng, victims):
    """Run the pipeline in a project and kill the first of `victims`; return those that were."""
    killed = []
    while "nothing is missing" not in cluster_command(root, "submit"):
        while not slurm.idle():
            time.sleep(rng.uniform(1, 12))
            at_work = slurm.command("squeue", "-h", "-t", "R", "-o", "%i %N %j").splitlines()
            if at_work and len(killed) < len(victims):
                victim = victims[len(killed)]
                job, node, stage = rng.choice(at_work).split()
                VICTIMS[victim](slurm, job, node)
                killed.append(victim)
                print(f"killed: {victim}, job {job} ({stage}) on {node}", flush=True)
            slurm.hurry()
    return killed


def ended(root):
    """Return how often each stage's command has ended well, as the logs say."""
    return Counter(stage for log in (root / JOBS).glob("*.log")
                   for stage in re.findall(r"(?m)^(\S+): \d+ s$", log.read_text()))


def main():
    """Make the project, run it with and without a cluster, print."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    victims = [name for _ in range(-(-args.kills // len(VICTIMS)))
               for name in rng.sample(list(VICTIMS), len(VICTIMS))][:args.kills]
    killed, recovered, twice, runs = 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        suite, project = Path(folder, "suite"), Path(folder, "project")
        suite.mkdir()
        make_suite(suite)
        make_small(project, suite)
        finish(dvc(project, "repro"))
        with Cluster() as slurm:
            while killed < args.kills:
                root = Path(folder, f"run{runs}")
                git("clone", "--quiet", str(project), str(root))
                hit = run(root, slurm, rng, victims[killed:])
                said = finish(dvc(root, "repro"))
                same = (root / RESULTS).read_bytes() == (project / RESULTS).read_bytes()
                again = {stage: count for stage, count in ended(root).items() if count > 1}
                good = same and "Running stage" not in said
                print(f"run {runs}: {len(hit)} kills, {'recovered' if good else 'LOST'}, "
                      f"run again after they had finished: {again or 'none'}", flush=True)
                runs, killed = runs + 1, killed + len(hit)
                recovered += len(hit) * good
                twice += len(again)
    print(f"{runs} runs, {killed} kills, {recovered} recovered, {twice} stages run again")
    return recovered < killed or twice > 0


if __name__ == "__main__":
    sys.exit(main())
