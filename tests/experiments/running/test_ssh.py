"""The launcher by a real sshd: two addresses of the loopback device as two hosts, each with a checkout of its own."""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback import free_port
from tiny_experiment import CONFIG, numbers, write_config

CHECKOUT = Path(__file__).parents[3]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
SILENT_SECONDS = 10   # also while they start, on a busy machine
CAN_MOUNT = ["unshare", "--mount", "mount", "--bind", "/tmp", "/tmp"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    SSHD is None or not shutil.which("ssh") or os.geteuid() != 0 or not shutil.which("unshare")
    or subprocess.run(CAN_MOUNT, stderr=subprocess.DEVNULL, check=False).returncode != 0,
    reason="needs sshd and ssh, and root that may mount, by which a host has its own view of the file system")]

SSHD_CONFIG = """
ListenAddress {host}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
PermitRootLogin yes
PasswordAuthentication no
StrictModes no
UsePAM no
SetEnv HOME={folder}
"""   # a home of its own, so that a login runs nobody's .bashrc, which may print anything
SSH_CONFIG = """
IdentityFile {folder}/user_key
UserKnownHostsFile /dev/null
StrictHostKeyChecking no
LogLevel ERROR
"""


class Hosts:
    """Two hosts, 127.0.0.2 and 127.0.0.3: a home at one path, which is another folder on the second."""

    def __init__(self, folder):
        self.folder, self._homes, self._servers = folder, (folder / "home", folder / "the other's home"), []
        for home in self._homes:
            checkout = home / "the checkout"
            for name in ("experiments", "namsg_mx"):
                shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
            write_config(checkout, CONFIG.replace("seeds: 0-1", "seeds: 0-0"))

    def start(self):
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)
        (self.folder / "ssh_config").write_text(SSH_CONFIG.format(folder=self.folder))
        ssh = self.folder / "bin" / "ssh"   # so that nobody's own configuration is asked
        ssh.parent.mkdir()
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder}/ssh_config "$@"\n')
        ssh.chmod(0o755)
        empty_folder = "mount -t tmpfs tmpfs /run && mkdir /run/sshd"   # which sshd asks for, and nobody else sees
        ports = {}
        for host, view in (("127.0.0.2", "true"), ("127.0.0.3", 'mount --bind "$1" "$2"')):
            ports[host] = free_port()
            config = self.folder / f"{host}.config"
            config.write_text(SSHD_CONFIG.format(host=host, port=ports[host], folder=self.folder))
            self._servers.append(subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", f'{empty_folder} && {view} && exec {SSHD} -D -e -f "$3"', "sh",
                 self._homes[1], self._homes[0], config], stderr=subprocess.DEVNULL))
        # The port of the first in the host file, with a user, and of the second in ssh's configuration.
        first, second = ports
        (self.folder / "hosts").write_text(f"{getpass.getuser()}@{first}:{ports[first]}\n{second}\n")
        with open(self.folder / "ssh_config", "a") as file:
            file.write(f"Host {second}\nPort {ports[second]}\n")
        for address in ports.items():
            while True:
                with socket.socket() as caller:
                    if caller.connect_ex(address) == 0:
                        break
                assert all(server.poll() is None for server in self._servers)
                time.sleep(0.05)

    def stop(self):
        for server in self._servers:
            server.terminate()
            server.wait()

    def launch(self, results, *arguments, **environment):
        """The launcher, in the checkout: two workers, and two servers, one of each on each host."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "experiments.launch", "-n", "2", "-s", "2", "--launcher", "ssh", "-H",
             str(self.folder / "hosts"), sys.executable, "-m", "experiments", "run", "tiny.yaml", "--results",
             str(results), "--kvstore", "dist_sync", "--method", "namsg", *arguments],
            cwd=self._homes[0] / "the checkout", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment})

    def forget_the_second_checkout(self):
        shutil.rmtree(self._homes[1] / "the checkout")

    def processes_of(self, host):
        """The numbers of the training's processes on a host, by what the launcher told them."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                told = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes()
            except OSError:   # it has ended
                continue
            if f"DMLC_NODE_HOST={host}".encode() in told and b"\0experiments\0run\0" in command:
                found.append(int(process.name))
        return found


@pytest.fixture
def hosts(tmp_path):
    made = Hosts(tmp_path)
    made.start()
    yield made
    made.stop()


def test_two_hosts_train_stop_together_and_go_on(hosts, tmp_path):
    results, whole = tmp_path / "the results", tmp_path / "whole"
    process = hosts.launch(results, "--epochs", "60", NAMSG_SILENT_SECONDS=str(SILENT_SECONDS))
    while not list(results.glob("tiny/namsg/*/checkpoint.zip")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert len(hosts.processes_of("127.0.0.2")) == len(hosts.processes_of("127.0.0.3")) == 2
    for number in hosts.processes_of("127.0.0.3"):
        os.kill(number, signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in error
    assert not hosts.processes_of("127.0.0.2")
    assert not list(results.glob("tiny/namsg/*/done.json"))
    for folder in (results, whole):
        process = hosts.launch(folder, "--epochs", "60")
        assert process.communicate()[1] == ""
        assert process.returncode == 0
    assert numbers(results) == numbers(whole)


def test_a_checkout_that_is_missing_on_one_host_ends_all(hosts, tmp_path):
    hosts.forget_the_second_checkout()
    process = hosts.launch(tmp_path / "results")
    _, error = process.communicate()
    assert process.returncode == 72
    assert re.fullmatch("launch: (server|worker) [01] on 127.0.0.3: there is no .*/the checkout; each host needs the "
                        "checkout under one path\n", error)
    assert not (tmp_path / "results").exists()
