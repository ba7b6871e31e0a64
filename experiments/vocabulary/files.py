"""Files that are replaced whole and checked when they are read; errors name the file."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any, Iterator, Sequence

from experiments.vocabulary.errors import DamagedError, RecordError

UNFINISHED = ".tmp"   # the end of a file's name while `write_atomically` writes it


def damaged(path: Path) -> DamagedError:
    """The error to raise for a file whose content is not what was written."""
    return DamagedError(f"{path}: damaged: not what was written")


def read_json(path: Path, keys: Sequence[str] | None) -> Any:
    """A JSON file's content; None without the file. RecordError unless it is an object that has the ``keys``, if any.
    """
    try:
        with reading(path):
            content = json.loads(path.read_bytes())
        if keys is None or isinstance(content, dict) and all(key in content for key in keys):
            return content
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):   # RecursionError: nested too deeply
        pass
    raise damaged(path)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """RecordError that names this path if what stands there cannot be read; FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:   # a folder, a file on the way to it, another user's
        raise RecordError(f"{path}: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """Replace a file by this content, as `write_atomically`."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader, or a kill, finds the whole old or the whole new content.

    The new content is on the disk when this returns. A kill can leave a file beside it that ends in `UNFINISHED`.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{UNFINISHED}")   # processes may write it at once
    with naming(path):
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                sync(file)
            os.replace(temporary, path)
            _sync_names(path.parent)
        except BaseException:
            remove(temporary)
            raise


def _sync_names(folder: Path) -> None:
    """Wait until the names of the folder's files are on the disk, where its file system can."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give system errors this path: on a full disk they name none."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there. OSError if something else is there, as a dangling link."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "is not a folder", str(path)) from None
    for folder in missing:
        _sync_names(folder.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def sync(file: io.BufferedIOBase) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
