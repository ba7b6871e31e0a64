"""The data sets as arrays; files are checked before they are used."""

from __future__ import annotations

import namsg_mx  # noqa: F401  # isort: skip  (makes MXNet importable on newer versions of NumPy)

import hashlib
import os
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import numpy as np
from filelock import FileLock
from mxnet.gluon.data import vision

from experiments import rendered_digits
from experiments.errors import UsageError

# SHA-1 sums of the official files, as mxnet.gluon.data.vision has them.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
    "train-labels-idx1-ubyte.gz": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
    "t10k-images-idx3-ubyte.gz": "c3a25af1f52dad7f726cce8cacb138654b760d48",
    "t10k-labels-idx1-ubyte.gz": "763e7fa3757d93b0cdec073cef058b2004252c17",
}
CIFAR10_FILES = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}


class Part(NamedTuple):
    """Images, float32 of shape (n, channels, height, width), and labels, int32 of shape (n,).

    Pixels are in [0, 1]; those of CIFAR-10 then have the mean of the training images at their place subtracted.
    """

    images: np.ndarray
    labels: np.ndarray


class DataSet(NamedTuple):
    """The two parts of a data set."""

    train: Part
    test: Part


def load(data: Mapping[str, Any], folder: str | None) -> DataSet:
    """The data set that a configuration's ``data`` block names.

    ``folder`` is where data sets lie, each in a subfolder of its name; None: the environment's NAMSG_DATA, else MXNet's
    own, to which missing files are downloaded. Raises UsageError, naming the file, if one is missing or damaged.
    """
    if data["name"] == "rendered_digits":
        return DataSet(*(_part(*rendered_digits.render(data[part], data["seed"], part)) for part in ("train", "test")))
    folder = folder or os.environ.get("NAMSG_DATA")
    read = {"mnist": _mnist, "cifar10": _cifar10}[data["name"]]
    return read(Path(folder or _mxnet_folder(), data["name"]), download=not folder)


def _part(images: np.ndarray, labels: np.ndarray) -> Part:
    """From 28x28 grey images, uint8."""
    return Part(images.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255), labels)


def _mnist(folder: Path, download: bool) -> DataSet:
    return DataSet(*(_part(images, labels) for images, labels in _read(vision.MNIST, folder, MNIST_FILES, download)))


def _cifar10(folder: Path, download: bool) -> DataSet:
    parts = [Part(images.transpose(0, 3, 1, 2).astype(np.float32, order="C"), labels)
             for images, labels in _read(vision.CIFAR10, folder, CIFAR10_FILES, download)]
    mean = parts[0].images.mean(axis=0, dtype=np.float64).astype(np.float32)
    for part in parts:
        np.subtract(part.images, mean, out=part.images)
        np.divide(part.images, np.float32(255), out=part.images)
    return DataSet(*parts)


def _read(data_set: type, folder: Path, files: Mapping[str, str], download: bool) -> list:
    """Images, uint8 of shape (n, height, width, channels), and labels of both parts of a data set of MXNet's."""
    _check_files(folder, files, download)
    if not all((folder / name).exists() for name in files):
        _download(data_set, folder, len(files))
    parts = [data_set(root=str(folder), train=train)[:] for train in (True, False)]
    return [(images.asnumpy(), labels) for images, labels in parts]


def _check_files(folder: Path, sums: Mapping[str, str], download: bool) -> None:
    for name, expected in sums.items():
        path = folder / name
        try:
            found = hashlib.sha1(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            if download:
                continue
            raise UsageError(f"{path}: not found; put the official file there, or leave out --data and NAMSG_DATA "
                             "to have it downloaded") from None
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        if found != expected:
            remedy = "delete it to have it downloaded again" if download else "replace it by the official file"
            raise UsageError(f"{path}: damaged (its SHA-1 is {found}, not {expected}); {remedy}")


def _download(data_set: type, folder: Path, count: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder / ".lock")):   # one process downloads, the others wait for its files
            data_set(root=str(folder), train=True)
            data_set(root=str(folder), train=False)
    except Exception as error:   # whatever network and disk can raise
        reason = " ".join(str(error).split())
        raise UsageError(f"{folder}: {data_set.__name__} could not be downloaded ({reason}); put its {count} files "
                         "there, or give their place by --data") from error


def _mxnet_folder() -> Path:
    return Path(os.environ.get("MXNET_HOME", Path.home() / ".mxnet"), "datasets")
