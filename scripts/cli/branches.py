"""Commands about branches at Neon: neon branch create, url, list, delete, prune, restore, diff."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from scripts.errors import refuse
from scripts.neon.branches import HOURS, ensure, named, prune, refuse_kept
from scripts.neon.client import TIMEOUT, Client
from scripts.neon.settings import neon_settings
from scripts.output import JsonOption, Output, command, finite

branch = typer.Typer(help="Branches of the project: copies of its data, made in seconds.")


def named_well(name: str | None) -> str | None:
    """Refuse what can be no branch's name, as an option's callback."""
    if name is not None and not (0 < len(name) <= 256 and name.isprintable()):
        raise typer.BadParameter("a branch's name has 1 to 256 characters that can be printed")
    return name


NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The branch's name.", callback=named_well)
]
ParentOption = Annotated[
    str | None,
    typer.Option(help="The branch whose data it gets; the default branch's.", callback=named_well),
]
HoursOption = Annotated[int, typer.Option(min=1, max=719, help="Until the branch expires.")]
TimeoutOption = Annotated[
    float,
    typer.Option(
        min=1, max=86_400, callback=finite, help="Seconds for all that is asked of Neon's API."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")


def client(out: Output, timeout: float) -> Client:
    """Return the client of the project that the environment names; it tells what Neon is doing."""

    def told(action: str, status: str) -> None:
        out.event("operation", action=action, status=status)
        out.progress(f"Neon: {action} {status}")

    return Client(neon_settings(), timeout=timeout, told=told)


def confirmed(question: str, *, json: bool, yes: bool) -> None:
    """Ask a person; ToolError where nobody is there to ask, typer.Abort where the answer is no."""
    if yes:
        return
    if json or not os.isatty(0):
        raise refuse(
            "needs-confirmation", f"nobody is there to ask: {question}", fix="--yes", status=2
        )
    typer.confirm(question, abort=True, err=True)


@branch.command()
def create(
    name: NameArgument,
    parent: ParentOption = None,
    hours: HoursOption = HOURS,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Make a branch with a compute, which expires; one that is there is reused."""
    with command("neon branch create", json=json) as out, client(out, timeout) as neon:
        made, reused = ensure(neon, name, parent=parent, hours=hours)
        out.say(f"{made.name} {'reused' if reused else 'made'}, {made.ends}")
        out.say(f"next: python -m scripts neon branch url {quote(made.name)} --env branch.env")
        out.finish(branch=made.as_dict(), reused=reused)


