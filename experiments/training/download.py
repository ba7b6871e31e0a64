"""Downloads the official files of MNIST and CIFAR-10, from the first of several places that has the right bytes.

The SHA-1 sums stand in `mxnet.gluon.data.vision`, too. MXNet's own host comes last, as it has failed since 2024.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Callable

import pooch
from filelock import FileLock

from experiments.vocabulary.errors import UsageError

MNIST = {
    "train-images-idx3-ubyte.gz": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
    "train-labels-idx1-ubyte.gz": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
    "t10k-images-idx3-ubyte.gz": "c3a25af1f52dad7f726cce8cacb138654b760d48",
    "t10k-labels-idx1-ubyte.gz": "763e7fa3757d93b0cdec073cef058b2004252c17",
}
CIFAR10 = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
CIFAR10_ARCHIVE, CIFAR10_FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
MXNETS = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset"
PLACES = {
    "mnist": ("https://storage.googleapis.com/cvdf-datasets/mnist", "https://ossci-datasets.s3.amazonaws.com/mnist",
              f"{MXNETS}/mnist"),
    "cifar10": ("https://www.cs.toronto.edu/~kriz", f"{MXNETS}/cifar10"),
}
MIRROR = "NAMSG_MIRROR"   # environment variable: a mirror with folders `mnist` and `cifar10`, asked first
SECONDS = 30   # a place is given up when it sends no byte for so long
HERE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)   # this machine's own disk errors


class WrongBytes(Exception):
    """A downloaded file is not the official one."""


def download(name: str, folder: Path) -> None:
    """Download the missing files of a data set ('mnist' or 'cifar10') into its folder.

    One process downloads while others wait. A file appears whole and checked, or not at all. UsageError names each
    place that was tried with its answer, and what else can be done; also for a data set that is nowhere to be had.
    """
    if name not in PLACES:
        raise UsageError(f"{folder}: {name} cannot be downloaded; put its files there by hand")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder / ".lock")):
            _download(name, folder)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror or error}") from error


def _download(name: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if name == "cifar10":
            if not all((folder / file).exists() for file in CIFAR10):
                _from_first(_urls(name, CIFAR10_ARCHIVE), temporary, None, lambda path: _unpack(path, folder))
            return
        for file, sha1 in MNIST.items():
            if not (folder / file).exists() and not (folder / unzipped(file)).exists():
                _from_first(_urls(name, file), temporary, sha1, functools.partial(os.replace, dst=folder / file))


def unzipped(file: str) -> str:
    """The name of a file without its .gz."""
    return file[:-len(".gz")]


def _urls(name: str, file: str) -> list[str]:
    own = os.environ.get(MIRROR)
    return [f"{place}/{file}" for place in (*([f"{own.rstrip('/')}/{name}"] if own else []), *PLACES[name])]


def _from_first(urls: list[str], temporary: str, sha1: str | None, use: Callable[[Path], None]) -> None:
    """Download from the urls in turn until one gives the right file, and call ``use`` with its path.

    ``sha1``: the file's; None for an archive, whose content ``use`` checks.
    """
    answers = []
    pooch.get_logger().setLevel("WARNING")   # it would print the temporary file's name
    for url in urls:
        print(f"downloading {url}", file=sys.stderr)
        try:
            path = pooch.retrieve(url, sha1 and f"sha1:{sha1}", fname="file", path=temporary,
                                  downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=SECONDS))
            use(Path(path))
            return
        except Exception as error:   # anything that network, archive and disk can raise
            if isinstance(error, OSError) and error.errno in HERE:
                raise   # it would fail here from the next place, too
            answers.append(f"{url}: {_reason(error)}")
        Path(temporary, "file").unlink(missing_ok=True)
    raise UsageError("; ".join([
        f"{Path(temporary).parent}: {urls[0].rpartition('/')[2]} could not be downloaded", *answers,
        f"put the file there by hand{'' if sha1 else ', unpacked'}, name a mirror in {MIRROR}, or give a folder that "
        "has it by --data"]))


def _unpack(archive: Path, folder: Path) -> None:
    """Move the archive's files to the folder if all of them are the official ones, else WrongBytes."""
    with tarfile.open(archive) as unpacked:
        for file, sha1 in CIFAR10.items():
            member = unpacked.extractfile(f"{CIFAR10_FOLDER}/{file}")   # None if it is a folder
            path = archive.with_name(file)
            path.write_bytes(member.read() if member else b"")
            if pooch.file_hash(str(path), alg="sha1") != sha1:
                raise WrongBytes(f"its {file} is not the official one")
    for file in CIFAR10:
        os.replace(archive.with_name(file), folder / file)


def _reason(error: Exception) -> str:
    """An error's cause in one line, without the url that the line already has."""
    if isinstance(error, ValueError) and "hash" in str(error):
        return "not the official file"
    inner = getattr(error.args[0], "reason", None) if error.args else None   # urllib3's error inside requests'
    text = " ".join(str(inner or error).split())
    return (text.rpartition(": ")[2] if inner else text) or type(error).__name__
