"""The data sets: real MNIST as its files say, files that are missing or damaged, and the rendered digits."""

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

import gzip
import hashlib
import http.server
import os
import tarfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from mxnet.gluon.data import vision
from tiny_experiment import REAL_DATA

from experiments.commands import cli
from experiments.training import data, download, rendered_digits
from experiments.vocabulary.errors import UsageError

DIGITS = {"name": "rendered_digits", "train": 500, "test": 100, "seed": 0}


@REAL_DATA
def test_real_mnist():
    train, test = data.load({"name": "mnist"}, None)
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.images.dtype == np.float32
    assert (train.images.min(), train.images.max()) == (0, 1)
    assert train.images.mean() == pytest.approx(0.1307, abs=1e-4)   # as published with many MNIST models
    assert list(train.labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert list(np.bincount(test.labels)) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("home, expected", [("/data", "/data"), ("~/mx", "{home}/mx"), (None, "{home}/.mxnet")])
def test_without_a_folder_given_it_is_mxnets(home, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NAMSG_DATA", raising=False)
    monkeypatch.delenv("MXNET_HOME", raising=False)
    if home:
        monkeypatch.setenv("MXNET_HOME", home)
    assert data.find_folder(None) == Path(expected.format(home=tmp_path), "datasets")


def test_a_user_without_a_home_gives_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", "~no-such-user/mx")
    monkeypatch.setenv("NAMSG_DATA", str(tmp_path))
    assert data.find_folder(None) == tmp_path
    monkeypatch.delenv("NAMSG_DATA")
    with pytest.raises(UsageError, match="no such home; give the data sets' folder as --data or NAMSG_DATA"):
        data.find_folder(None)


@REAL_DATA
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_arrays_are_those_that_mxnet_reads(name):
    part = data.load({"name": name}, None).test
    root = str(Path(os.environ["NAMSG_DATA"], name))
    images, labels = {"mnist": vision.MNIST, "cifar10": vision.CIFAR10}[name](root=root, train=False)[:]
    np.testing.assert_array_equal(part.labels, labels)
    pixels = images.asnumpy().transpose(0, 3, 1, 2).astype(np.float32)
    if name == "cifar10":
        train, _ = vision.CIFAR10(root=root, train=True)[:]
        pixels -= train.asnumpy().mean(axis=0, dtype=np.float64).astype(np.float32).transpose(2, 0, 1)
    np.testing.assert_array_equal(part.images, pixels / np.float32(255))


@REAL_DATA
def test_unpacked_files_are_found_too(tmp_path):
    """CIFAR-10 as its authors' archive unpacks it, MNIST without gzip."""
    official = Path(os.environ["NAMSG_DATA"])
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-batches-bin").symlink_to((official / "cifar10").resolve())
    (tmp_path / "mnist").mkdir()
    for name in download.MNIST:
        (tmp_path / "mnist" / name[:-3]).write_bytes(gzip.decompress((official / "mnist" / name).read_bytes()))
    for name in data.FILES:
        unpacked, packed = data.load({"name": name}, str(tmp_path)), data.load({"name": name}, None)
        np.testing.assert_array_equal(unpacked.test.images, packed.test.images)
        np.testing.assert_array_equal(unpacked.train.labels, packed.train.labels)


@REAL_DATA
@pytest.mark.parametrize("name", download.MNIST)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, name):
    """One byte of one file is changed; the others are the official ones."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for other in download.MNIST:
        (folder / other).symlink_to(Path(os.environ["NAMSG_DATA"], "mnist", other).resolve())
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"{name}: damaged .*; replace it by the official file"):
        data.load({"name": "mnist"}, str(tmp_path))


def tiny_files(name):
    """The files of a data set with images of pixels 0 and 255, as `download` has them: two to train on and one for
    tests; in CIFAR-10, five and one."""
    def grey(pixels):
        return bytes(16) + b"".join(bytes([pixel]) * 28 * 28 for pixel in pixels)

    def coloured(label, pixel):
        return bytes([label, *[pixel] * 3 * 32 * 32])

    if name == "mnist":
        contents = [gzip.compress(each, mtime=0)   # else by the second: the same in every call
                    for each in (grey([0, 255]), bytes(8) + b"\7\3", grey([255]), bytes(8) + b"\1")]
    else:
        contents = [coloured(label, 255 if label == 4 else 0) for label in range(5)] + [coloured(9, 255)]
    return dict(zip(getattr(download, name.upper()), contents))


def put(files, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.fixture(params=["mnist", "cifar10"])
def tiny(request, monkeypatch):
    """A data set's name, and its files, which are taken for the official ones."""
    files = tiny_files(request.param)
    monkeypatch.setitem(data.FILES, request.param, [{name: hashlib.sha1(content).hexdigest()}
                                                    for name, content in files.items()])
    return request.param, files


def test_the_formats_of_the_official_files_are_read(tmp_path, tiny):
    name, files = tiny
    put(files, tmp_path / name)
    train, test = data.load({"name": name}, str(tmp_path))
    labels, pixels, shape = {"mnist": ([7, 3, 1], [0, 1, 1], (1, 28, 28)),
                             "cifar10": ([0, 1, 2, 3, 4, 9], [-0.2] * 4 + [0.8, 0.8], (3, 32, 32))}[name]
    images = np.concatenate([train.images, test.images])
    assert [*train.labels, *test.labels] == labels and len(test.labels) == 1
    assert images.dtype == np.float32 and images.shape[1:] == shape
    for image, pixel in zip(images, pixels):
        np.testing.assert_allclose(image, pixel, rtol=1e-6)


def test_each_file_of_which_a_byte_differs_is_damaged(tmp_path, tiny):
    """Also where it can still be read, as if it were of the pixels."""
    name, files = tiny
    for damaged, content in files.items():
        put(files, tmp_path / name)
        (tmp_path / name / damaged).write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        with pytest.raises(UsageError, match=f"{damaged}: damaged .*; replace it by the official file"):
            data.load({"name": name}, str(tmp_path))


@pytest.mark.parametrize("given", ["--data", "NAMSG_DATA", None])
def test_files_are_downloaded_to_mxnets_folder_alone(tmp_path, monkeypatch, tiny, given):
    (name, files), downloaded = tiny, []

    def download_to(name, place):
        downloaded.append(place)
        put(files, place)

    monkeypatch.setattr(download, "download", download_to)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.delenv("NAMSG_DATA", raising=False)
    if given == "NAMSG_DATA":
        monkeypatch.setenv("NAMSG_DATA", str(tmp_path / "mine"))
    folder = str(tmp_path / "mine") if given == "--data" else None
    if given:
        with pytest.raises(UsageError, match=f"{tmp_path / 'mine' / name}/.*: not found"):
            data.load({"name": name}, folder)
        assert downloaded == []
        return
    for _ in range(2):
        data.load({"name": name}, folder)
    assert downloaded == [tmp_path / "datasets" / name]


@pytest.mark.parametrize("given", ["--data", "MXNET_HOME"])
def test_a_folder_that_cannot_be_looked_into_is_a_wrong_option(tmp_path, monkeypatch, tiny, given):
    """And not a failure of each run: here its name is too long."""
    long = str(tmp_path / ("a" * 300))
    monkeypatch.setenv("MXNET_HOME", long)
    monkeypatch.delenv("NAMSG_DATA", raising=False)
    with pytest.raises(UsageError, match="aaa/.*: File name too long"):
        data.load({"name": tiny[0]}, long if given == "--data" else None)


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    folder = tmp_path / "my data"
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte.gz: not found; put the official file there, or .*"
                                         f"python -m experiments data --data '{folder}'$"):
        data.load({"name": "mnist"}, str(folder))


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"train-images-idx3-ubyte.gz: Is a directory"):
        data.load({"name": "mnist"}, str(tmp_path))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server of both tiny data sets, which are taken for the official ones. Nobody else is asked."""
    folder = tmp_path / "mirror"
    for name in data.FILES:
        files = tiny_files(name)
        sums = {file: hashlib.sha1(content).hexdigest() for file, content in files.items()}
        monkeypatch.setitem(data.FILES, name, [{file: sums[file]} for file in files])
        monkeypatch.setattr(download, name.upper(), sums)
        put(files, folder / name)
    with tarfile.open(folder / "cifar10" / download.CIFAR10_ARCHIVE, "w:gz") as archive:
        for file in download.CIFAR10:
            archive.add(folder / "cifar10" / file, f"{download.CIFAR10_FOLDER}/{file}")
    monkeypatch.setattr(download, "PLACES", dict.fromkeys(data.FILES, ()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(download.MIRROR, f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


def test_the_command_downloads_what_is_missing_and_checks_all(tmp_path, mirror, capsys):
    folder = tmp_path / "my data"
    told = (f"{folder / 'mnist'}: 2 training and 1 test images, the official ones\n"
            f"{folder / 'cifar10'}: 5 training and 1 test images, the official ones\n")
    assert cli.main(["data", "--data", str(folder)]) == 0
    assert capsys.readouterr().out == told
    for name in data.FILES:
        assert tiny_files(name) == {path.name: path.read_bytes() for path in (folder / name).iterdir()
                                    if path.name != ".lock"}
    mirror.shutdown()
    mirror.server_close()   # from now on nobody answers
    assert cli.main(["data", "--data", str(folder)]) == 0
    assert tuple(capsys.readouterr()) == (told, "")
    (folder / "cifar10" / "test_batch.bin").write_bytes(b"half")
    assert cli.main(["data", "--data", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{folder / 'cifar10' / 'test_batch.bin'}: damaged" in error and error.count("\n") == 1


def test_rendered_digits_are_images_of_all_digits():
    train, test = data.load(DIGITS, None)
    assert train.images.shape == (500, 1, 28, 28)
    assert test.images.shape == (100, 1, 28, 28)
    assert (train.images >= 0).all()
    assert (train.images <= 1).all()
    assert set(train.labels) == set(range(10))
    ink = train.images.reshape(500, -1).mean(axis=1)
    assert ((ink > 0.03) & (ink < 0.5)).all()   # none is empty, none is full


def test_rendered_digits_derive_from_the_seed():
    images, labels = rendered_digits.render(50, 1, "train")
    again, same_labels = rendered_digits.render(50, 1, "train")
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, same_labels)
    for seed, part in ((2, "train"), (1, "test")):
        assert not np.array_equal(images, rendered_digits.render(50, seed, part)[0])


def test_rendered_digits_can_be_told_apart():
    """The nearest training image predicts labels far better than chance."""
    train, test = (rendered_digits.render(n, 0, part) for n, part in ((2000, "train"), (200, "test")))
    a, b = (images.reshape(len(images), -1).astype(np.float64) for images, _ in (train, test))
    distances = (b**2).sum(1)[:, None] + (a**2).sum(1) - 2 * b @ a.T
    assert (train[1][distances.argmin(axis=1)] == test[1]).mean() > 0.7
