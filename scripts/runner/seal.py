"""migrations/checksums.txt: what the files held when they were reviewed.

A line per migration: `id sha256(forward) sha256(rollback) chain`. The chain covers every line
before it, so that two branches that both add a migration conflict in git, and never merge silently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from scripts.errors import Finding, ToolError
from scripts.runner.files import Migration
from scripts.settings import project

FILE = "checksums.txt"


def entries(migrations: list[Migration]) -> dict[str, str]:
    """Return the line that each migration ought to have, by id."""
    lines: dict[str, str] = {}
    chain = ""
    for migration in migrations:
        rollback = migration.rollback.checksum if migration.rollback else "-"
        content = f"{migration.id} {migration.forward.checksum} {rollback}"
        chain = hashlib.sha256(f"{chain} {content}".encode()).hexdigest()[:16]
        lines[migration.id] = f"{content} {chain}"
    return lines


def check(migrations: list[Migration], folder: Path) -> list[Finding]:
    """Return a finding for each migration whose line is missing, different, or of no file."""
    wanted, found = entries(migrations), _read(folder)
    if list(wanted.items()) == list(found.items()):
        return []
    changed = [id_ for id_ in {**wanted, **found} if wanted.get(id_) != found.get(id_)]
    return [
        Finding(
            "seal",
            f"{id_} is not in the file as it stands in the folder",
            object=id_,
            file=project().relative(folder / FILE),
            fix="python -m scripts seal",
        )
        # A changed entry changes the chain of all that follow; one is enough to say so.
        for id_ in changed[:1] or ["the order"]
    ]


def seal(migrations: list[Migration], folder: Path, applied: Collection[str] | None) -> list[str]:
    """Write the lines of files that are not applied yet.

    Parameters
    ----------
    migrations : the folder's migrations
    folder : where checksums.txt is
    applied : the applied ids, or None where no database tells; then lines are only added

    Returns
    -------
    The ids whose lines were written.

    Raises
    ------
    ToolError : the line of an applied file would change or go away
    """
    wanted, found = entries(migrations), _read(folder)
    kept = found if applied is None else {id_: found[id_] for id_ in found if id_ in applied}
    changed = [id_ for id_ in kept if wanted.get(id_) != kept[id_]]
    if changed:
        why = "it is applied" if applied is not None else "no database tells whether it is applied"
        raise ToolError(
            Finding(
                "edited" if changed[0] in wanted else "missing",
                f"the line of {changed[0]} would change, and {why}",
                object=changed[0],
                file=project().relative(folder / FILE),
                fix="restore the file, and write a new migration"
                if applied is not None
                else "start the local server (make up), or set MIGRATION_DATABASE_URL",
            )
        )
    if list(wanted.items()) == list(found.items()):
        return []
    (folder / FILE).write_text("".join(f"{line}\n" for line in wanted.values()), "utf-8")
    return [id_ for id_ in wanted if wanted[id_] != found.get(id_)]


def _read(folder: Path) -> dict[str, str]:
    """Return the file's lines by id; what git leaves of a conflict belongs to no migration."""
    path = folder / FILE
    text = path.read_text("utf-8") if path.exists() else ""
    return {line.partition(" ")[0]: line for line in text.splitlines() if line.strip()}
