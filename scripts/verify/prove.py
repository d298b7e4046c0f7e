"""What `verify` does to one database: files, catalog and mirrors, in a read-only session."""

from __future__ import annotations

from scripts.address import Address
from scripts.database import connect
from scripts.errors import Finding
from scripts.runner.state import State, read_state
from scripts.settings import project
from scripts.target import is_local_server
from scripts.verify.checks import Check, verify


def prove(address: Address, *, mirrors: bool = True) -> list[Check]:
    """Run the checks of `verify` on a database, in a read-only session."""
    with connect(address, purpose="verify", read_only=True) as connection:
        state = read_state(connection, project().migrations)
        findings = file_findings(state, sealed=not is_local_server(address))
        return verify(connection, newest=state.newest, files=findings, mirrors=mirrors)


def file_findings(state: State, *, sealed: bool) -> list[Finding]:
    """Return what is wrong with the files: applied, unedited, in order, and sealed."""
    pending = [
        migration.forward.finding("pending", "is not applied", fix="python -m scripts migrate")
        for migration in state.pending
    ]
    return [
        *state.findings(),
        *(state.seal_findings() if sealed else []),
        *pending,
    ]
