"""Files against database: what is applied, what is pending, and what is wrong with either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg

from scripts.errors import Finding, ToolError, refuse
from scripts.runner import seal
from scripts.runner.files import Migration, read_migrations
from scripts.runner.ledger import Applied, read_applied


@dataclass(frozen=True)
class State:
    """The folder's migrations in order, and the applied ones by id."""

    folder: Path
    migrations: list[Migration]
    applied: dict[str, Applied]

    @property
    def pending(self) -> list[Migration]:
        """The migrations that are not applied, in order."""
        return [migration for migration in self.migrations if migration.id not in self.applied]

    @property
    def newest(self) -> str:
        """The newest applied id; empty where nothing is applied."""
        return max(self.applied, default="")

    def pending_until(self, target: str | None) -> list[Migration]:
        """Return the pending migrations up to and with the target, all of them without one.

        Raises
        ------
        ToolError : no migration has that id or number (status 2)
        """
        last = None if target is None else self.resolve(target)
        return [m for m in self.pending if last is None or m.id <= last]

    def applied_after(self, target: str | None, steps: int) -> list[str]:
        """Return the applied ids after the target, or the newest `steps`, newest first.

        Raises
        ------
        ToolError : no migration has that id or number (status 2)
        """
        newest_first = sorted(self.applied, reverse=True)
        if target is None:
            return newest_first[:steps]
        last = self.resolve(target)
        return [id_ for id_ in newest_first if id_ > last]

    def resolve(self, target: str) -> str:
        """Return the id that a user means by an id or a number; empty for 0000."""
        if target == "0000":
            return ""
        known = {migration.id for migration in self.migrations} | set(self.applied)
        matches = [id_ for id_ in known if target in (id_, id_.partition(".")[0])]
        if not matches:
            raise refuse(
                "unknown-version",
                f"no migration is called {target}",
                fix="python -m scripts status lists them; 0000 is before the first",
                status=2,
            )
        return matches[0]

    def findings(self) -> list[Finding]:
        """Return what forbids a run: applied files edited or gone, new ones sorting too early."""
        files = {migration.id: migration for migration in self.migrations}
        findings = []
        for id_, applied in self.applied.items():
            if id_ not in files:
                findings.append(
                    Finding(
                        "missing",
                        f"{id_} is applied, and its file is gone or was renamed",
                        object=id_,
                        fix=f"restore {id_}.sql from git",
                    )
                )
            elif applied.checksum not in (None, files[id_].forward.checksum):
                findings.append(
                    files[id_].forward.finding(
                        "edited",
                        f"was edited after it was applied on {applied.applied_at:%Y-%m-%d}",
                        fix="restore it from git, and put the change into a new migration "
                        "(python -m scripts new NAME)",
                    )
                )
        findings += [
            migration.forward.finding(
                "out-of-order",
                f"is new, and sorts before {self.newest}, which is applied",
                fix=f"give it the next number after {max(*files, self.newest)[:4]}",
            )
            for migration in self.pending
            if migration.id < self.newest
        ]
        return findings

    def seal_findings(self) -> list[Finding]:
        """Return what checksums.txt says otherwise than the files."""
        return seal.check(self.migrations, self.folder)


def read_state(connection: psycopg.Connection, folder: Path) -> State:
    """Read the folder and the database; writes nothing.

    Raises
    ------
    ToolError : a file of the folder cannot be read as a migration
    """
    return State(folder, read_migrations(folder), read_applied(connection))


def refuse_findings(findings: list[Finding]) -> None:
    """Raise the findings, where there are any."""
    if findings:
        raise ToolError(*findings)
