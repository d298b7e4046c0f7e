"""The proof of `verify`: what a database is, against what the files say it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import psycopg

from scripts.catalog.diff import diff
from scripts.catalog.model import Catalog
from scripts.catalog.read import read_catalog
from scripts.database import connect
from scripts.errors import Finding, ToolError
from scripts.render.snapshot import load_snapshot, snapshot_version
from scripts.scratch import scratch_database
from scripts.settings import project


class Check(NamedTuple):
    """One check, by its name in scripts/README.md, and what it found."""

    name: str
    findings: Sequence[Finding]


class UnfitSnapshotError(ToolError):
    """There is nothing to compare the database with, for the reason that the finding tells."""


def verify(
    connection: psycopg.Connection,
    *,
    newest: str,
    files: Sequence[Finding] = (),
    mirrors: bool = True,
) -> list[Check]:
    """Prove files, indexes, constraints, catalog and mirrors, in this order.

    Where the snapshot is of another migration than the database's newest, that is the one finding
    of `catalog`, and `mirrors` is left out: both could only repeat what is pending.

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
    checks = [
        Check("files", files),
        Check("indexes", invalid_indexes(actual)),
        Check("constraints", unvalidated_constraints(actual)),
    ]
    try:
        expected = _expected(_read_snapshot(newest))
    except UnfitSnapshotError as error:
        return [*checks, Check("catalog", error.findings)]
    checks.append(Check("catalog", drift(actual, expected)))
    if not mirrors:
        return checks
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
        if constraint.kind == "constraint" and not constraint.attributes["validated"]:
            assert constraint.parent
            kind, owner = constraint.parent
            name = constraint.name.removeprefix(f"{owner}.")
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
    return [
        Finding(
            "drift",
            str(difference),
            object=difference.object.name,
            fix="write the migration that is missing, or undo what was done by hand",
        )
        for difference in diff(expected, actual)
    ]


def _read_snapshot(newest: str) -> str:
    """Return the snapshot, or raise where it is not of the newest applied migration."""
    path = project().snapshot
    file = project().relative(path)
    render = "python -m scripts render"
    if not path.exists():
        raise UnfitSnapshotError(
            Finding("stale-snapshot", f"{file} is missing", file=file, fix=render)
        )
    text = path.read_text("utf-8")
    version = snapshot_version(text)
    if version == newest:
        return text
    message = (
        f"the newest applied migration is {newest or 'none'}, and {file} is of {version or 'none'}:"
        " the two were not compared"
    )
    if version and newest < version:
        raise UnfitSnapshotError(
            Finding("drift", message, file=file, fix="python -m scripts migrate")
        )
    raise UnfitSnapshotError(Finding("stale-snapshot", message, file=file, line=1, fix=render))


def _expected(snapshot: str) -> Catalog:
    """Return the catalog that the snapshot makes in a local scratch database."""
    with (
        scratch_database() as address,
        connect(address, purpose="verify") as connection,
    ):
        connection.execute(project().roles.read_bytes())
        try:
            load_snapshot(connection, snapshot)
        except psycopg.Error as error:
            raise _does_not_load(error, snapshot) from error
        return read_catalog(connection)


def _does_not_load(error: psycopg.Error, snapshot: str) -> UnfitSnapshotError:
    file = project().relative(project().snapshot)
    position = int(error.diag.statement_position or 1)
    return UnfitSnapshotError(
        Finding(
            "stale-snapshot",
            f"{file} does not load: {error.diag.message_primary}",
            file=file,
            line=snapshot.count("\n", 0, position - 1) + 1,
            fix="python -m scripts render",
        )
    )
