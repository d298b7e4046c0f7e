"""Which database a command means."""

from __future__ import annotations

from scripts.address import Address
from scripts.errors import refuse
from scripts.server import local_server
from scripts.settings import configured_address, project


def owner_address() -> Address:
    """Return the owner's address: the configured one, else the running local server's.

    Raises
    ------
    ToolError : nothing is configured and no local server runs, or the setting is wrong (status 2)
    """
    if configured := configured_address():
        return configured
    server = local_server()
    if not server.is_running:
        raise refuse(
            "settings",
            "no database: MIGRATION_DATABASE_URL is not set, and the local server is not running",
            fix="make up, or set MIGRATION_DATABASE_URL to the owner's direct address",
            status=2,
        )
    return server.address(project().local_owner, project().local_database)


def is_local_server(address: Address) -> bool:
    """Return whether the address is the local server's, whose data is disposable."""
    return local_server().owns(address)
