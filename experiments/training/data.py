"""The data sets as arrays, read from files whose bytes are checked first."""

from __future__ import annotations

import gzip
import hashlib
import os
import shlex
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import numpy as np

from experiments.training import download, rendered_digits
from experiments.vocabulary.errors import UsageError

# Each file of a data set by the paths where it may lie in the data set's folder (packed, unpacked), with SHA-1 sums.
UNZIPPED_MNIST = {
    "train-images-idx3-ubyte": "c3557c10f29b266e19b3eeee1553c85e0ef4a8ea",
    "train-labels-idx1-ubyte": "adbf52269f5d842899f287c269e2883e40b4f6e2",
    "t10k-images-idx3-ubyte": "65e11ec1fd220343092a5070b58418b5c2644e26",
    "t10k-labels-idx1-ubyte": "a6d52cc628797e845885543326e9f10abb8a6f89",
}
FILES = {
    "mnist": [{name: sha1, download.unzipped(name): UNZIPPED_MNIST[download.unzipped(name)]}
              for name, sha1 in download.MNIST.items()],
    "cifar10": [{name: sha1, f"{download.CIFAR10_FOLDER}/{name}": sha1} for name, sha1 in download.CIFAR10.items()],
}


class Part(NamedTuple):
    """Images, float32 of shape (n, channels, height, width), and labels, int32 of shape (n,).

    Pixels are in [0, 1]; from CIFAR-10's, the training images' mean image is subtracted.
    """

    images: np.ndarray
    labels: np.ndarray


class DataSet(NamedTuple):
    """A data set: the part for training and the part for tests."""

    train: Part
    test: Part


def load(data: Mapping[str, Any], folder: str | None) -> DataSet:
    """The data set that a configuration's ``data`` block names.

    ``folder`` holds each data set in a subfolder of its name. None is NAMSG_DATA from the environment if set, else
    MXNet's own folder, and only there missing files are downloaded. UsageError, naming the file, if one is missing or
    damaged.
    """
    if data["name"] == "rendered_digits":
        return DataSet(*(_part(*rendered_digits.render(data[part], data["seed"], part)) for part in ("train", "test")))
    place = find_folder(folder) / data["name"]
    if not _given(folder):
        download_missing(data["name"], place)
    return PARSERS[data["name"]]([_read(place, file) for file in FILES[data["name"]]])


def download_missing(name: str, place: Path) -> None:
    """Download a data set's files to its folder ``place`` unless all are there. UsageError as from `load`."""
    if not all(_find(place, file) for file in FILES[name]):
        download.download(name, place)


def find_folder(folder: str | None) -> Path:
    """The folder of the data sets: ``folder``, else NAMSG_DATA, else MXNet's own. UsageError if there is none."""
    given = _given(folder)
    if given:
        return Path(given)
    mxnets = os.path.expanduser(os.environ.get("MXNET_HOME", "~/.mxnet"))
    if mxnets.startswith("~"):   # a user without a home, as in some containers
        raise UsageError(f"{mxnets}: no such home; give the data sets' folder as --data or NAMSG_DATA")
    return Path(mxnets, "datasets")


def _given(folder: str | None) -> str | None:
    return folder or os.environ.get("NAMSG_DATA")


def _part(images: np.ndarray, labels: np.ndarray) -> Part:
    """A part from 28x28 grey images, uint8."""
    return Part(images.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255), labels)


def _mnist(contents: list[bytes]) -> DataSet:
    """Format of http://yann.lecun.com/exdb/mnist: images after a header of 16 bytes, labels after one of 8."""
    images, labels = contents[0::2], contents[1::2]
    return DataSet(*(_part(np.frombuffer(pixels, np.uint8, offset=16), np.frombuffer(digits, np.uint8, offset=8)
                           .astype(np.int32)) for pixels, digits in zip(images, labels)))


def _cifar10(contents: list[bytes]) -> DataSet:
    """Format of https://www.cs.toronto.edu/~kriz/cifar.html: for each image a byte with its label, then its pixels."""
    parts = []
    for batches in (contents[:-1], contents[-1:]):
        rows = np.frombuffer(b"".join(batches), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        parts.append(Part(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32), rows[:, 0].astype(np.int32)))
    mean = parts[0].images.mean(axis=0, dtype=np.float64).astype(np.float32)
    for part in parts:
        np.subtract(part.images, mean, out=part.images)
        np.divide(part.images, np.float32(255), out=part.images)
    return DataSet(*parts)


PARSERS = {"mnist": _mnist, "cifar10": _cifar10}


def _find(folder: Path, file: Mapping[str, str]) -> str | None:
    """The path at which the folder has a file; None if it has it at none. UsageError if the folder is unreadable."""
    try:
        return next((name for name in file if (folder / name).exists()), None)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _read(folder: Path, file: Mapping[str, str]) -> bytes:
    """The content of the official file, unpacked. UsageError if the file is missing or damaged."""
    name = _find(folder, file)
    command = shlex.join(["python", "-m", "experiments", "data", "--data", str(folder.parent)])
    if name is None:
        raise UsageError(f"{folder / next(iter(file))}: not found; put the official file there, or download it by "
                         f"{command}")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    found = hashlib.sha1(content).hexdigest()
    if found != file[name]:
        raise UsageError(f"{folder / name}: damaged (its SHA-1 is {found}, not {file[name]}); replace it by the "
                         f"official file, or delete it and give {command}")
    return gzip.decompress(content) if name.endswith(".gz") else content
