"""A real Slurm of several nodes on one machine: as root, without systemd, cgroups or /etc."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "munged")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,requeue_delay=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=15
SlurmdTimeout=5
InactiveLimit=0
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs={cpus} \
CoresPerSocket={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=scavenge Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE \
GraceTime=15
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None when it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} missing (Debian's slurm-wlm, slurmctld, slurmd and munge)"
    return None if os.geteuid() == 0 else "a test's Slurm wants root"


class SlurmCluster:
    """Nodes n1, n2, ... with the partitions main and, preempted by it, scavenge.

    The cluster's commands find it by the variable SLURM_CONF.
    """

    def __init__(self, folder: Path, *, nodes: int = 2, cpus: int = 4) -> None:
        self.folder = folder
        self.nodes = nodes
        for part in ("state", "spool", "log", "run", "munge"):
            (folder / part).mkdir(parents=True)
        (folder / "munge").chmod(0o711)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        port = _free_ports(nodes + 1)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().split(".")[0],
                port=port,
                ports=f"{port + 1}-{port + nodes}" if nodes > 1 else port + 1,
                nodes=nodes,
                cpus=cpus,
            )
        )
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self._run(
            "munged",
            "--force",
            "--num-threads=2",
            f"--key-file={key}",
            f"--socket={folder}/munge/socket",
            f"--pid-file={folder}/run/munged.pid",
            f"--log-file={folder}/log/munged.log",
            f"--seed-file={folder}/munge/seed",
        )
        self._run("slurmctld")
        for node in range(1, nodes + 1):
            self.start_node(f"n{node}")
        self.wait_idle()

    def start_node(self, name: str) -> None:
        self._run("slurmd", "-N", name)

    def crash_node(self, name: str) -> None:
        """End the node's daemon and all that runs below it, as when its power fails."""
        daemon = self._pid(f"slurmd-{name}")
        steps = [pid for pid in _processes() if _environment(pid).get("SLURMD_NODENAME") == name]
        for pid in [daemon, *steps]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop_controller(self) -> None:
        """Kill the controller; what runs on the nodes goes on."""
        pid = self._pid("slurmctld")
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def start_controller(self) -> None:
        self._run("slurmctld")

    def wait_idle(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            states = self._run("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
            if states.count("idle") == self.nodes:
                return
            time.sleep(0.2)
        raise TimeoutError(f"the nodes are {states}")

    def command(self, *argv: str) -> str:
        return self._run(*argv)

    def clear(self) -> None:
        """End all jobs and wait until every node is idle."""
        with suppress(subprocess.CalledProcessError):
            self._run("scancel", "-u", "root")
        self.wait_idle()

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._run("scancel", "-u", "root")
        for file in sorted((self.folder / "run").glob("*.pid"), reverse=True):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)

    def _pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def _run(self, *argv: str) -> str:
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, _, value in pairs}


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for first in range(26_800, 30_000, count + 1):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
    raise OSError("no free ports")
