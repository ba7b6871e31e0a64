"""Downloads from real servers on this machine: places that are dead, slow, or give something else than the files."""

import hashlib
import http.server
import io
import os
import socket
import subprocess
import sys
import tarfile
import textwrap
import threading
from collections import Counter

import pytest

from experiments.training import download
from experiments.vocabulary.errors import UsageError

CONTENT = bytes(range(256)) * 1000
FILES = {name: hashlib.sha1(name.encode() + CONTENT).hexdigest() for name in ("a.gz", "b.gz")}


class MirrorServer(http.server.ThreadingHTTPServer):
    """``answers`` by the first folder of the path: bytes of a file by its name, or what becomes of these."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Counter()
        self.then_seconds = {}   # `download.SECONDS` for those that are asked after this place
        self.ends = threading.Event()   # the wait of those that stall
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        place, _, name = self.path.lstrip("/").partition("/")
        name = name.rpartition("/")[2]
        self.server.asked[place, name] += 1
        if place in self.server.then_seconds:
            download.SECONDS = self.server.then_seconds[place]
        if place == "missing":
            self.send_error(404)
            return
        content = archive(of_folders=place == "folders") if name.endswith(".tar.gz") else name.encode() + CONTENT
        if place == "wrong":
            content = b"<html>moved</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:1000] if place in ("truncated", "stalled") else content)
        if place == "stalled":
            self.wfile.flush()
            self.server.ends.wait()

    def log_message(self, *arguments):
        pass


def archive(of_folders=False):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in FILES:
            content = name.encode() + CONTENT
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 0 if of_folders else len(content)
            member.type = tarfile.DIRTYPE if of_folders else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def server(monkeypatch):
    server = MirrorServer()
    monkeypatch.setattr(download, "MNIST", FILES)
    monkeypatch.setattr(download, "CIFAR10", FILES)
    monkeypatch.delenv(download.MIRROR, raising=False)
    yield server
    server.ends.set()
    server.shutdown()
    server.server_close()


def places(monkeypatch, *urls):
    monkeypatch.setattr(download, "PLACES", {"mnist": urls, "cifar10": urls})


def dead():
    """The address of a server that is no more."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def is_complete(folder):
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    return found == {name: name.encode() + CONTENT for name in FILES}


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("first", ["dead", "missing", "wrong", "truncated", "stalled"])
def test_the_next_place_is_asked_where_one_fails(tmp_path, monkeypatch, server, name, first):
    if first == "stalled":
        monkeypatch.setattr(download, "SECONDS", 3)
        server.then_seconds = {"stalled": 3600, "good": 3}   # a busy machine makes the good place slow, too
    places(monkeypatch, dead() if first == "dead" else f"{server.url}/{first}", f"{server.url}/good")
    download.download(name, tmp_path / name)
    assert is_complete(tmp_path / name)


def test_the_error_names_all_places_and_what_can_be_done(tmp_path, monkeypatch, server):
    places(monkeypatch, dead(), f"{server.url}/missing", f"{server.url}/wrong", f"{server.url}/truncated")
    with pytest.raises(UsageError) as error:
        download.download("mnist", tmp_path)
    message = str(error.value)
    for url in download.PLACES["mnist"]:
        assert f"{url}/a.gz: " in message
    assert "404" in message and f"{server.url}/wrong/a.gz: not the official file" in message
    assert f"{tmp_path}: a.gz could not be downloaded" in message and "by hand" in message and "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_data_set_that_is_nowhere_to_be_had(tmp_path):
    with pytest.raises(UsageError, match=f"^{tmp_path}: mine cannot be downloaded; put its files there by hand$"):
        download.download("mine", tmp_path)


def test_of_an_archive_what_is_put_there_by_hand_is_its_content(tmp_path, monkeypatch):
    places(monkeypatch, dead())
    with pytest.raises(UsageError, match="put the file there by hand, unpacked, name a mirror"):
        download.download("cifar10", tmp_path)


def test_an_archive_with_a_folder_in_a_files_place_is_not_the_official_one(tmp_path, monkeypatch, server):
    places(monkeypatch, f"{server.url}/folders")
    with pytest.raises(UsageError, match=r"cifar-10-binary\.tar\.gz: its a\.gz is not the official one"):
        download.download("cifar10", tmp_path)


def test_ones_own_mirror_is_asked_first(tmp_path, monkeypatch, server):
    places(monkeypatch, f"{server.url}/good")
    monkeypatch.setenv(download.MIRROR, f"{server.url}/own/")
    download.download("mnist", tmp_path)
    assert is_complete(tmp_path)
    assert server.asked == {("own", name): 1 for name in FILES}


@pytest.mark.parametrize("name", ["a.gz", "a"])
def test_what_is_there_is_not_downloaded_again(tmp_path, monkeypatch, server, name):
    places(monkeypatch, f"{server.url}/good")
    (tmp_path / name).write_bytes(b"a.gz" + CONTENT)
    download.download("mnist", tmp_path)
    assert server.asked == {("good", "b.gz"): 1}


def test_a_full_disk_is_named_at_once(tmp_path, monkeypatch, server):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], check=False,
                      stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        places(monkeypatch, f"{server.url}/good", f"{server.url}/next")
        with pytest.raises(UsageError, match=f"{tmp_path}.*: No space left on device"):
            download.download("mnist", tmp_path)
        assert server.asked == {("good", "a.gz"): 1}
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_of_two_processes_one_downloads(tmp_path, server):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from experiments.training import download
        url, folder, *files = sys.argv[1:]
        download.MNIST = dict(zip(files[::2], files[1::2]))
        download.PLACES = {"mnist": (url,)}
        download.download("mnist", Path(folder))
    """)
    command = [sys.executable, "-c", script, f"{server.url}/good", str(tmp_path),
               *(word for pair in FILES.items() for word in pair)]
    processes = [subprocess.Popen(command, env={**os.environ, download.MIRROR: ""}) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert is_complete(tmp_path)
    assert server.asked == {("good", name): 1 for name in FILES}
