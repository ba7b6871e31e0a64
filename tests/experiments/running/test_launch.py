"""The launcher, with real processes: what they are given, and that none of them outlives it or waits for another."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Notes what it was given, under its role and process; the scheduler listens until it is called.
NOTE = """
import os, socket, sys, time
role, folder = os.environ["DMLC_ROLE"], sys.argv[1]
if role == "scheduler":
    listener = socket.create_server((os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])))
    listener.accept()
path = os.path.join(folder, f"{role}-{os.getpid()}")
with open(path + ".tmp", "w") as file:
    file.write(repr((sys.argv[2:], os.getcwd(), dict(os.environ))))
os.rename(path + ".tmp", path)
"""
WAIT = NOTE + "time.sleep(10**6)"
# Takes a second to end when it is asked to.
CLEAN_UP = """
import os, signal, sys, time
path = os.path.join(sys.argv[1], f"child-{os.getpid()}")
def end(*_):
    time.sleep(1)
    with open(path, "w") as file:
        file.write("'cleaned up'")
    sys.exit()
signal.signal(signal.SIGTERM, end)
with open(path, "w") as file:
    file.write("''")
time.sleep(10**6)
"""
ODD = ["/a b", "a;touch X", "$HOME", "'", '"', "*", "", "\\", "a\nb", "ü"]


def launch(folder, script, *arguments, options=("-n", "2", "-s", "1")):
    return subprocess.Popen([sys.executable, "-m", "experiments.launch", *options, sys.executable, "-c", script,
                             str(folder), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=_heed_hangups)


def _heed_hangups():
    """Also where these tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def noted(folder):
    """What `NOTE` wrote, by role and process."""
    return {path.name: ast.literal_eval(path.read_text()) for path in folder.iterdir() if path.suffix != ".tmp"}


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def wait_for_the_end_of(folder):
    """The processes that have noted anything."""
    for name in noted(folder):
        while runs(name.rpartition("-")[2]):
            time.sleep(0.05)


def runs(number):
    """Whether the process with this number has not ended. One that has may stay, as a zombie (Z)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_each_process_gets_its_role_and_the_arguments_as_they_are(tmp_path):
    process = launch(tmp_path, NOTE, *ODD)
    assert process.communicate() == ("", "") and process.returncode == 0
    made = noted(tmp_path)
    assert sorted(name.partition("-")[0] for name in made) == ["scheduler", "server", "worker", "worker"]
    assert all(arguments == ODD for arguments, _, _ in made.values())
    for _, _, environment in made.values():
        assert environment["DMLC_NUM_WORKER"] == "2" and environment["DMLC_NUM_SERVER"] == "1"
        assert environment["DMLC_PS_ROOT_URI"] == environment["DMLC_NODE_HOST"] == "127.0.0.1"   # loopback alone
    assert not (tmp_path / "X").exists()


def test_by_default_there_are_as_many_servers_as_workers(tmp_path):
    assert launch(tmp_path, NOTE, options=("-n", "2")).communicate() == ("", "")
    made = noted(tmp_path)
    assert sorted(name.partition("-")[0] for name in made) == ["scheduler", *["server"] * 2, *["worker"] * 2]
    assert {environment["DMLC_NUM_SERVER"] for _, _, environment in made.values()} == {"2"}


def test_each_training_has_a_port_of_its_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    both = [launch(tmp_path / name, NOTE) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
    ports = [{environment["DMLC_PS_ROOT_PORT"] for _, _, environment in noted(tmp_path / name).values()}
             for name in ("a", "b")]
    assert [len(of_one) for of_one in ports] == [1, 1]
    assert ports[0] != ports[1]


@pytest.mark.parametrize("ends, status, error", [
    ("sys.exit(3)", 3, ""), ("sys.exit(72)", 72, ""),   # by ssh, 72 is a checkout that is missing
    ("os.kill(os.getpid(), 9)", 137, "launch: server 0 was killed by signal 9\n")])
def test_one_that_fails_ends_all_with_its_status(tmp_path, ends, status, error):
    process = launch(tmp_path, NOTE + f"if role == 'server': {ends}\ntime.sleep(10**6)")
    assert process.communicate() == ("", error)
    assert process.returncode == status
    wait_for_the_end_of(tmp_path)


def test_what_a_command_that_fails_has_started_ends_with_it(tmp_path):
    """As of a script around the training, which is killed itself."""
    script = NOTE.replace("import os,", "import os, subprocess,") + f"""
