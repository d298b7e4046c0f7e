"""Commands about demo data: seed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.errors import refuse
from scripts.output import JsonOption, command
from scripts.target import owner_address
from scripts.workload.seed import seed as load

app = typer.Typer()


@app.command()
def seed(
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many users.")],
    tasks: Annotated[int, typer.Option(min=0, max=1_000_000_000, help="How many tasks in all.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="The same seed, the same rows.")] = 1,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Load a database that is not on this machine.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Load demo data: many ordinary users, few heavy ones, some of those adversarial."""
    with command("seed", json=json) as out:
        address = owner_address()
        if not (address.is_local or allow_remote):
            raise refuse(
                "not-local",
                f"{address.url} ({address.source}) is not on this machine",
                fix="--allow-remote, where demo data belongs there",
            )
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("tasks", total=tasks)
            done = load(
                address,
                users=users,
                tasks=tasks,
                seed=seed,
                progress=lambda count: bar.advance(task, count),
            )
        out.table(["table", "rows"], list(done.rows.items()))
        out.say(f"{done.seconds:.1f} s, {done.rows_per_second:,.0f} rows/s")
        out.finish(
            rows=done.rows,
            seconds=round(done.seconds, 3),
            rows_per_second=round(done.rows_per_second),
        )
