"""`neon check`: what CI does with a pull request, on a branch of real data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from scripts.database import WAKE, connect
from scripts.errors import Finding, ToolError
from scripts.neon.branches import ensure
from scripts.neon.client import Branch, Client
from scripts.review.page import check_page, remove_page, write_page
from scripts.review.plans import Progress
from scripts.review.review import Review, review
from scripts.runner.apply import without_values
from scripts.runner.run import Emit, migrate, runnable
from scripts.settings import project
from scripts.unforeseen import findings_of
from scripts.verify.checks import Check
from scripts.verify.prove import prove


@dataclass
class Checked:
    """What came of a check.

    Parameters
    ----------
    branch : on which branch; None where there is none
    review : of what was pending; None where the check did not come so far
    applied : the ids that were applied
    checks : of `verify`
    findings : all that is wrong: what failed, then what was not proven, then plans
    """

    branch: Branch | None = None
    review: Review | None = None
    applied: list[str] = field(default_factory=list)
    checks: Sequence[Check] = ()
    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding], *, first: bool = False) -> None:
        """Add findings, without the values that PostgreSQL quotes; each is there once."""
        more = map(without_values, findings)
        both = [*more, *self.findings] if first else [*self.findings, *more]
        self.findings = list(dict.fromkeys(both))


def check(
    client: Client,
    *,
    number: int,
    parent: str | None,
    hours: int,
    path: Path,
    delete: bool,
    emit: Emit,
    progress: Progress,
) -> Checked:
    """Review, migrate and verify the branch of a pull request, and write the page.

    Values of rows that PostgreSQL's errors may quote are on no page and in no finding.

    Parameters
    ----------
    client : of the project
    number : of the pull request
    parent, hours : of the branch, as for `ensure`
    path : of the page, beside which its JSON goes; GITHUB_STEP_SUMMARY names another place for it
    delete : delete the branch in the end
    emit : told `branch`, `reviewed`, `applying`, `applied`, `verified`, `reported`, `deleted`
    progress : as for `review`

    Raises
    ------
    ToolError : there can be no such page (status 2)
    OSError : the page cannot be written
    """
    check_page(path)
    remove_page(path)
    started = monotonic()
    done = Checked()
    name = f"pr-{number}"
    try:
        done.branch, reused = ensure(client, name, parent=parent, hours=hours, renew=True)
        emit("branch", branch=done.branch.as_dict(), reused=reused)
        _work(client, done.branch, done, emit, progress)
    except Exception as error:
        done.add(findings_of(error), first=True)
    write_page(
        path,
        done.review,
        title=f"Pull request {number}",
        facts={
            "branch": f"{name}, which is not there"
            if done.branch is None
            else f"{name} ({done.branch.id}), {done.branch.ends}",
            "applied": ", ".join(done.applied) or "nothing",
            "took": f"{monotonic() - started:.0f} s",
        },
        checks=done.checks,
        findings=done.findings,
    )
    emit("reported", file=str(path))
    try:  # what goes wrong from here on must not hide what was found
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(path.read_text("utf-8"))
        if delete and done.branch:
            client.delete(done.branch)
            emit("deleted", branch=name)
    except (OSError, ToolError) as error:
        done.add(findings_of(error))
    return done


def _work(client: Client, branch: Branch, done: Checked, emit: Emit, progress: Progress) -> None:
    address = client.address(branch)
    with connect(address, purpose="check", read_only=True, wake=WAKE) as connection:
        state, pending = runnable(connection, project().migrations)
        done.review = review(connection, state, pending, progress=progress)
    done.add(done.review.findings)
    emit("reviewed", pending=[migration.id for migration in pending])

    def note(event: str, **fields: object) -> None:
        if event == "applied":
            done.applied.append(str(fields["id"]))
        emit(event, **fields)

    with connect(address, purpose="check", wake=WAKE) as connection:
        migrate(connection, project().migrations, roles=project().roles, emit=note)
    done.checks = prove(address)
    done.add([finding for each in done.checks for finding in each.findings], first=True)
    emit("verified", checks=[check.as_dict() for check in done.checks])
