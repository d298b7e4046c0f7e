"""Prism, which knows the published description of Neon's API: as that API, or as its inspector."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.settings import ROOT
from tests.support.ports import free_port, wait_for
from tests.support.postgres import PACKAGES

PROGRAM = PACKAGES / ".bin" / "prism"
START = 60
"""Seconds; it takes two where nothing else runs."""


def description() -> Path:
    """Return the description's file: NEON_OPENAPI, or the one beside the checkout; skip without."""
    file = Path(os.environ.get("NEON_OPENAPI") or ROOT.parent / "shared" / "neon-openapi.json")
    if not file.is_file():
        pytest.skip("no description of Neon's API: set NEON_OPENAPI to its file")
    return file


@contextmanager
def prism(upstream: str | None = None) -> Iterator[str]:
    """Give the address of a Prism that takes nothing which the description does not allow.

    Parameters
    ----------
    upstream : the API that answers, whose answers are checked, too; without one Prism answers by
        the description's examples, or as a request's header `Prefer: code=404` wants it

    What breaks the description is answered by status 422 (a request; 401 where it lacks the key) or
    500 (an answer). Where Node, Prism or the description is missing, the test is skipped.
    """
    node = shutil.which("node")
    if not node or not PROGRAM.exists():
        pytest.skip("no Node (20 or newer), or no Prism: make node")
    port, mode = free_port(), "proxy" if upstream else "mock"
    options = ["--errors", "-h", "127.0.0.1", "-p", str(port), "-v", "silent"]
    files = [str(description()), *([upstream] if upstream else [])]
    process = subprocess.Popen(
        [node, str(PROGRAM), mode, *options, *files],
        env={"PATH": os.environ["PATH"]},  # a proxy of the environment is not meant for loopback
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port, process, seconds=START)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
