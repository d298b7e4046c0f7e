"""Commands about demo data: seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from scripts.errors import refuse
from scripts.output import JsonOption, command
from scripts.target import owner_address
from scripts.workload.seed import seed as load

app = typer.Typer()


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show bars on a terminal; give what advances one: its name, how many more, of how many."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bars: dict[str, TaskID] = {}

        def advance(name: str, count: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.advance(bars[name], count)

        yield advance


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
        with progress_bar() as advance:
            done = load(
                address,
                users=users,
                tasks=tasks,
                seed=seed,
                progress=lambda count: advance("tasks", count, tasks),
            )
        out.table(["table", "rows"], list(done.rows.items()))
        out.say(f"{done.seconds:.1f} s, {done.rows_per_second:,.0f} rows/s")
        out.finish(
            rows=done.rows,
            seconds=round(done.seconds, 3),
            rows_per_second=round(done.rows_per_second),
        )
