"""A SLURM cluster of two pretended nodes on this machine, and a small project to run on it.

munged, slurmctld and two slurmd run as root without systemd, cgroups and accounting, each with its
files in one folder. What is different from a cluster is said beside each line of `CONF`.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from tiny_project import PROJECT, copy_project, dvc, environment, finish

from promptstudy.params import load_params
from promptstudy.stages import rewrite
from promptstudy.suite import git

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
NODES = ("n1", "n2")
CONF = """\
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
# a munged of our own, not the system's
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
# processes are found by their parents; cgroups would need systemd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# so that a test need not wait: look for work every second, give up a node after a few
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdTimeout=15
KillWait=2
ReturnToService=2
JobRequeue=1
# one real core each, and both nodes on this host
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=1
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def available():
    """Can a cluster be started here?"""
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


class Cluster:
    """A running cluster with its files in a new folder; use it in `with`.

    Commands of SLURM find it by `$SLURM_CONF`. Its daemons are children of this process, and the
    kernel ends them with it, whatever ends it.
    """

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # paths of sockets must be short
        self.conf, self.daemons = self.folder / "slurm.conf", {}

    def __enter__(self):
        os.environ["SLURM_CONF"] = str(self.conf)
        munge = self.folder / "munge"
        munge.mkdir(parents=True, mode=0o755)
        (self.folder / "state").mkdir()
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        port = _free_ports(3)
        self.conf.write_text(CONF.format(
            host=socket.gethostname().partition(".")[0], folder=self.folder, port=port,
            first=port + 1, last=port + 2))
        try:
            for name in ("munged", "slurmctld", *NODES):
                self.start(name)
            self.wait(lambda: self.command("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"],
                      60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in reversed(self.daemons):
            self.kill(name)
        del os.environ["SLURM_CONF"]
        shutil.rmtree(self.folder)

    def command(self, *words):
        """Run a command of SLURM; return what it prints."""
        run = subprocess.run(words, text=True, capture_output=True, timeout=120)
        assert run.returncode == 0, (words, run.stderr)
        return run.stdout

    def start(self, name):
        """Start `munged`, `slurmctld` or a node."""
        munge = self.folder / "munge"
        words = {"munged": ["munged", "--foreground", "--force", f"--key-file={munge}/key",
                            f"--socket={munge}/socket", f"--seed-file={munge}/seed",
                            f"--pid-file={munge}/pid"],
                 "slurmctld": ["slurmctld", "-D"]}.get(name, ["slurmd", "-D", "-N", name])
        self.daemons[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if name == "munged":
            self.wait((munge / "socket").exists, 20)

    def kill(self, name, alone=False):
        """Kill a daemon and, unless `alone`, all that runs on it if it is a node: a power cut."""
        self.daemons[name].kill()
        self.daemons[name].wait()
        for process in [] if alone else self.processes(name):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self, node):
        """Return the processes of the jobs on a node, those of SLURM first."""
        found = []
        for process in psutil.process_iter(["environ"]):
            told = process.info["environ"] or {}
            if (told.get("SLURM_CONF"), told.get("SLURMD_NODENAME")) == (str(self.conf), node):
                found.append(process)
                with suppress(psutil.NoSuchProcess):
                    if process.parent().name() == "slurmstepd":
                        found.insert(0, process.parent())
        return found

    def wait(self, condition, seconds=600):
        """Wait until `condition()` is true; return what it gave. The machine may be busy."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(1)
        return value

    def is_down(self, node):
        """Has the cluster given up a node?"""
        return node in self.command("sinfo", "-h", "-t", "down", "-o", "%N")

    def hurry(self):
        """Let jobs that were sent back to the queue begin, which SLURM would do in two minutes.

        Do not call this in the first seconds of a node that is back: an order to end its old jobs
        is on its way to it then, and hits a job that has begun again there.
        """
        for line in self.command("squeue", "-h", "-t", "PD", "-o", "%i %r").splitlines():
            job, reason = line.split(maxsplit=1)
            if reason == "BeginTime":
                self.command("scontrol", "update", f"JobId={job}", "StartTime=now")

    def logs(self):
        """Return the ends of SLURM's logs, as text."""
        return "\n".join(f"{path.name}\n{path.read_text()[-2000:]}"
                         for path in self.folder.glob("*.log"))

    def idle(self):
        """Is the queue empty?"""
        return not self.command("squeue", "--noheader")


def _free_ports(count):
    """Return the first of so many neighbouring free ports."""
    for first in range(26817, 30000, count):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
    raise RuntimeError("there are no free ports")


def make_small(root, suite):
    """Make `root` a git project of the tiny suite: one dataset, CoOp, few pages, for time's sake.

    Eight stages are left, none of which has run.
    """
    copy_project(root, suite)
    params = yaml.safe_load((root / "params.yaml").read_text())
    for name in ("kgcoop", "prograd", "dualpt", "dualview", "aape"):
        del params[name]
    params["captioned"] = {}
    del params["datasets"]["figures"], params["transfer"]["domain"]["photos"]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    rewrite(load_params(root / "params.yaml"))
    definition = yaml.safe_load((root / "dvc.yaml").read_text())
    for name in ("pocket_clip", "captioning", "coop_page", "captions", "figures", "report"):
        del definition["stages"][name]
    (root / "dvc.yaml").write_text(yaml.safe_dump(definition))
    # edited for this cluster, whose nodes have one core and no environment of their own
    lines = (PROJECT / "cluster.sbatch").read_text().splitlines(keepends=True)
    (root / "cluster.sbatch").write_text("".join(
        line for line in lines if "--mem" not in line and "--cpus" not in line
        and "activate" not in line))
    (root / ".gitignore").write_text("/.work\n/artefacts\n/reports\n__pycache__/\n")
    git("init", "--quiet", folder=root)
    finish(dvc(root, "init", "--quiet"))
    finish(dvc(root, "config", "core.analytics", "false"))
    shutil.copy(PROJECT / ".dvcignore", root)
    commit(root)


def cluster_command(project, *words):
    """Run `promptstudy cluster` in a project; return what it prints."""
    run = subprocess.run([sys.executable, "-m", "promptstudy", "cluster", *words], cwd=project,
                         env=environment(project), text=True, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def commit(root):
    """Commit everything in a git project."""
    git("add", "--all", folder=root)
    git("-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message", "m",
        folder=root)