if role == "server":
    child = subprocess.Popen([sys.executable, "-c", {CLEAN_UP!r}, folder], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    while not os.path.exists(os.path.join(folder, f"child-{{child.pid}}")):
        time.sleep(0.01)
    sys.exit(3)
time.sleep(10**6)
"""
    process = launch(tmp_path, script)
    assert process.communicate() == ("", "") and process.returncode == 3
    child, = (name for name in noted(tmp_path) if name.startswith("child-"))
    wait_for_the_end_of(tmp_path)
    assert noted(tmp_path)[child] == "cleaned up"   # it had the time for that


def test_what_is_wrong_with_the_command_is_told_once(tmp_path):
    process = launch(tmp_path, NOTE.replace("if role", "sys.exit('no such thing')\nif role"))
    assert process.communicate() == ("", "no such thing\n") and process.returncode == 1
    process = launch(tmp_path, "pass")
    assert process.communicate()[1].count("\n") == 1 and process.returncode == 1
    result = subprocess.run([sys.executable, "-m", "experiments.launch", "-n", "2", str(tmp_path / "none")],
                            stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, f"launch: {tmp_path / 'none'}: No such file or directory\n")
    assert not noted(tmp_path)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129),
                                            (signal.SIGKILL, -9)])
def test_none_outlives_the_launcher(tmp_path, number, status):
    process = launch(tmp_path, WAIT)
    wait_for(lambda: len(noted(tmp_path)) == 4, process)
    process.send_signal(number)
    output, error = process.communicate()
    assert process.returncode == status
    assert (output, error) == ("", "launch: interrupted; the same command makes the rest\n"
                               if number == signal.SIGINT else "")
    wait_for_the_end_of(tmp_path)


@pytest.mark.parametrize("arguments, message", [
    ((), "-n/--num-workers"), (("-n", "2"), "the command is missing"),
    (("-n", "0", "x"), "'0' is not a positive whole number"),
    (("-n", "2", "-s", "x", "x"), "'x' is not a positive whole number"),
    (("-n", "2", "--launcher", "ssh", "x"), "needs a --hostfile"),
    (("-n", "2", "--launcher", "ssh", "-H", "none", "x"), "none: No such file or directory"),
    (("-n", "2", "--launcher", "mpi", "x"), "invalid choice: 'mpi'")])
def test_bad_options_are_one_line(arguments, message):
    result = subprocess.run([sys.executable, "-m", "experiments.launch", *arguments], stderr=subprocess.PIPE, text=True,
                            check=False)
    assert result.returncode == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


LAUNCH_BY_SSH = (sys.executable, "-m", "experiments.launch", "-n", "1", "--launcher", "ssh", "-H")


@pytest.mark.parametrize("content, message", [
    ("node1 slots=2\n", "'node1 slots=2' is not [USER@]HOST[:PORT]"), ("one:two\n", "'one:two' is not [USER@]HOST"),
    ("me@\n", "'me@' is not [USER@]HOST"), ("me@you@node1\n", "'me@you@node1' is not [USER@]HOST"),
    ("# none\n\n", "names no host"), (b"\xff", "is not a text")])
def test_a_host_file_with_other_lines_is_refused(tmp_path, content, message):
    path = tmp_path / "hosts"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = subprocess.run([*LAUNCH_BY_SSH, path, "x"], stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert f"{path}: {message}" in result.stderr and result.stderr.count("\n") == 1


WITHOUT_A_ROUTE = ("unshare", "--user", "--map-root-user", "--net")
CAN_UNSHARE = subprocess.run([*WITHOUT_A_ROUTE, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.skipif(not CAN_UNSHARE, reason="needs a network namespace")
def test_without_a_way_to_the_hosts_it_says_so(tmp_path):
    (tmp_path / "hosts").write_text("192.0.2.1\n")
    result = subprocess.run([*WITHOUT_A_ROUTE, *LAUNCH_BY_SSH, tmp_path / "hosts", "x"], stderr=subprocess.PIPE,
                            text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "launch: 192.0.2.1: no route leads to it from here\n")


# As ssh: the other machine's processes are in a session of their own, are told of the end of the connection alone, and
# have none of this one's variables.
SSH = """#!/bin/sh
test "$1 $2 $3 $4 $5" = "-o BatchMode=yes -p 2222 --" || exit 9
echo "$6" >> "$0.hosts"
exec setsid --wait env -i PATH="$PATH" sh -c "$7"
"""
# One by each of the names and prefixes that are passed on.
VARIABLES = {"DMLC_INTERFACE": "lo", "MXNET_HOME": "/a b", "NAMSG_SILENT_SECONDS": "7 ' ;", "OMP_NUM_THREADS": "1",
             "PS_VERBOSE": "0", "LD_LIBRARY_PATH": "/none", "PYTHONPATH": "/none"}


@pytest.fixture
def by_ssh(tmp_path, monkeypatch):
    """A folder with a stand-in for ssh, which is on the path, and the launcher's options for it."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {**VARIABLES, "ANOTHER": "1"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hosts").write_text("# two hosts\none:2222  # the first\n\ntwo:2222\n")
    return ssh, ("-n", "2", "-s", "1", "--launcher", "ssh", "-H", str(tmp_path / "hosts"))


def test_by_ssh_they_get_the_same(tmp_path, by_ssh):
    ssh, options = by_ssh
    folder = tmp_path / "made"
    folder.mkdir()
    process = launch(folder, NOTE, *ODD, options=options)
    assert process.communicate() == ("", "") and process.returncode == 0
    assert sorted((ssh.parent / "ssh.hosts").read_text().split()) == ["one", "one", "two"]
    made = noted(folder)
    assert len(made) == 4
    for arguments, where, _ in made.values():
        assert (arguments, where) == (ODD, os.getcwd())
    # The scheduler runs here.
    for environment in (environment for name, (_, _, environment) in made.items() if not name.startswith("scheduler")):
        assert VARIABLES.items() <= environment.items()
        assert "ANOTHER" not in environment
    process = launch(folder, NOTE + "if role == 'worker': sys.exit(3)\ntime.sleep(10**6)", options=options)
    assert process.wait() == 3
    wait_for_the_end_of(folder)


def test_by_ssh_none_outlives_the_launcher(tmp_path, by_ssh):
    folder = tmp_path / "made"
    folder.mkdir()
    process = launch(folder, WAIT, options=by_ssh[1])
    wait_for(lambda: len(noted(folder)) == 4, process)
    process.kill()
    process.wait()
    wait_for_the_end_of(folder)
