"""The schema that the migrations make, in an empty database."""

from __future__ import annotations

from pathlib import Path

from scripts.address import Address
from scripts.database import connect
from scripts.runner.run import migrate
from scripts.settings import project


def build(address: Address, target: str | None = None, *, folder: Path | None = None) -> str:
    """Apply roles and migrations to an empty database; return the newest id, or `none`.

    Parameters
    ----------
    address : of the database's owner
    target : the last id or number to apply, `0000` for none; every migration without one
    folder : of the migrations; the project's by default

    Raises
    ------
    ToolError : as for `scripts.runner.run.migrate`
    """
    with connect(address, purpose="build") as connection:
        applied = migrate(
            connection,
            folder or project().migrations,
            roles=project().roles,
            target=target,
            check_seal=False,
        )
    return applied[-1] if applied else "none"
