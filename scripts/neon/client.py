"""Branches of one project at Neon: made, found, changed, waited for, and their addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from scripts.address import Address, parse_address
from scripts.errors import ToolError, refuse
from scripts.neon.api import Api
from scripts.neon.settings import NeonSettings

TIMEOUT = 600.0
"""Seconds for everything that one command asks of the API, unless told otherwise."""

PAGE = 100
"""Branches asked for at once."""

POLL = 0.5
"""Seconds between two looks at what Neon is doing."""

DONE = frozenset({"finished", "skipped"})
FAILED = frozenset({"failed", "error", "cancelled"})

Told = Callable[[str, str], None]
"""Told what Neon is doing and how far it is, whenever that changes."""


@dataclass(frozen=True)
class Branch:
    """A branch, as far as the tools care.

    Parameters
    ----------
    name, id, parent_id : what it is called; a root has no parent
    default, protected : what keeps it from being deleted
    created_at, expires_at : None where it does not expire
    state : Neon's word: init, resetting, ready, archived
    """

    name: str
    id: str
    parent_id: str | None
    default: bool
    protected: bool
    created_at: datetime
    expires_at: datetime | None
    state: str

    @property
    def ends(self) -> str:
        """When it ends, in words."""
        if self.expires_at is None:
            return "does not expire"
        return f"expires {self.expires_at:%Y-%m-%d %H:%M} UTC"

    def as_dict(self) -> dict[str, Any]:
        """Return the branch as the JSON object that scripts/README.md documents."""
        return asdict(self)


class Client(AbstractContextManager["Client", None]):
    """The branches of one project; a context manager that closes the connection.

    Every method raises ToolError as `Api.ask` does, and `neon-operation` where one fails.

    Parameters
    ----------
    settings : which project, and the key
    timeout : seconds for all that is asked together
    told : told of operations
    """

    def __init__(
        self,
        settings: NeonSettings,
        *,
        timeout: float = TIMEOUT,
        told: Told = lambda _action, _status: None,
    ) -> None:
        self._settings = settings
        self._api = Api(settings, timeout)
        self._told = told

    def __exit__(self, *_: object) -> None:
        """Close the connection to the API."""
        self._api.close()

    def branches(self, search: str | None = None) -> Iterator[Branch]:
        """Yield the project's branches, page by page; `search` is a part of name or id."""
        query: dict[str, Any] = {"limit": PAGE, "sort_by": "created_at"}
        if search:
            query["search"] = search

        def read(answer: dict[str, Any]) -> tuple[list[Branch], str | None]:
            found = [_branch(each) for each in answer["branches"]]
            return found, (answer.get("pagination") or {}).get("next")

        while True:
            found, cursor = self._api.ask("GET", "/branches", read, query=query)
            yield from found
            if not (found and cursor) or cursor == query.get("cursor"):
                return
            query["cursor"] = cursor

    def find(self, name: str) -> Branch | None:
        """Return the branch of exactly that name, or None."""
        return next((each for each in self.branches(name) if each.name == name), None)

    def create(self, name: str, *, parent: str, expires_at: datetime) -> Branch:
        """Make a branch with a compute, and wait until it is there.

        A request that fails may have made it all the same, and another run may have been faster: so
        it is looked for then, and not made again.

        Parameters
        ----------
        name : of the branch
        parent : the id of the branch whose data it gets
        expires_at : when Neon deletes it, at most 30 days from now
        """
        body = {
            "branch": {"name": name, "parent_id": parent, "expires_at": _text(expires_at)},
            "endpoints": [{"type": "read_write"}],
        }
        try:
            return self._change("POST", "/branches", body)
        except ToolError as error:
            maybe_made = error.findings[0].code in ("neon-api", "neon-unreachable")
            if not maybe_made or not (made := self.find(name)):
                raise
            return self.ready(made)

    def expire(self, branch: Branch, at: datetime) -> Branch:
        """Set when a branch expires; return it."""
        body = {"branch": {"expires_at": _text(at)}}
        return self._change("PATCH", f"/branches/{branch.id}", body)

    def restore(
        self,
        branch: Branch,
        source: str,
        *,
        lsn: str | None = None,
        at: datetime | None = None,
        keep_as: str | None = None,
    ) -> Branch:
        """Make a branch what another one is, or what it or another one was; wait, and return it.

        Parameters
        ----------
        branch : which one changes
        source : the id of the branch to take; its own where its past is wanted
        lsn, at : the moment, one of them; neither for now
        keep_as : the name under which the branch stays as it is
        """
        body = {
            "source_branch_id": source,
            "source_lsn": lsn,
            "source_timestamp": at and _text(at),
            "preserve_under_name": keep_as,
        }
        known = {name: value for name, value in body.items() if value is not None}
        return self._change("POST", f"/branches/{branch.id}/restore", known)

    def delete(self, branch: Branch) -> bool:
        """Delete a branch, and wait; False where it was gone already."""

        def read(answer: dict[str, Any]) -> list[dict[str, Any]] | None:
            return list(answer["operations"]) if answer else None

        operations = self._api.ask("DELETE", f"/branches/{branch.id}", read)
        self._wait(operations or [])
        return operations is not None

    def address(self, branch: Branch, *, pooled: bool = False) -> Address:
        """Return the owner's address on a branch, with its password.

        Over the network it is reached with the certificate verified: the API's own address says
        `require`, which does not.
        """
        query = {
            "branch_id": branch.id,
            "database_name": self._settings.database,
            "role_name": self._settings.role,
            "pooled": "true" if pooled else "false",
        }
        uri = self._api.ask("GET", "/connection_uri", lambda found: str(found["uri"]), query=query)
        address = parse_address(uri, f"Neon's address of {branch.name}")
        if address.is_local:
            return address
        return address.with_(sslmode="verify-full", channel_binding="require")

    def compare(self, branch: Branch, base: Branch) -> str:
        """Return how a branch's schema differs from another's, as a text diff."""
        query = {"base_branch_id": base.id, "db_name": self._settings.database}
        path = f"/branches/{branch.id}/compare_schema"
        return self._api.ask("GET", path, lambda found: str(found.get("diff") or ""), query=query)

    def ready(self, branch: Branch) -> Branch:
        """Wait until a branch that somebody makes or changes can be used; return it."""
        state = None
        while branch.state in ("init", "resetting"):
            if branch.state != state:
                state = branch.state
                self._told(f"branch {branch.name}", state)
            self._api.pause(POLL, f"branch {branch.name} is {state}")
            branch = self._read(branch)
        return branch

    def _change(self, method: str, path: str, body: Mapping[str, Any]) -> Branch:
        """Ask for a change of a branch, wait until it is made, and return the branch."""

        def read(answer: dict[str, Any]) -> tuple[Branch, list[dict[str, Any]]]:
            return _branch(answer["branch"]), list(answer["operations"])

        branch, operations = self._api.ask(method, path, read, body=body)
        self._wait(operations)
        return self.ready(self._read(branch) if operations else branch)

    def _read(self, branch: Branch) -> Branch:
        return self._api.ask("GET", f"/branches/{branch.id}", lambda a: _branch(a["branch"]))

    def _wait(self, operations: list[dict[str, Any]]) -> None:
        for operation in operations:
            self._wait_for(operation["id"], operation["action"], operation["status"])

    def _wait_for(self, id_: str, action: str, status: str) -> None:
        self._told(action, status)
        while status not in DONE:
            self._api.pause(POLL, f"operation {action} is {status}")

            def read(answer: dict[str, Any]) -> tuple[str, str]:
                operation = answer["operation"]
                return operation["status"], str(operation.get("error") or "it tells no reason")

            before = status
            status, reason = self._api.ask("GET", f"/operations/{id_}", read)
            if status != before:
                self._told(action, status)
            if status in FAILED:
                raise refuse(
                    "neon-operation",
                    f"Neon's operation {action} is {status}: {self._api.plain(reason)}",
                    fix=f"run it again; Neon's console lists it as {id_}",
                )


def _branch(found: Mapping[str, Any]) -> Branch:
    expires = found.get("expires_at")
    return Branch(
        found["name"],
        found["id"],
        found.get("parent_id"),
        found["default"],
        found["protected"],
        datetime.fromisoformat(found["created_at"]),
        datetime.fromisoformat(expires) if expires else None,
        found["current_state"],
    )


def _text(moment: datetime) -> str:
    """Return a moment as the API wants it: RFC 3339, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
