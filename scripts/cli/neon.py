"""Commands about Neon: neon check, neon deploy, and those of neon branch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from scripts.cli.branches import (
    HoursOption,
    ParentOption,
    TimeoutOption,
    YesOption,
    branch,
    client,
    confirmed,
)
from scripts.cli.progress import progress_bar
from scripts.cli.run import ToOption, WaitOption, narrator
from scripts.neon.branches import HOURS, describe
from scripts.neon.client import TIMEOUT, Branch
from scripts.output import JsonOption, command
from scripts.runner.files import Migration
from scripts.runner.run import LOCK_WAIT
from scripts.settings import project

app = typer.Typer()
neon = typer.Typer(
    help="Branches at Neon, for pull requests and for the way back.", no_args_is_help=True
)
neon.add_typer(branch, name="branch", no_args_is_help=True)
app.add_typer(neon, name="neon")


@neon.command()
def check(
    *,
    pr: Annotated[int, typer.Option("--pr", min=1, help="The pull request's number.")],
    parent: ParentOption = None,
    hours: HoursOption = HOURS,
    report: Annotated[Path, typer.Option(help="Where the page goes, and its JSON.")] = Path(
        "neon-check.md"
    ),
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the branch in the end; else it expires.")
    ] = False,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """The job of CI: branch, review, migrate, verify, and write the page."""
    # Here, for they import what plans need: half a second, which branches do without.
    from scripts.cli.proof import tell  # noqa: PLC0415
    from scripts.neon.check import check as run_check  # noqa: PLC0415

    with (
        command("neon check", json=json, stream=True) as out,
        client(out, timeout) as api,
        progress_bar() as bar,
    ):
        emit = narrator(out)
        done = run_check(
            api,
            number=pr,
            parent=parent,
            hours=hours,
            path=report,
            emit=emit,
            progress=bar,
        )
        tell(list(done.checks), out)
        if delete:
            api.delete(done.branch)
            out.event("deleted", branch=done.branch.name)
        ends = "deleted" if delete else f"expires {done.branch.expires_at:%Y-%m-%d %H:%M} UTC"
        out.say(f"{done.branch.name} {ends}; the page is {report}")
        out.finish(
            done.findings, branch=describe(done.branch), report=str(report), applied=done.applied
        )


@neon.command()
def deploy(
    *,
    branch_name: Annotated[
        str | None, typer.Option("--branch", help="Another one than the default branch.")
    ] = None,
    to: ToOption = None,
    yes: YesOption = False,
    lock_wait: WaitOption = LOCK_WAIT,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Migrate production: restore point, plan, confirmation, migrate, verify."""
    from scripts.cli.proof import tell  # noqa: PLC0415 (as above)
    from scripts.neon.deploy import deploy as run_deploy  # noqa: PLC0415
    from scripts.neon.deploy import restore_command  # noqa: PLC0415

    with command("neon deploy", json=json) as out, client(out, timeout) as api:

        def confirm(found: Branch, pending: Sequence[Migration]) -> None:
            for migration in pending:
                file = project().relative(migration.forward.path)
                out.say(f"-- {file}\n\n{migration.forward.text.strip()}\n")
            question = f"apply {len(pending)} to {found.name}, the first {pending[0].id}?"
            confirmed(question, json=json, yes=yes)

        done = run_deploy(
            api,
            branch=branch_name,
            target=to,
            confirm=confirm,
            lock_wait=lock_wait,
            emit=narrator(out),
        )
        if not done.applied:
            out.say(f"nothing to do: every migration is applied on {done.branch.name}")
        tell(list(done.checks), out)
        point = None
        if done.restore_point:
            at, lsn = done.restore_point
            point = {"at": at, "lsn": lsn}
            out.say(f"the way back: {restore_command(done.branch, lsn)}")
        out.finish(
            branch=describe(done.branch),
            restore_point=point,
            applied=done.applied,
            checks=[{"check": each.name, "ok": not each.findings} for each in done.checks],
        )
