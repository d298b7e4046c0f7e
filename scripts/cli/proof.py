"""Commands that prove and generate: verify, render."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from scripts.output import JsonOption, Output, command
from scripts.plans.corpus import read_corpus
from scripts.render.files import write
from scripts.render.queries import queries_text
from scripts.render.snapshot import snapshot_text
from scripts.runner.build import build
from scripts.scratch import scratch_database
from scripts.settings import project
from scripts.target import owner_address
from scripts.verify.checks import Check
from scripts.verify.prove import prove

app = typer.Typer()


@app.command()
def verify(json: JsonOption = False) -> None:
    """Prove files, indexes, constraints, catalog and mirrors. Changes nothing."""
    with command("verify", json=json) as out:
        checks = prove(owner_address())
        tell(checks, out)
        out.finish(
            [finding for check in checks for finding in check.findings],
            checks=[check.as_dict() for check in checks],
        )


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Compare only, write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Write sql/schema.sql as the migrations make it, and sql/queries.sql as the corpus has it."""
    with command("render", json=json) as out:
        with scratch_database() as address:
            text = snapshot_text(address, build(address))
        rendered = [write(project().snapshot, text, made_of="the migrations make", check=check)]
        if project().corpus:
            text = queries_text(read_corpus(everything=True))
            rendered.append(write(project().queries, text, made_of="the corpus has", check=check))
        for each in rendered:
            if not each.findings:
                out.say(f"{each.file} {'written' if each.changed else 'is up to date'}")
        out.finish(
            [finding for each in rendered for finding in each.findings],
            files=[{"file": each.file, "changed": each.changed} for each in rendered],
        )


def tell(checks: Sequence[Check], out: Output) -> None:
    """Print a line for each check."""
    for check in checks:
        out.say(f"{check.name:<12} {'failed' if check.findings else 'ok'}")
