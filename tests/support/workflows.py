"""The scripts of the workflows, run by bash as on a machine of GitHub's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.settings import ROOT

FILES = {path.stem: path for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
FLOWS: dict[str, dict[Any, Any]] = {
    name: yaml.safe_load(p.read_text()) for name, p in FILES.items()
}
JOBS = {f"{name} {job}": made for name in FLOWS for job, made in FLOWS[name]["jobs"].items()}
RUNS = [(name, step) for name, job in JOBS.items() for step in job["steps"] if "run" in step]

# What somebody may call a branch, or a pull request.
HOSTILE = "x'; touch pwned; $(touch pwned) `touch pwned` \"\n--method DELETE"


def step_of(job: str, words: str) -> dict[str, Any]:
    """Return the one step of a job whose script has these words."""
    (step,) = (each for name, each in RUNS if name == job and words in each["run"])
    return step


CONTEXT: dict[str, Any] = {
    "github.token": "token",
    "github.server_url": "https://github.example",
    "github.repository": "our/todo",
    "github.run_id": 12,
    "github.event.pull_request.number": 7,
    "github.event.pull_request.head.sha": "c" * 40,
    "github.event.pull_request.head.ref": HOSTILE,
    "github.event.pull_request.title": HOSTILE,
    "secrets.NEON_API_KEY": "key",  # pragma: allowlist secret
    "vars.NEON_PROJECT_ID": "project",
    "vars.NEON_DATABASE": "",
    "vars.NEON_ROLE": "",
    "inputs.to": "",
}

RECORDER = """#!/bin/sh
printf '%s\\n' "$@" --end-- >> "$(dirname "$0")/called"
"""


@dataclass
class Runner:
    """A machine with what a step finds there: `gh`, and `.venv/bin/python`.

    Parameters
    ----------
    folder : where the step works
    python : what `.venv/bin/python` is; by default it only records how it is called
    environment : variables that every step has
    """

    folder: Path
    python: str = RECORDER
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        programs = {
            "bin/gh": f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/support/gh.py "$@"\n',
            ".venv/bin/python": self.python,
        }
        for name, text in programs.items():
            path = self.folder / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            path.chmod(0o755)
        if not shutil.which("jq"):
            pytest.skip("jq is not installed (Debian: apt-get install jq)")
        self.write()

    def write(self, **github: Any) -> None:
        """Set what is at GitHub."""
        state = {"comments": [], "pulls": [], "calls": [], "fails": None, **github}
        (self.folder / "github.json").write_text(json.dumps(state))

    @property
    def github(self) -> dict[str, Any]:
        """What is at GitHub now."""
        return dict(json.loads((self.folder / "github.json").read_text()))

    @property
    def called(self) -> list[list[str]]:
        """What `.venv/bin/python` was called with."""
        path = self.folder / ".venv" / "bin" / "called"
        text = path.read_text() if path.exists() else ""
        return [call.splitlines() for call in text.split("--end--\n")[:-1]]

    def run(self, step: dict[str, Any], **context: Any) -> subprocess.CompletedProcess[str]:
        """Run a step's script as GitHub does with `shell: bash`."""
        known = {**CONTEXT, **context}
        value = re.compile(r"\$\{\{ (.*?) \}\}")
        environment = {
            name: value.sub(lambda match: str(known[match[1]]), text)
            for name, text in step["env"].items()
        }
        script = self.folder.parent / "step.sh"
        script.write_text(step["run"])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.folder,
            env={
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                "GITHUB_REPOSITORY": "our/todo",
                "GITHUB": str(self.folder / "github.json"),
                **self.environment,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