@branch.command()
def url(
    name: NameArgument,
    pooled: Annotated[
        bool, typer.Option("--pooled", help="The pooler's, for applications.")
    ] = False,
    env: Annotated[
        Path | None, typer.Option(help="A new file for the direct address, with the password.")
    ] = None,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Print a branch's address without its password."""
    with command("neon branch url", json=json) as out, client(out, timeout) as neon:
        found = named(neon, name)
        address = neon.address(found, pooled=pooled)
        if env:
            try:
                file = os.open(env, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                raise refuse("exists", f"{env} is there already", fix="another name") from None
            with os.fdopen(file, "w", encoding="utf-8") as opened:
                opened.write(f"MIGRATION_DATABASE_URL={neon.address(found).secret_url}\n")
            out.say(f"{env} has the owner's direct address, with the password")
        out.say(address.url)
        out.finish(url=address.url, role=address.parameters["user"], file=str(env) if env else None)


@branch.command(name="list")
def list_(timeout: TimeoutOption = TIMEOUT, json: JsonOption = False) -> None:
    """List the project's branches."""
    with command("neon branch list", json=json) as out, client(out, timeout) as neon:
        found = list(neon.branches())
        names = {each.id: each.name for each in found}
        rows = [
            (
                each.name,
                names.get(each.parent_id or "", ""),
                each.state,
                f"{each.created_at:%Y-%m-%d %H:%M}",
                each.ends,
            )
            for each in found
        ]
        out.table(["branch", "parent", "state", "created", "ends"], rows)
        out.finish(branches=[each.as_dict() for each in found])


@branch.command()
def delete(name: NameArgument, timeout: TimeoutOption = TIMEOUT, json: JsonOption = False) -> None:
    """Delete a branch; the default and protected ones are refused."""
    with command("neon branch delete", json=json) as out, client(out, timeout) as neon:
        done = False
        if found := neon.find(name):
            refuse_kept(found, "deletes")
            done = neon.delete(found)
        out.say(f"{name} deleted" if done else f"there is no branch {name}")
        out.finish(done=done)


@branch.command(name="prune")
def prune_(
    open_: Annotated[
        list[int] | None,
        typer.Option("--open", min=0, help="A pull request that is open; 0 where none is."),
    ] = None,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Delete branches of pull requests that expired, or, with --open, that are of no open one."""
    with command("neon branch prune", json=json) as out, client(out, timeout) as neon:
        done = prune(neon, open_)
        for name in done.deleted:
            out.say(f"{name} deleted")
        for name in done.expiring:
            out.say(f"{name} had no end, and expires in {HOURS} hours")
        if not (done.deleted or done.expiring or done.findings):
            out.say("nothing to do")
        out.finish(done.findings, deleted=done.deleted, expiring=done.expiring)


@branch.command()
def restore(
    name: NameArgument,
    *,
    lsn: Annotated[str | None, typer.Option(help="Where its WAL stood; history has it.")] = None,
    at: Annotated[str | None, typer.Option(help="When, such as 2026-02-26T12:00:00Z.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Another branch, as it is now.", callback=named_well)
    ] = None,
    keep_as: Annotated[
        str | None, typer.Option(help="The name of what it is now.", callback=named_well)
    ] = None,
    yes: YesOption = False,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Make a branch what it was, or what another is; what it is now stays under another name."""
    with command("neon branch restore", json=json) as out, client(out, timeout) as neon:
        moment = parsed(lsn, at, source)
        found = named(neon, name)
        origin = named(neon, source) if source else found
        kept = keep_as or f"{name}-before-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        when = lsn or at or f"{source} now"
        confirmed(f"make {name} what {when} was? It stays as {kept}.", json=json, yes=yes)
        restored = neon.restore(found, origin.id, lsn=lsn, at=moment, keep_as=kept)
        out.say(f"{name} is as {when}; what it was before stays as {kept}, without an end")
        out.say(f"next: python -m scripts neon branch url {quote(name)} --env branch.env")
        out.finish(branch=restored.as_dict(), kept_as=kept)


@branch.command()
def diff(
    name: NameArgument,
    base: Annotated[
        str | None, typer.Option(help="Another branch than its parent.", callback=named_well)
    ] = None,
    timeout: TimeoutOption = TIMEOUT,
    json: JsonOption = False,
) -> None:
    """Print how a branch's schema differs from its parent's."""
    with command("neon branch diff", json=json) as out, client(out, timeout) as neon:
        found = named(neon, name)
        if base:
            other = named(neon, base)
        else:
            parent = [each for each in neon.branches() if each.id == found.parent_id]
            if not parent:
                raise refuse("usage", f"{name} has no parent", fix="--base NAME", status=2)
            other = parent[0]
        text = neon.compare(found, other)
        out.say(text or f"{name} has the schema of {other.name}")
        out.finish(diff=text)


def parsed(lsn: str | None, at: str | None, source: str | None) -> datetime | None:
    """Return the moment of --at; ToolError where not exactly one of the three is given."""
    if sum(value is not None for value in (lsn, at, source)) != 1:
        raise refuse("usage", "one of --lsn, --at and --source says what is wanted", status=2)
    if lsn and not LSN.fullmatch(lsn):
        raise refuse("usage", f"--lsn is like 0/16B3748, not {lsn!r}", status=2)
    if not at:
        return None
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise refuse("usage", f"--at {at} has no time zone", fix=f"{at}Z", status=2)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise refuse("usage", f"--at is like 2026-02-26T12:00:00Z, not {at!r}", status=2) from None
