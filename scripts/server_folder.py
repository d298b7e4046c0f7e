"""The local server's ignored folder: its lock, its record, and where the server itself lives."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.binaries import can_reach, service_account
from scripts.errors import refuse

LOCK_TIMEOUT = 180
"""Seconds to wait for another command that starts, stops or changes the same server."""

OUTSIDE = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a folder below it that is the caller's
"""Where a server lives whose account cannot enter the checkout; outlives a restart."""


@dataclass(frozen=True)
class Record:
    """What `server.json` remembers.

    Parameters
    ----------
    folder : the ignored folder it was written in; another one tells a moved or copied checkout
    home : where the server's files are
    port : the server's port, 0 before its first start
    """

    folder: Path
    home: Path
    port: int


class ServerFolder:
    """A folder that holds one server, or its record where the server lives outside.

    Parameters
    ----------
    path : the folder; made when it is needed
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.passfile = self.path / "pgpass"
        self._record = self.path / "server.json"
        self._inside = self.path / "server"

    @property
    def record(self) -> Record:
        """What is remembered; where that is nothing, or of another folder, the usual home."""
        found = self._read()
        if found and found.folder == self.path and _tenant(found.home) == self.path:
            return found
        return Record(self.path, self._inside, found.port if found else 0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other commands, and make it where it is missing.

        Raises
        ------
        ToolError : another command holds it for LOCK_TIMEOUT (code `local-server`)
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:  # removed by another command in between
                continue
            try:
                if self._lock(descriptor):
                    yield
                    return
            finally:
                os.close(descriptor)
            if time.monotonic() > deadline:
                raise refuse(
                    "local-server",
                    f"another command has held {self.path} for {LOCK_TIMEOUT} s",
                    fix="wait for it, or end it",
                )
            time.sleep(0.05)

    def remember(self, home: Path, port: int) -> None:
        """Write the record."""
        values = {"folder": str(self.path), "home": str(home), "port": port}
        _write(self._record, json.dumps(values, indent=2) + "\n", 0o644)

    def write_password(self, password: str) -> None:
        """Write the superuser's password as libpq reads it, for nobody but the caller."""
        _write(self.passfile, f"127.0.0.1:*:*:postgres:{password}\n", 0o600)

    def make_home(self) -> Path:
        """Return the server's home, made where it is missing: inside if its account can enter."""
        home, port = self.record.home, self.record.port
        if not home.is_dir():
            home = self._inside
            if can_reach(service_account(), self.path):
                home.mkdir()
            else:
                home = Path(tempfile.mkdtemp(prefix="schema-", dir=OUTSIDE))
            home.chmod(0o755)
            (home / "tenant").write_text(str(self.path), "utf-8")
        self.remember(home, port)
        return home

    def claim(self) -> None:
        """Mend the record of a checkout that was moved, which keeps its server, or copied.

        A copy gets a server of its own: a running server's data is torn when it is copied, which
        its pid file tells, and one that lives outside stays the original's.
        """
        found = self._read()
        if found is None or found.folder == self.path:
            return
        original = ServerFolder(found.folder)
        is_copy = original._read() is not None or (self._inside / "data/postmaster.pid").exists()
        if is_copy:
            shutil.rmtree(self._inside, ignore_errors=True)
            self._record.unlink()
            return
        home = found.home if _tenant(found.home) == found.folder else self._inside
        with suppress(FileNotFoundError):
            (home / "tenant").write_text(str(self.path), "utf-8")
        self.remember(home, found.port)

    def abandoned_homes(self) -> list[Path]:
        """Return homes outside that this folder has lost, by being removed without the server."""
        known = self.record.home
        return [
            tenant.parent
            for tenant in OUTSIDE.glob("schema-*/tenant")
            if _tenant(tenant.parent) == self.path and tenant.parent != known
        ]

    def remove(self) -> None:
        """Remove the record and the password, and the folder where nothing else is in it."""
        self._record.unlink(missing_ok=True)
        self.passfile.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def _read(self) -> Record | None:
        try:
            values = json.loads(self._record.read_text("utf-8"))
            return Record(Path(values["folder"]), Path(values["home"]), int(values["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _lock(self, descriptor: int) -> bool:
        """Try to lock; False where another has it, or removed the folder in the meantime."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except (BlockingIOError, FileNotFoundError):
            return False


def _tenant(home: Path) -> Path | None:
    """The folder that a home belongs to; None where it is no home, or not the caller's."""
    try:
        own = home.stat().st_uid == os.geteuid() and not home.is_symlink()
        return Path((home / "tenant").read_text("utf-8")) if own else None
    except OSError:
        return None


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole, with its mode from the start."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    partial.replace(path)
