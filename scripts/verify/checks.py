"""The proof of `verify`: what a database is, against what the files say it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from scripts.catalog.diff import diff
from scripts.catalog.model import Catalog
from scripts.catalog.read import read_catalog
from scripts.database import connect
from scripts.errors import Finding
from scripts.render.snapshot import load_snapshot, snapshot_version
from scripts.scratch import scratch_database
from scripts.settings import project


class Check(NamedTuple):
    """One check, by its name in scripts/README.md, and what it found."""

    name: str
    findings: Sequence[Finding]

    def as_dict(self) -> dict[str, object]:
        """Return the check as the JSON object that scripts/README.md documents."""
        return {"check": self.name, "ok": not self.findings}


def verify(
    connection: psycopg.Connection,
    *,
    newest: str,
    files: Sequence[Finding] = (),
    mirrors: bool = True,
) -> list[Check]:
    """Prove files, indexes, constraints, catalog and mirrors, in this order.

    Where there is no snapshot of the database's newest migration, that is the one finding of
    `catalog`, and `mirrors` is left out: both could only repeat what is pending.

    Parameters
    ----------
    connection : to the database under proof, read-only; nothing is written there
    newest : the id of its newest applied migration; empty where nothing is applied
    files : what the runner finds wrong with the files
    mirrors : compare them too, whose libraries take a second to import

    Raises
    ------
    ToolError : the local server, which the proof needs, cannot be started
    """
    actual = read_catalog(connection)
    findings, compared = _against_snapshot(actual, newest)
    checks = [
        Check("files", files),
        Check("indexes", invalid_indexes(actual)),
        Check("constraints", unvalidated_constraints(actual)),
        Check("catalog", findings),
    ]
    if not (mirrors and compared):
        return checks
    # Here, for it imports SQLAlchemy and alembic, which the other checks do without.
    from scripts.verify.mirrors import compare_mirrors  # noqa: PLC0415

    return [*checks, Check("mirrors", compare_mirrors(connection, project().mirrors))]


def invalid_indexes(catalog: Catalog) -> list[Finding]:
    """Return a finding for each index that PostgreSQL does not use, or does not keep up."""
    return [
        Finding(
            "invalid-index",
            f"{index} is {'not ready' if index.attributes['valid'] else 'invalid'}: "
            "building it was interrupted",
            object=index.name,
            fix=f"reindex index concurrently {index.name};",
        )
        for index in catalog.values()
        if index.kind == "index" and not (index.attributes["valid"] and index.attributes["ready"])
    ]


def unvalidated_constraints(catalog: Catalog) -> list[Finding]:
    """Return a finding for each constraint that rows of before need not meet."""
    findings = []
    for constraint in catalog.values():
        if constraint.attributes.get("validated") is False:
            # `table constraint NAME on OWNER`
            kind, _, _ = constraint.kind.partition(" ")
            owner = constraint.parent[1] if constraint.parent else ""
            name = constraint.name.removesuffix(f" on {owner}")
            findings.append(
                Finding(
                    "unvalidated-constraint",
                    f"{constraint} is not validated: older rows may break it",
                    object=constraint.name,
                    fix=f"alter {kind} {owner} validate constraint {name};",
                )
            )
    return findings


def drift(actual: Catalog, expected: Catalog) -> list[Finding]:
    """Return a finding for each way in which a database is not what the snapshot makes."""
    fix = "write the migration that is missing, or undo what was done by hand"
    return [
        Finding("drift", str(difference), object=difference.object.name, fix=fix)
        for difference in diff(expected, actual)
    ]


def _against_snapshot(actual: Catalog, newest: str) -> tuple[list[Finding], bool]:
    """Return how the catalog is not the snapshot's, and whether the two could be compared."""
    path = project().snapshot
    file = project().relative(path)

    def unfit(message: str, line: int | None = None) -> tuple[list[Finding], bool]:
        fix = "python -m scripts render"
        return [
            Finding("stale-snapshot", f"{file} {message}", file=file, line=line, fix=fix)
        ], False

    if not path.exists():
        return unfit("is missing")
    text = path.read_text("utf-8")
    version = snapshot_version(text)
    if version != newest:
        message = f"is of {version or 'none'}, and the newest applied migration is"
        message = f"{message} {newest or 'none'}: the two were not compared"
        if version and newest < version:
            fix = "python -m scripts migrate"
            return [Finding("drift", f"{file} {message}", file=file, fix=fix)], False
        return unfit(message, 1)
    with scratch_database() as address, connect(address, purpose="verify") as connection:
        connection.execute(project().roles.read_bytes())
        try:
            load_snapshot(connection, text)
        except psycopg.Error as error:
            place = int(error.diag.statement_position or 1)
            line = text.count("\n", 0, place - 1) + 1
            return unfit(f"does not load: {error.diag.message_primary}", line)
        return drift(actual, read_catalog(connection)), True
