"""`neon deploy`: production, with a way back that is known before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from shlex import quote

from scripts.database import WAKE, connect
from scripts.errors import Finding, ToolError
from scripts.neon.branches import named
from scripts.neon.client import Branch, Client
from scripts.runner.apply import without_values
from scripts.runner.files import Migration
from scripts.runner.run import Emit, migrate, runnable
from scripts.runner.state import refuse_findings
from scripts.settings import project
from scripts.unforeseen import findings_of
from scripts.verify.checks import Check
from scripts.verify.prove import prove


@dataclass
class Deployed:
    """What a deployment did.

    Parameters
    ----------
    branch : where
    restore_point : time `at` and `lsn` before the first change; None where nothing was pending
    applied : the ids that were applied
    checks : of `verify`; none where files stay pending
    """

    branch: Branch
    restore_point: dict[str, object] | None = None
    applied: list[str] = field(default_factory=list)
    checks: Sequence[Check] = ()


def deploy(
    client: Client,
    *,
    branch: str | None,
    target: str | None,
    confirm: Callable[[Branch, Sequence[Migration]], None],
    lock_wait: float,
    emit: Emit,
) -> Deployed:
    """Migrate a branch that is in use, and verify it.

    Parameters
    ----------
    client : of the project
    branch : its name; the default branch's without one
    target : the last id or number to apply
    confirm : told the branch and what is pending there; raises to stop here
    lock_wait : seconds to wait for another run
    emit : told `restore-point` with the command that leads `back`, and what `migrate` tells

    Raises
    ------
    ToolError : a refusal before anything changed, or what went wrong with, as the last finding, the
        command that makes the branch what it was
    """
    done = Deployed(named(client, branch))
    address = client.address(done.branch)
    with connect(address, purpose="deploy", wake=WAKE) as connection:
        state, pending = runnable(connection, project().migrations, target)
    if pending:
        confirm(done.branch, pending)

    def note(event: str, **fields: object) -> None:
        if event == "restore-point":
            done.restore_point = {"at": fields["at"], "lsn": fields["lsn"]}
            fields["back"] = restore_command(done.branch, str(fields["lsn"]))
        emit(event, **fields)

    try:
        with connect(address, purpose="deploy", wake=WAKE) as connection:
            done.applied = migrate(
                connection,
                project().migrations,
                roles=project().roles,
                target=target,
                restore_point=True,
                lock_wait=lock_wait,
                emit=note,
            )
        if pending == state.pending:  # what --to leaves out cannot be proven
            done.checks = prove(address)
        refuse_findings([finding for each in done.checks for finding in each.findings])
    except (Exception, KeyboardInterrupt) as error:
        if done.restore_point is None:
            raise
        if isinstance(error, KeyboardInterrupt):
            interrupted = Finding("interrupted", "interrupted: what was applied stays")
            raise ToolError(interrupted, _way_back(done), status=130) from None
        told = map(without_values, findings_of(error))  # who reads CI's log may see no rows
        raise ToolError(*told, _way_back(done)) from error
    return done


def restore_command(branch: Branch, lsn: str) -> str:
    """Return the command that makes a branch what it was."""
    return f"python -m scripts neon branch restore {quote(branch.name)} --lsn {lsn}"


def _way_back(done: Deployed) -> Finding:
    assert done.restore_point
    at, lsn = done.restore_point["at"], str(done.restore_point["lsn"])
    return Finding(
        "deploy-failed",
        f"{done.branch.name} was as before at {at:%Y-%m-%d %H:%M:%S} UTC; what others wrote since "
        "would be lost",
        object=done.branch.name,
        fix=f"mend it by a new migration, or go back: {restore_command(done.branch, lsn)}",
    )
