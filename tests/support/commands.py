"""Commands run as a user runs them: their output and exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from scripts.__main__ import application
from scripts.settings import ROOT


def run(
    *arguments: str, cwd: Path = ROOT, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m scripts` with these arguments, and variables beside those of this process.

    It is a process of its own, as a user starts it; `run_here` is faster by that.
    """
    return subprocess.run(
        [sys.executable, "-m", "scripts", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_here(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout in this process, with variables beside those that it has."""
    done = CliRunner().invoke(application(arguments[0]), arguments, env=environment)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_json(*arguments: str, **options: Any) -> Any:
    """Run a command with `--json`, and return its one document."""
    done = run(*arguments, "--json", **options)
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return json.loads(done.stdout)
