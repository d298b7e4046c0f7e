"""Errors that nobody foresaw where they happened, as findings."""

from __future__ import annotations

import os
from collections.abc import Sequence

import psycopg

from scripts.errors import Finding, ToolError


def findings_of(error: Exception) -> Sequence[Finding]:
    """Return what there is to tell of any error.

    With SCHEMA_TRACEBACK in the environment one that is neither ours, PostgreSQL's nor the
    operating system's is raised again.
    """
    if isinstance(error, ToolError):
        return error.findings
    if isinstance(error, psycopg.Error):
        return [_of_database(error)]
    if isinstance(error, OSError) and error.filename:
        return [Finding("file", f"{error.strerror}", file=str(error.filename))]
    if os.environ.get("SCHEMA_TRACEBACK"):
        raise error
    return [
        Finding(
            "defect",
            f"this is a defect of the tools: {type(error).__name__}: {error}",
            fix="run it again with SCHEMA_TRACEBACK=1 and report it",
        )
    ]


def _of_database(error: psycopg.Error) -> Finding:
    message = f"{error.diag.message_primary or error} ({error.sqlstate or 'connection lost'})"
    fix = error.diag.message_hint or (
        "connect as the owner" if error.sqlstate == "42501" else "see the server's log"
    )
    return Finding("database", message, fix=fix)
