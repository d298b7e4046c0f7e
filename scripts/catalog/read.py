"""Reading a database's catalog."""

from __future__ import annotations

import psycopg

from scripts.catalog.model import Catalog, Object
from scripts.catalog.queries import QUERY

# How PostgreSQL prints definitions: every name with its schema, and values as on any other host.
# Planning the query once costs less than compiling it.
SETTINGS = """
select
    set_config('search_path', '', true),
    set_config('quote_all_identifiers', 'off', true),
    set_config('DateStyle', 'ISO, MDY', true),
    set_config('IntervalStyle', 'postgres', true),
    set_config('TimeZone', 'UTC', true),
    set_config('bytea_output', 'hex', true),
    set_config('jit', 'off', true)
"""


def read_catalog(connection: psycopg.Connection) -> Catalog:
    """Read what a database holds beside the system's, extensions' and the tools' own objects.

    The answer does not depend on the session's settings, on PostgreSQL's version (16 to 18), or on
    who owns the objects. Left out is what no schema of ours has had so far: operators, casts,
    collations, text search, foreign servers, event triggers, publications, default privileges.

    Parameters
    ----------
    connection : to the database; nothing is written

    Returns
    -------
    Catalog : every object by its kind and name, read in one query
    """
    with connection.transaction(force_rollback=True):
        connection.execute(SETTINGS)
        rows = connection.execute(QUERY).fetchall()
    keys = {address: (kind, name) for address, _, kind, name, _ in rows}
    parents = {address: parent for address, parent, *_ in rows}

    def is_whole(address: str | None) -> bool:
        """Whether nothing that the object belongs to was left out."""
        return address is None or (address in parents and is_whole(parents[address]))

    return {
        (kind, name): Object(kind, name, keys[parent] if parent else None, attributes)
        for address, parent, kind, name, attributes in rows
        if is_whole(address)
    }
