"""A SLURM cluster on this machine for as long as it is needed: munged, slurmctld, and a slurmd for each node."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

from loopback import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
SYSTEM = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=2
MinJobAge=600
"""


def is_here():
    """Whether a cluster can be made here: all the programs, and root, whose processes slurmd starts jobs as."""
    return os.geteuid() == 0 and all(shutil.which(name, path=SYSTEM) for name in PROGRAMS)


@contextlib.contextmanager
def cluster(folder, nodes=2, cpus=4):
    """The environment for SLURM's commands. Nodes are of this machine, and have so many CPUs, whatever it has."""
    host = socket.gethostname()
    lines = [CONFIG.format(host=host, port=free_port(), folder=folder)]
    names = [f"n{i}" for i in range(1, nodes + 1)]
    for name in names:
        lines.append(f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cpus} "
                     "RealMemory=16000 State=UNKNOWN\n")
    lines.append(f"PartitionName=main Nodes={','.join(names)} Default=YES MaxTime=INFINITE State=UP\n")
    (folder / "slurm.conf").write_text("".join(lines))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    environment = {**os.environ, "PATH": SYSTEM, "SLURM_CONF": str(folder / "slurm.conf"),
                   "SBATCH_OUTPUT": str(folder / "job-%j.out")}
    commands = [["munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
                 f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log",
                 f"--seed-file={folder}/munge.seed"],
                ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]
    daemons = []

    def wait(seconds):
        time.sleep(seconds)
        for daemon in daemons:
            if daemon.poll() is not None:
                raise RuntimeError(f"{daemon.args} has ended: {(folder / 'slurm.log').read_text()}")

    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "slurm.log", "w"))
        for command in commands:
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            stack.callback(_end, daemons[-1])
            if command[0] == "munged":
                while not (folder / "munge.socket").exists():
                    wait(0.05)
        while True:
            shown = subprocess.run(["sinfo", "--noheader", "--format=%t %D"], env=environment, text=True, check=False,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            if shown.split() == ["idle", str(nodes)]:
                break
            wait(0.2)
        try:
            yield environment
        finally:   # jobs outlive the daemons
            _cancel_all(environment)


def _cancel_all(environment):
    """Cancel all jobs, and wait until none is left."""
    subprocess.run(["scancel", "--user", str(os.geteuid())], env=environment, check=True)
    while subprocess.run(["squeue", "--noheader"], env=environment, check=True, stdout=subprocess.PIPE).stdout:
        time.sleep(0.2)


def _end(process):
    process.terminate()
    process.wait()
