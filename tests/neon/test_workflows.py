"""A pull request's life at Neon, by the scripts that the workflows run."""

from __future__ import annotations

import os
import sys

import pytest

from tests.support.neon.fixtures import PullRequest
from tests.support.workflows import Runner, step_of

pytestmark = pytest.mark.row("R27")

CHECK = step_of("neon-branch check", "neon check")
COMMENT = step_of("neon-branch comment", "gh api")
DELETE = step_of("neon-branch delete", "neon branch delete")
PRUNE = step_of("prune prune", "gh api")


@pytest.fixture
def runner(pull_request: PullRequest) -> Runner:
    """A machine with the pull request's checkout, whose commands are the real ones."""
    environment = {**os.environ, **pull_request.api.environment}
    for name in ("NEON_API_KEY", "NEON_PROJECT_ID", "GITHUB_STEP_SUMMARY"):
        environment.pop(name, None)
    del environment["PATH"]
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    return Runner(pull_request.folder, python, environment)


def test_a_pull_request_is_checked_commented_and_closed(
    runner: Runner, pull_request: PullRequest
) -> None:
    api = pull_request.api
    known = {
        "secrets.NEON_API_KEY": api.key,
        **{
            f"vars.{name}": api.environment[name]
            for name in ("NEON_PROJECT_ID", "NEON_DATABASE", "NEON_ROLE")
        },
    }

    def run(step: dict[str, object]) -> int:
        done = runner.run(step, **known)
        assert api.key not in done.stdout + done.stderr
        return done.returncode

    def branches() -> set[str]:
        return {branch.name for branch in api.project.branches.values()}

    assert run(CHECK) == 0
    assert branches() == {"main", "pr-7"}
    assert run(COMMENT) == 0
    (comment,) = runner.github["comments"]
    page = (runner.folder / "neon-check.md").read_text()
    assert "create table items (" in page
    assert comment["body"].startswith(f"<!-- neon-check -->\n{page}")

    pull_request.run("branch", "create", "pr-8")
    runner.write(pulls=[{"number": 7}])
    assert run(PRUNE) == 0
    assert branches() == {"main", "pr-7"}
    assert run(DELETE) == 0
    assert branches() == {"main"}
