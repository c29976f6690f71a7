"""A SLURM cluster of two pretended nodes on this machine, for tests/test_cluster.py.

munged, slurmctld and two slurmd run as root without systemd, cgroups and accounting, each with its
files in one folder. What is different from a cluster is said beside each line of `CONF`.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
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
    """A running cluster in a new folder; use it in `with`. SLURM_CONF names `slurm.conf` there."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __enter__(self):
        munge = self.folder / "munge"
        munge.mkdir(parents=True, mode=0o755)
        (self.folder / "state").mkdir()
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        port = _free_ports(3)
        (self.folder / "slurm.conf").write_text(CONF.format(
            host=socket.gethostname().partition(".")[0], folder=self.folder, port=port,
            first=port + 1, last=port + 2))
        self.command("munged", "--force", f"--key-file={key}", f"--socket={munge}/socket",
                     f"--pid-file={self.folder}/munged.pid", f"--log-file={munge}/log",
                     f"--seed-file={munge}/seed")
        self.command("slurmctld")
        for node in NODES:
            self.start(node)
        self.wait(lambda: self.command("sinfo", "-h", "-o", "%D %t").split() == ["2", "idle"])
        return self

    def __exit__(self, *_):
        with suppress(AssertionError):
            self.command("scancel", "--me")
            self.wait(lambda: not self.command("squeue", "-h"), 20)
        for name in (*NODES, "slurmctld", "munged"):
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                daemon = psutil.Process(self.pid(name))
                daemon.terminate()
                daemon.wait(10)

    def command(self, *words):
        """Run a command of SLURM; return what it prints."""
        run = subprocess.run(words, text=True, capture_output=True, timeout=120)
        assert run.returncode == 0, (words, run.stderr)
        return run.stdout

    def pid(self, name):
        """The process id of a daemon: `slurmctld`, `munged` or a node."""
        return int((self.folder / f"{name}.pid").read_text())

    def start(self, node):
        """Start a node."""
        self.command("slurmd", "-N", node)

    def kill(self, node):
        """Kill a node as a power cut does: its slurmd and all that runs under it."""
        jobs = self.command("squeue", "-h", "-t", "R", "-w", node, "-o", "%i").split()
        victims = [psutil.Process(self.pid(node))]
        for process in psutil.process_iter(["cmdline"]):
            title = " ".join(process.info["cmdline"] or [])  # such as slurmstepd: [12.batch]
            if any(title.startswith(f"slurmstepd: [{job}.") for job in jobs):
                victims += [process, *process.children(recursive=True)]
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def wait(self, condition, seconds=600):
        """Wait until `condition()` is true; return what it gave. The machine may be busy."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, self.command("squeue", "-l")
            time.sleep(1)
        return value


def _free_ports(count):
    """Return the first of so many neighbouring free ports."""
    for first in range(26817, 30000, count):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
    raise RuntimeError("there are no free ports")
