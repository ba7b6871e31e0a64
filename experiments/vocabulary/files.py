"""Files that are replaced whole and checked when they are read; errors name the file."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
from pathlib import Path
from typing import Any, Iterator, Sequence

from experiments.vocabulary.errors import DamagedError, RecordError


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

    Processes that write the same file take turns.
    """
    temporary = path.with_name(path.name + ".tmp")
    with naming(path), _only_writer(temporary) as file:
        try:
            file.write(content)
            sync(file)
            os.replace(temporary, path)
        except BaseException:
            remove(temporary)
            raise


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open an empty file for writing once no other process has it open so."""
    while True:
        with open(path, "ab") as file:   # opening so does not truncate what another process is writing
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file):   # else another process has renamed it while this one waited
                file.truncate(0)
                yield file
                return


def _is_at(path: Path, file: io.BufferedIOBase) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give system errors this path: on a full disk they name none."""
    try:
        yield
    except OSError as error:
        if error.errno:
            error.filename = str(path)
        raise


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def sync(file: io.BufferedIOBase) -> None:
    """Wait until what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())
