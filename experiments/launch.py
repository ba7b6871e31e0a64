"""Starts the processes of a training on MXNet's kvstore, and ends them all if one fails or the launcher is ended.

    python -m experiments.launch -n 2 -s 2 --launcher local python -m experiments run CONFIG --kvstore dist_sync

The scheduler runs here. Servers and workers run here, too (``local``), or in turn on a host file's machines (``ssh``).
This replaces ``mxnet/tools/launch.py``, which does not run on Python 3.9 and newer, passes the command unquoted to a
shell, leaves processes behind, and exits with 0 when one of them has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from experiments.vocabulary.counts import count

GRACE_SECONDS = 3    # after one process has failed, for the others to say why they end
KILL_SECONDS = 10    # until a process that was asked to end is killed
PASSED_ON = ("DMLC_", "MXNET_", "NAMSG_", "OMP_", "PS_", "LD_LIBRARY_PATH", "PYTHONPATH")   # variables sent by ssh
HOST = re.compile(r"(?P<login>(?:[^\s:@]+@)?(?P<name>[^\s:@]+))(?::(?P<port>[0-9]+))?", re.ASCII)
NO_FOLDER = 72       # exit status of a host without this folder; EX_OSFILE in sysexits.h
# Runs the command on another machine until standard input ends, as it does with the launcher or the connection.
REMOTE = """cd {folder} 2>/dev/null || exit {no_folder}
exec 3<&0
env {variables} {command} </dev/null 3<&- &
command=$!
(cat <&3; kill $command) >/dev/null 2>&1 &
wait $command
status=$?
kill $! 2>/dev/null
exit $status
"""


class Host(NamedTuple):
    """A machine that ssh reaches as ``login``, with or without a user, and the others as ``name``.

    ``port`` is sshd's; None: ssh chooses, as its configuration says.
    """

    login: str
    name: str
    port: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Launch, and return the exit status: 0, else the first failed process's.

    If a signal ended that process or the launcher, 128 + its number.
    """
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:   # nohup ignores SIGHUP
            signal.signal(number, _raise)
    try:
        return _launch(options)
    except KeyboardInterrupt:
        print("launch: interrupted; the same command makes the rest", file=sys.stderr)
        return 130
    except _Ended as ended:
        return 128 + ended.args[0]
    except OSError as error:   # no such command, or no way to the hosts
        print(f"launch: {error.filename}: {error.strerror}" if error.filename else f"launch: {error}", file=sys.stderr)
        return 2


class _Ended(Exception):
    """The launcher was ended by a signal, whose number is the argument."""


def _raise(number: int, _) -> None:
    """A signal handler that raises, so that the processes are ended on the way out."""
    raise _Ended(number)


def _launch(options: argparse.Namespace) -> int:
    address = "127.0.0.1" if options.launcher == "local" else _own_address([host.name for host in options.hosts])
    shared = {"DMLC_PS_ROOT_URI": address, "DMLC_PS_ROOT_PORT": str(_free_port(address)),
              "DMLC_NUM_WORKER": str(options.num_workers), "DMLC_NUM_SERVER": str(options.num_servers)}
    with _processes() as processes:
        scheduler = _start(options.command, {**shared, "DMLC_ROLE": "scheduler", "DMLC_NODE_HOST": address})
        processes["the scheduler"] = scheduler
        # First the scheduler alone, until it listens: so an error in the command is printed once, and nobody waits.
        while not _listens(address, int(shared["DMLC_PS_ROOT_PORT"])):
            if scheduler.poll() is not None:
                if scheduler.returncode == 0:
                    print("launch: the scheduler's process ended: its command joins no kvstore", file=sys.stderr)
                return _status(scheduler) or 1
            time.sleep(0.1)
        others = [("server", i) for i in range(options.num_servers)]
        others += [("worker", i) for i in range(options.num_workers)]
        for i, (role, number) in enumerate(others):
            host = options.hosts[i % len(options.hosts)] if options.hosts else None
            variables = {**shared, "DMLC_ROLE": role, "DMLC_NODE_HOST": host.name if host else address}
            name = f"{role} {number}" + (f" on {host.name}" if host else "")
            processes[name] = (_start_on(host, options.command, variables) if host else
                               _start(options.command, variables))
        return _wait(processes)


def _wait(processes: Mapping[str, subprocess.Popen]) -> int:
    """Wait until all processes have ended, or one has failed and the others had time to say why they end.

    Returns 0, or the first failed process's status.
    """
    first, deadline = 0, None
    while True:
        statuses = {name: process.poll() for name, process in processes.items()}
        failed = [(name, status) for name, status in statuses.items() if status]
        if failed and deadline is None:
            (name, status), deadline = failed[0], time.monotonic() + GRACE_SECONDS
            first = _status(processes[name])
            # Say what the process could not say itself.
            if status < 0:
                print(f"launch: {name} was killed by signal {-status}", file=sys.stderr)
            elif status == NO_FOLDER and processes[name].stdin:   # started by `_start_on`
                print(f"launch: {name}: there is no {os.getcwd()}; each host needs the checkout under one path",
                      file=sys.stderr)
        if None not in statuses.values() or deadline is not None and time.monotonic() > deadline:
            return first
        time.sleep(0.1)


