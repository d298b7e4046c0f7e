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
    named_well,
)
from scripts.cli.progress import progress_bar
from scripts.cli.run import ToOption, WaitOption, narrator, nothing, show
from scripts.neon.branches import HOURS
from scripts.neon.client import TIMEOUT, Branch
from scripts.output import JsonOption, command
from scripts.runner.files import Migration
from scripts.runner.run import LOCK_WAIT

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
        done = run_check(
            api,
            number=pr,
            parent=parent,
            hours=hours,
            path=report,
            delete=delete,
            emit=narrator(out),
            progress=bar,
        )
        tell(done.checks, out)
        out.say(f"the page is {report}")
        out.finish(
            done.findings,
            branch=done.branch and done.branch.as_dict(),
            report=str(report),
            applied=done.applied,
        )


@neon.command()
def deploy(
    *,
    branch_name: Annotated[
        str | None,
        typer.Option("--branch", help="Another one than the default branch.", callback=named_well),
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

    with command("neon deploy", json=json) as out, client(out, timeout) as api:

        def confirm(found: Branch, pending: Sequence[Migration]) -> None:
            show(pending, out)
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
            out.say(f"nothing to do on {done.branch.name}: {nothing(to)}")
        tell(done.checks, out)
        out.finish(
            branch=done.branch.as_dict(),
            restore_point=done.restore_point,
            applied=done.applied,
            checks=[check.as_dict() for check in done.checks],
        )
