"""Physical designs to be measured: folders of plain SQL, and this project's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import refuse
from scripts.settings import ROOT
from scripts.workload.seed import read_parts

ON_TOP = "-- on: migrations"
"""First line of a `schema.sql` that changes this project's design; its parts change ours, too."""


@dataclass(frozen=True)
class Design:
    """A physical design: the statements of its `bench.sql` by name, and what makes its tables.

    `migrated` says that the migrations come first; `schema` is the SQL that follows.
    """

    name: str
    parts: dict[str, str]
    migrated: bool
    schema: str


def own_design() -> Design:
    """Return the design of this project's migrations, with the statements of `sql/bench.sql`."""
    return Design("ours", read_parts(ROOT / "sql" / "bench.sql"), True, "")


def read_design(folder: Path) -> Design:
    """Read a folder with `schema.sql` and `bench.sql`; the latter may be missing on top of ours.

    Raises
    ------
    ToolError : a file or a part that loads the data is missing (code `bad-design`)
    """
    name, file = folder.resolve().name, folder / "bench.sql"
    if name in ("ours", "reference") or not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
        raise refuse(
            "bad-design",
            f"{folder}: the folder's name becomes a database's",
            fix="call it something short in small letters, but not ours or reference",
        )
    try:
        schema = (folder / "schema.sql").read_text("utf-8-sig")
        migrated = schema.partition("\n")[0].rstrip() == ON_TOP
        parts = read_parts(file) if file.exists() or not migrated else {}
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(
            "bad-design",
            f"{getattr(error, 'filename', folder)}: {getattr(error, 'strerror', error)}",
            fix="a design is a folder with schema.sql and bench.sql, as in tests/baselines",
        ) from None
    if migrated:
        parts = {**own_design().parts, **parts}
    for part in ("load users", "load tasks"):
        if part not in parts:
            raise refuse(
                "bad-design",
                f"{file}: there is no part `-- name: {part}`",
                fix="write it; tests/baselines has examples",
            )
    return Design(name, parts, migrated, schema)
