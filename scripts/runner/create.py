"""The next numbered pair of migration files."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.errors import refuse
from scripts.runner.files import read_migrations

FORWARD = """\
-- {id}
-- Why: TELL why, and why it is safe on a table that is in use.

"""

ROLLBACK = """\
-- {id}: undo, in reverse order.
-- Where rows cannot be brought back, say so in a line of its own: `-- data-loss: WHAT`.

"""


def new(folder: Path, name: str) -> tuple[Path, Path]:
    """Make `NNNN.name.sql` and `NNNN.name.rollback.sql`, to be written.

    Raises
    ------
    ToolError : the name is not verb-object in lowercase (status 2), or the numbers are used up
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", name):
        raise refuse(
            "bad-name",
            f"{name!r} is not verb-object in lowercase letters, digits and hyphens",
            fix="for example: python -m scripts new add-orders-note",
            status=2,
        )
    number = max((int(migration.number) for migration in read_migrations(folder)), default=0) + 1
    if number > 9999:
        raise refuse("bad-name", "9999 is the last number")
    id_ = f"{number:04}.{name}"
    paths = folder / f"{id_}.sql", folder / f"{id_}.rollback.sql"
    for path, template in zip(paths, (FORWARD, ROLLBACK), strict=True):
        path.write_text(template.format(id=id_), "utf-8")
    return paths
