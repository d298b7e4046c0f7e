"""neon check for long: many runs while everything goes wrong, and 20 pull requests at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.neon.api import Fault
from tests.support.neon.fixtures import ADD_ITEMS, PullRequest

pytestmark = [pytest.mark.soak, pytest.mark.row("R27")]

ROUNDS = int(os.environ.get("SOAK", "20")) * 5 // 2
PULL_REQUESTS = 20

# What may go wrong with a request, each as often as it stands here.
FAULTS = (
    *(Fault("drop"), Fault("drop", after=True), Fault("garbage"), Fault("slow", seconds=0.3)),
    *(Fault(423), Fault(503), Fault(429, retry_after="1"), Fault(500)),
)

# Findings that tell of what was done to the run, and of nothing else.
CLEAR = {"neon-unreachable", "neon-api", "neon-timeout", "neon-operation", "unreachable"}


@pytest.fixture
def chance() -> random.Random:
    return random.Random(int(os.environ.get("SEED", "1")))


def choose(chance: random.Random) -> Callable[[str, str], Fault | None]:
    def fault(_method: str, _path: str) -> Fault | None:
        return chance.choice(FAULTS) if chance.random() < 0.08 else None

    return fault


def test_whatever_goes_wrong_the_report_is_right_or_the_failure_clear(
    pull_request: PullRequest, chance: random.Random, record_property: Callable[[str, object], None]
) -> None:
    project = pull_request.api.project
    pull_request.api.choose = choose(chance)
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        number = chance.randint(1, 4)
        project.seconds = chance.choice([0, 0.2, 0.8])
        project.suspended = chance.random() < 0.3
        project.outcomes = ["failed"] if chance.random() < 0.05 else []
        pull_request.page.unlink(missing_ok=True)
        patience = chance.uniform(0.5, 5) if chance.random() < 0.3 else 60
        arguments = ("--pr", str(number), "--report", "page.md", "--json", "--timeout", "30")
        with pull_request.start("check", *arguments) as process:
            try:
                output, errors = process.communicate(timeout=patience)
            except subprocess.TimeoutExpired:
                assert patience < 60, "a run does not end"
                process.kill()
                output, errors = process.communicate()
        seen[judge(pull_request, number, process.returncode, output, errors)] += 1
        for branch in list(project.branches.values()):
            assert branch.expires_at or branch is project.main, branch.name
    # Whatever the runs before have left, the next one for each pull request goes on.
    pull_request.api.choose = lambda _method, _path: None
    project.seconds, project.outcomes = 0, []
    for number in range(1, 5):
        assert pull_request.check(number)["findings"] == []
        assert pull_request.tables(f"pr-{number}") == {"orders", "items"}
    assert pull_request.tables("main") == {"orders"}
    record_property("score", f"neon check with faults: {dict(seen)}")
    assert seen["right"] >= ROUNDS / 5
    assert seen["killed"] >= 2
    assert sum(seen.values()) - seen["right"] - seen["killed"] >= 2


def judge(pull_request: PullRequest, number: int, status: int, output: str, errors: str) -> str:
    """Return what came of a run: `right`, `killed`, or the code of its clear failure."""
    for text in (output, errors):
        assert "Traceback" not in text
        assert pull_request.api.key not in text
        assert pull_request.api.project.password not in text
    if status < 0:
        return "killed"
    last = json.loads(output.splitlines()[-1])
    if status == 0:
        assert (last["event"], last["findings"]) == ("done", [])
        assert "nothing wrong" in pull_request.page.read_text()
        assert pull_request.tables(f"pr-{number}") == {"orders", "items"}
        return "right"
    assert (status, last["event"]) == (1, "error")
    codes = {finding["code"] for finding in last["findings"]}
    assert codes <= CLEAR, last["findings"]
    assert all(finding["message"] and finding["fix"] for finding in last["findings"])
    if pull_request.page.exists():
        assert "nothing wrong" not in pull_request.page.read_text()
    return "+".join(sorted(codes))


def test_twenty_pull_requests_are_checked_at_once(
    pull_request: PullRequest, tmp_path: Path
) -> None:
    checkouts = []
    for number in range(1, PULL_REQUESTS + 1):
        folder = tmp_path / f"checkout-{number}"
        subprocess.run(["cp", "-r", pull_request.folder, folder], check=True)
        checkouts.append(PullRequest(folder, pull_request.api))
        index = f"create index items_{number}_idx on items (id);\n"
        checkouts[-1].change(f"{ADD_ITEMS}{index}")
    pull_request.api.project.seconds = 0.3
    started = time.monotonic()
    running = [
        checkout.start("check", "--pr", str(number), "--report", "page.md", "--json")
        for number, checkout in enumerate(checkouts, 1)
    ]
    for process in running:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, output.splitlines()[-1] + errors
    print(f"{PULL_REQUESTS} checks at once in {time.monotonic() - started:.0f} s")
    for number, checkout in enumerate(checkouts, 1):
        assert f"items_{number}_idx" in checkout.page.read_text()
        address = pull_request.api.project.address(f"pr-{number}")
        with psycopg.connect(**address.parameters) as connection:
            query = "select indexname from pg_indexes where tablename = 'items' order by 1"
            names = [name for (name,) in connection.execute(query)]
        assert names == [f"items_{number}_idx", "items_pkey"]
    assert pull_request.tables("main") == {"orders"}
