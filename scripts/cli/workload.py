"""Commands about demo data and measuring: seed, bench schema, bench package, bench load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from scripts.cli.progress import progress_bar
from scripts.database import connect
from scripts.errors import refuse
from scripts.output import JsonOption, Output, command
from scripts.server import LocalServer, bench_server, local_server
from scripts.target import owner_address
from scripts.workload.bench import Result, measure
from scripts.workload.designs import Design, own_design, read_design
from scripts.workload.loader import SETTINGS, Loader, check
from scripts.workload.report import budgets, chart, markdown, over_budget, tables
from scripts.workload.seed import seed as load

app = typer.Typer()
bench = typer.Typer(no_args_is_help=True, help="Measure: figures, beside their budgets.")
app.add_typer(bench, name="bench")

SECONDS = 5.0
"""That `bench package` takes by default, beside what making its data takes."""


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


@bench.callback()
def _group() -> None:
    pass


@bench.command()
def schema(
    tasks: Annotated[
        list[int],
        typer.Option(min=1_000, max=100_000_000, help="How many tasks; repeat it for the chart."),
    ],
    against: Annotated[
        list[Path] | None, typer.Option(help="The folder of another design; may be repeated.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A folder for schema.md, schema.json and schema.svg.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Load reference data and measure what reads touch and writes log, ours and other designs."""
    with command("bench schema", json=json) as out:
        designs = read_designs(against)
        known = budgets(designs[0].parts)
        if report:
            report.mkdir(parents=True, exist_ok=True)
        server = bench_server(SETTINGS)
        server.start()
        with alone(server):
            for design in designs:
                check(server, design)
            results = run(server, sorted(set(tasks)), designs, known, out)
        findings = list(over_budget([r for r in results if r.design == "ours"], known))
        document = [asdict(result) for result in results]
        if report:
            (report / "schema.md").write_text(markdown(results, known), "utf-8")
            (report / "schema.json").write_text(dumps(document, indent=1) + "\n", "utf-8")
            (report / "schema.svg").write_text(chart(results, "open by priority"), "utf-8")
            out.say(f"\n{report}: schema.md, schema.json, schema.svg")
        out.say(f"\nthe data stays in {server.home}; python -m scripts clean removes it")
        out.finish(findings, results=document)


@bench.command()
def package(
    seconds: Annotated[
        float | None, typer.Option(min=0.1, max=3_600, help="For how long; 5 by default.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="How many turns each way has, instead.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare reads by the package with reads by hand, by SQLModel and by the driver."""
    # Loads the package, which takes a second and which another team's checkout does not have.
    from scripts.workload.package import below_goal, measure, table  # noqa: PLC0415

    with command("bench package", json=json) as out:
        if seconds and rounds:
            raise refuse("usage", "--seconds or --rounds, not both", status=2)
        figures, done = measure(local_server(), seconds=seconds or SECONDS, rounds=rounds)
        out.table(*table(figures))
        out.say(f"\nthe fastest of {done:,}; a ratio is the other way's time over the package's")
        out.finish(
            list(below_goal(figures)), rounds=done, results=[asdict(each) for each in figures]
        )


@bench.command("load")
def under_load(
    tasks: Annotated[
        int, typer.Option(min=1_000, max=100_000_000, help="How many tasks there are.")
    ] = 100_000,
    against: Annotated[
        list[Path] | None, typer.Option(help="The folder of another design; may be repeated.")
    ] = None,
    clients: Annotated[
        list[int] | None,
        typer.Option(min=1, max=200, help="How many at once; repeat it.", show_default="1, 8, 32"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="For each design and number of clients.")
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    """Put designs under load: reads and writes by many clients that share a pool."""
    # Loads SQLAlchemy, which the other commands can do without.
    from scripts.workload.load import measure  # noqa: PLC0415

    with command("bench load", json=json) as out:
        designs = read_designs(against)
        server = bench_server(SETTINGS)
        server.start()
        with alone(server), progress_bar() as bar:
            for design in designs:
                check(server, design)
            loader = Loader(server, tasks, bar)
            out.say(loader.check_disk(len(designs) + 1))  # and a copy
            counts = sorted(set(clients or (1, 8, 32)))
            measured = list(measure(loader, designs, clients=counts, seconds=seconds))
        results = [result for result, _ in measured]
        head = "design,clients,per second,read p50,p99,write p50,p99,wait p99,in use,HOT,dead rows"
        out.table(
            [*head.split(","), "lock waits", "deadlocks", "errors"],
            [
                [
                    *(each.design, each.clients, each.per_second),
                    *(*each.reads.values(), *each.writes.values(), *each.pool.values()),
                    *(each.hot, each.dead_rows, each.lock_waits, each.deadlocks),
                    sum(each.errors.values()),
                ]
                for each in results
            ],
        )
        out.say(f"\ntimes in ms; the data stays in {server.home}")
        findings = [finding for _, wrong in measured for finding in wrong]
        out.finish(findings, results=[asdict(result) for result in results])


def read_designs(against: list[Path] | None) -> list[Design]:
    """Return our design and those of the folders; ToolError `bad-design`: two have one name."""
    designs = [own_design(), *map(read_design, against or ())]
    names = [design.name for design in designs]
    if len(set(names)) < len(names):
        raise refuse("bad-design", "two designs have one name", fix="rename a folder")
    return designs


def run(
    server: LocalServer,
    sizes: list[int],
    designs: list[Design],
    known: dict[str, tuple[str, str]],
    out: Output,
) -> list[Result]:
    """Measure every design at every size; print the tables of a size when it is done."""
    results = []
    for size in sizes:
        with progress_bar() as bar:
            loader = Loader(server, size, bar)
            out.say(loader.check_disk(len(designs)))
            loader.reference()
            group = [measure(loader, design) for design in designs]
        results += group
        out.say(f"{size:,} tasks")
        for head, rows in tables(group, known):
            out.say("")
            out.table(head, rows)
    return results


@contextmanager
def alone(server: LocalServer) -> Iterator[None]:
    """Keep other runs off the server, whose WAL would be counted with this one's."""
    with connect(server.superuser, purpose="bench") as connection:
        row = connection.execute("select pg_try_advisory_lock(hashtext('bench'))").fetchone()
        if row != (True,):
            raise refuse("locked", "another bench runs here", fix="wait for it")
        yield
