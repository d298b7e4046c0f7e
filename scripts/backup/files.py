"""Files and folders that appear when they are whole, and never in the place of another."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.errors import Finding, ToolError, refuse

CHUNK = 1024 * 1024
"""How much is on its way at a time, in bytes."""


def beside(path: Path, ending: str) -> Path:
    """Return the path with an ending behind its whole name; ToolError (status 2) without a name."""
    if not path.name:
        raise refuse("usage", f"{str(path)!r} is no name of a file or a folder", status=2)
    return path.with_name(path.name + ending)


def description_of(file: Path) -> Path:
    """Return where the description of a backup is."""
    return beside(file, ".json")


@contextmanager
def new_pair(file: Path) -> Iterator[tuple[Path, Path]]:
    """Give two partial files, and make them `file` and its description when the block succeeds.

    Both are readable by their owner alone. The file comes last, so where it is, the description is
    there, too. What a killed run has left is replaced.

    Raises
    ------
    ToolError : one of them exists, or another run is writing them
    """
    pair = (description_of(file), file)
    partial = tuple(beside(path, ".partial") for path in pair)
    with _file_errors(file):
        _refuse_existing(file)
        with _claimed(partial[1], os.O_CREAT | os.O_RDWR):
            try:
                _take_back(pair[0], partial[0])  # where a run was killed between the two names
                _refuse_existing(*pair)
                partial[0].unlink(missing_ok=True)
                os.close(os.open(partial[0], os.O_CREAT | os.O_EXCL, 0o600))
                os.truncate(partial[1], 0)
                yield partial[1], partial[0]
                for path, name in zip(partial, pair, strict=True):
                    flush(path)
                    try:
                        os.link(path, name)  # unlike a rename it never overwrites
                    except FileExistsError:
                        _refuse_existing(name)
                    flush(file.parent)
            except BaseException:
                for path, name in zip(partial[::-1], pair[::-1], strict=True):
                    _take_back(name, path)
                raise
            finally:
                for path in partial:
                    path.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a partial folder that only its owner may enter, and make it `folder` on success.

    Raises
    ------
    ToolError : it exists, or another run is writing it
    """
    partial = beside(folder, ".partial")
    with _file_errors(folder):
        _refuse_existing(folder)
        partial.mkdir(0o700, exist_ok=True)
        with _claimed(partial, os.O_RDONLY):
            try:
                _empty(partial)
                yield partial
                flush(partial)
                _refuse_existing(folder)
                partial.rename(folder)  # an empty folder at the most could be overwritten
            except BaseException:
                _empty(partial)
                partial.rmdir()
                raise
            flush(folder.parent)


def flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):  # so that it is read again from there
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_written(path: Path, sha256: str) -> None:
    """Flush a file and read it again.

    Raises
    ------
    ToolError : it is not what was written (code `file`)
    """
    flush(path)
    if sha256_of(path) != sha256:
        message = "what is read is not what was written"
        raise ToolError(Finding("file", message, file=str(path), fix="use another disk"))


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise refuse("exists", f"{path} exists", fix="take another name, or remove it")


def _take_back(name: Path, partial: Path) -> None:
    """Remove a name where it is one of the partial file."""
    with suppress(FileNotFoundError):
        if name.samefile(partial):
            name.unlink()


@contextmanager
def _claimed(partial: Path, flags: int) -> Iterator[None]:
    """Lock what is written into against other runs; a killed run's lock is gone."""
    descriptor = os.open(partial, flags | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), partial.lstat()):
                raise BlockingIOError
            os.fchmod(descriptor, 0o700 if partial.is_dir() else 0o600)  # one may be there already
        except (BlockingIOError, FileNotFoundError):
            message = f"another run is writing {partial}"
            raise refuse("locked", message, fix="wait for it, or take another name") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    """Name the file in an error that does not: a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
