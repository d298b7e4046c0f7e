"""Who runs the tools, where, and from which commit."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from dataclasses import dataclass

from scripts.settings import ROOT


@dataclass(frozen=True)
class Origin:
    """Where a run comes from; the git fields are None without git."""

    os_user: str
    host: str
    git_commit: str | None
    git_clean: bool | None


def read_origin() -> Origin:
    """Return the origin of this process; asks neither the network nor a name service."""
    return Origin(_os_user(), socket.gethostname(), *_git_state())


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _git_state() -> tuple[str | None, bool | None]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), not git("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None, None
