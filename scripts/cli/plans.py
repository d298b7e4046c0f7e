"""Commands about plans: plans, plans show, plans indexes, plans export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from shlex import quote
from typing import Annotated

import psycopg
import typer

from scripts.catalog.model import BOOKKEEPING
from scripts.cli.progress import progress_bar
from scripts.database import connect
from scripts.errors import refuse
from scripts.output import JsonOption, Output, command
from scripts.plans.choice import chosen
from scripts.plans.corpus import Statement, read_corpus
from scripts.plans.explain import GENERIC, HEAVY, TYPICAL
from scripts.plans.mutate import mutate, unneeded
from scripts.plans.statistics import Statistics, export, read_statistics
from scripts.plans.survey import TENANTS, Outcome, faults, planner, survey
from scripts.plans.twin import twin
from scripts.runner.build import build
from scripts.settings import project
from scripts.target import owner_address

app = typer.Typer()
plans = typer.Typer(help="Plan what applications send, at production's size without its data.")
app.add_typer(plans, name="plans")

SIZES = (10_000_000, 100_000_000, 1_000_000_000)
SMALLEST, BIGGEST = 1_000_000, 10_000_000_000

StatisticsOption = Annotated[
    Path | None,
    typer.Option(help="What `plans export` printed, instead of the project's."),
]
RowsOption = Annotated[int, typer.Option(min=SMALLEST, max=BIGGEST, help="How many rows.")]


@plans.callback(invoke_without_command=True)
def every(
    context: typer.Context,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=SMALLEST, max=BIGGEST, help="How many rows; may be repeated."),
    ] = None,
    statistics: StatisticsOption = None,
    all: Annotated[bool, typer.Option("--all", help="Every combination of what lists do.")] = False,
    json: JsonOption = False,
) -> None:
    """Plan every statement, and tell what each reads and by which index."""
    if context.invoked_subcommand:
        if rows or statistics or all or json:
            with command("plans", json=json):
                message = f"options come after {context.invoked_subcommand}"
                fix = f"python -m scripts plans {context.invoked_subcommand} --help"
                raise refuse("usage", message, fix=fix, status=2)
        return
    with command("plans", json=json) as out:
        known = _statistics(statistics)
        corpus = read_corpus(everything=all)
        sizes = sorted(set(rows or SIZES))
        with progress_bar() as bar:
            outcomes = survey(
                build,
                known,
                corpus,
                sizes,
                progress=lambda count, total: bar("plans", count, total),
                # Who has few rows has them read, whatever is combined.
                tenants=(HEAVY, GENERIC) if all else TENANTS,
            )
        _tell(out, chosen(corpus), outcomes)
        told = ", ".join(f"{size:,}" for size in sizes)
        out.say(f"\n{len(corpus):,} statements at {told} rows of {known.counted}")
        options = f" --statistics {quote(str(statistics))}" if statistics else ""
        out.finish(list(faults(outcomes, options)), rows=sizes, plans=_document(outcomes))


@plans.command()
def show(
    name: Annotated[str, typer.Argument(help="The statement, as `plans` and queries.sql name it.")],
    rows: RowsOption = SIZES[-1],
    tenant: Annotated[str, typer.Option(help=f"{GENERIC}, {HEAVY} or {TYPICAL}.")] = GENERIC,
    statistics: StatisticsOption = None,
    json: JsonOption = False,
) -> None:
    """Print one statement, how it is meant to be executed, and its plan."""
    with command("plans show", json=json) as out:
        if tenant not in TENANTS:
            message = f"--tenant is {', '.join(TENANTS)}, not {tenant}"
            raise refuse("usage", message, fix="leave it out for any", status=2)
        statement = _named(name)
        with (
            twin(build, _statistics(statistics).scaled(rows)) as address,
            planner(address) as asked,
        ):
            try:
                (plan,) = asked.plans([statement], tenant)
                text = asked.text(statement, tenant)
            except psycopg.errors.Error as error:
                message = f"{name} is refused: {error.diag.message_primary}"
                raise refuse("plan", message, fix="mend the statement, or the schema") from None
        sql, names = statement.numbered
        intent = [f"reads {statement.reads}", *(f"by {index}" for index in statement.indexes)]
        out.say(f"{sql}\n\n{', '.join(f'${n} {name}' for n, name in enumerate(names, 1))}")
        out.say(f"meant to: {', '.join(intent)}\nat {rows:,} rows, planned for {tenant} tenant:\n")
        out.say("\n".join(text))
        verdict = plan.fault or f"as it is meant to: reads {plan.reading.reach}"
        out.say(f"\n{verdict}")
        out.finish(
            statement=statement.name,
            sql=sql,
            parameters=names,
            reads=str(plan.reading.reach),
            indexes=plan.reading.indexes,
            fault=plan.fault,
            plan=plan.root,
        )


@plans.command()
def indexes(
    rows: RowsOption = SIZES[-1], statistics: StatisticsOption = None, json: JsonOption = False
) -> None:
    """Drop each index once, and tell which statements then read more than they are meant to."""
    with command("plans indexes", json=json) as out:
        corpus = read_corpus()
        found = list(
            mutate(build, _statistics(statistics).scaled(rows), corpus, ignored=[*BOOKKEEPING])
        )
        out.table(
            ["index", "MB", "read by", "needed by", "such as"],
            [
                [
                    each.index,
                    each.size // 10**6,
                    len(each.reading),
                    len(each.worse),
                    next((f"{name}: {reads}" for name, reads in each.worse.items()), "")
                    or (each.kept or ""),
                ]
                for each in found
            ],
        )
        out.say(f"\n{len(corpus):,} statements at {rows:,} rows; needed by: reads more without it")
        out.finish(list(unneeded(found)), rows=rows, indexes=[asdict(each) for each in found])


@plans.command(name="export")
def export_(
    counted: Annotated[
        str | None, typer.Option(help="The table whose rows `--rows` counts.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the statistics of a database, without a value of any row, for `--statistics`."""
    with command("plans export", json=json) as out:
        counted = counted or _statistics(None).counted
        with connect(owner_address(), purpose="plans", read_only=True) as connection:
            found = export(connection, counted)
        out.say(dumps(found, indent=1))
        out.finish(statistics=found)


def _statistics(path: Path | None) -> Statistics:
    return read_statistics(path or project().statistics)


def _named(name: str) -> Statement:
    """Return a statement of the corpus; of every combination where that is one."""
    for everything in (False, True):
        for statement in read_corpus(everything=everything):
            if statement.name == name:
                return statement
    raise refuse(
        "usage", f"the corpus has no statement {name!r}", fix="python -m scripts plans", status=2
    )


def _tell(out: Output, statements: Sequence[Statement], outcomes: Sequence[Outcome]) -> None:
    """Print a line for each of these statements: what it reads, for each kind of tenant."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.statement, outcome.tenant), []).append(outcome)
    tenants = list(dict.fromkeys(outcome.tenant for outcome in outcomes))
    rows = []
    for statement in statements:
        mine = [found[statement.name, tenant] for tenant in tenants]
        by = _once(index for each in mine for outcome in each for index in outcome.indexes)
        reads = [" ".join(_once(str(outcome.reads) for outcome in each)) for each in mine]
        rows.append([statement.name, str(statement.reads), *reads, ", ".join(by)])
    out.table(["statement", "meant", *tenants, "by"], rows)


def _document(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    fields = ("statement", "rows", "tenant", "indexes", "fault")
    return [
        {**{field: getattr(each, field) for field in fields}, "reads": str(each.reads)}
        for each in outcomes
    ]


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