@contextlib.contextmanager
def _processes() -> Iterator[dict[str, subprocess.Popen]]:
    """Yields a dict for processes by name; on leaving, they and all that they have started are ended."""
    processes: dict[str, subprocess.Popen] = {}
    try:
        yield processes
    finally:
        # A second Ctrl-C must not leave any behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _signal(processes.values(), signal.SIGTERM)
        deadline = time.monotonic() + KILL_SECONDS
        while _signal(processes.values(), 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(processes.values(), signal.SIGKILL)
        for process in processes.values():
            process.wait()


def _signal(processes: Iterable[subprocess.Popen], number: int) -> bool:
    """Send a signal to processes and all that they have started, also where only these still run.

    Returns whether any still runs; the signal 0 only asks. One that has ended with 0 is left out: it may have ended
    long ago, and its number be another's.
    """
    still_run = False
    for process in processes:
        if process.poll() != 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
                still_run = True
    return still_run


def _start(command: Sequence[str], variables: Mapping[str, str], **options) -> subprocess.Popen:
    """Start a process here, in a session of its own, so that Ctrl-C reaches only the launcher."""
    return subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True,
                            preexec_fn=_end_with_launcher, **options)


def _start_on(host: Host, command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen:
    """Start a process on another machine by ssh."""
    passed = {key: value for key, value in {**os.environ, **variables}.items() if key.startswith(PASSED_ON)}
    remote = REMOTE.format(folder=shlex.quote(os.getcwd()), no_folder=NO_FOLDER, command=shlex.join(command),
                           variables=" ".join(shlex.quote(f"{key}={value}") for key, value in passed.items()))
    port = ["-p", host.port] if host.port else []
    return _start(["ssh", "-o", "BatchMode=yes", *port, "--", host.login, f"exec sh -c {shlex.quote(remote)}"], {},
                  stdin=subprocess.PIPE)


def _end_with_launcher() -> None:
    """Called in a starting process: Linux will end it when the launcher ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)   # PR_SET_PDEATHSIG


def _status(process: subprocess.Popen) -> int:
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _free_port(address: str) -> int:
    """A free port, usually another one each time, so no process left from an earlier training connects."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        return listener.getsockname()[1]


def _listens(address: str, port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((address, port)) == 0


def _own_address(hosts: Sequence[str]) -> str:
    """The address by which other machines reach this one; found without sending anything.

    It is that of the default route, or, in a network without one, of the route to a host. OSError without either.
    """
    # Not the hosts first: this machine's own name often means 127.0.1.1, which no other reaches.
    for destination in ("10.255.255.255", *hosts):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller, contextlib.suppress(OSError):
            caller.connect((destination, 1))
            return caller.getsockname()[0]
    raise OSError(errno.ENETUNREACH, "no route leads to it from here", hosts[0])


class _LauncherParser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"launch: {message} ({self.prog} --help shows what is possible)\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _LauncherParser(prog="python -m experiments.launch", description=__doc__.partition("\n")[0])
    parser.add_argument("-n", "--num-workers", type=count, required=True, metavar="N")
    parser.add_argument("-s", "--num-servers", type=count, metavar="N", help="(default: as many as workers)")
    parser.add_argument("--launcher", choices=("local", "ssh"), default="local",
                        help="where servers and workers run (default: local)")
    parser.add_argument("-H", "--hostfile", type=_hosts, dest="hosts", metavar="FILE",
                        help="with ssh: the other machines, one a line: [USER@]HOST[:PORT] (sshd's port), # a comment")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what each process runs")
    options = parser.parse_args(arguments)
    options.command = options.command[options.command[:1] == ["--"]:]
    if not options.command:
        parser.error("the command is missing")
    if (options.launcher == "ssh") != bool(options.hosts):
        parser.error("--launcher ssh needs a --hostfile, and local takes none")
    options.num_servers = options.num_servers or options.num_workers
    return options


def _hosts(path: str) -> list[Host]:
    """The hosts of a host file. Empty lines and comments ('# ...') are left out."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {getattr(error, 'strerror', 'is not a text')}") from error
    hosts = []
    for line in (stripped for line in lines if (stripped := line.partition("#")[0].strip())):
        host = HOST.fullmatch(line)
        if not host:
            raise argparse.ArgumentTypeError(f"{path}: {line!r} is not [USER@]HOST[:PORT]")
        hosts.append(Host(**host.groupdict()))
    if not hosts:
        raise argparse.ArgumentTypeError(f"{path}: names no host")
    return hosts


if __name__ == "__main__":
    sys.exit(main())
