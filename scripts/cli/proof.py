"""Commands that prove and generate: verify, render."""

from __future__ import annotations

from typing import Annotated

import typer

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.output import JsonOption, Output, command
from scripts.render.snapshot import render as render_snapshot
from scripts.runner.run import migrate
from scripts.runner.state import State, read_state
from scripts.settings import project
from scripts.target import is_local_server, owner_address
from scripts.verify.checks import Check
from scripts.verify.checks import verify as run_checks

app = typer.Typer()


@app.command()
def verify(json: JsonOption = False) -> None:
    """Prove files, indexes, constraints, catalog and mirrors. Changes nothing."""
    with command("verify", json=json) as out:
        checks = prove(owner_address())
        tell(checks, out)
        out.finish(
            [finding for check in checks for finding in check.findings],
            checks=[{"check": check.name, "ok": not check.findings} for check in checks],
        )


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Compare only, write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Write sql/schema.sql from a scratch database that the migrations made."""
    with command("render", json=json) as out:
        rendered = render_snapshot(build, check=check)
        file = project().relative(project().snapshot)
        if not rendered.findings:
            out.say(f"{file} {'written' if rendered.changed else 'is what the migrations make'}")
        out.finish(rendered.findings, file=file, changed=rendered.changed)


def prove(address: Address, *, mirrors: bool = True) -> list[Check]:
    """Run the checks of `verify` on a database, in a read-only session."""
    with connect(address, purpose="verify", read_only=True) as connection:
        state = read_state(connection, project().migrations)
        findings = file_findings(state, sealed=not is_local_server(address))
        return run_checks(connection, newest=state.newest, files=findings, mirrors=mirrors)


def file_findings(state: State, *, sealed: bool) -> list[Finding]:
    """Return what is wrong with the files: applied, unedited, in order, and sealed."""
    pending = [
        migration.forward.finding("pending", "is not applied", fix="python -m scripts migrate")
        for migration in state.pending
    ]
    return [
        *state.findings(),
        *(state.seal_findings() if sealed else []),
        *pending,
    ]


def tell(checks: list[Check], out: Output) -> None:
    """Print a line for each check."""
    for check in checks:
        out.say(f"{check.name:<12} {'failed' if check.findings else 'ok'}")


def build(address: Address) -> str:
    """Apply roles and every migration to an empty database; return the newest id."""
    with connect(address, purpose="render") as connection:
        applied = migrate(connection, project().migrations, roles=project().roles, check_seal=False)
    return applied[-1] if applied else "none"
