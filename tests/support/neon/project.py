"""A project of a stand-in for Neon: its branches, its clock, and what takes time."""

from __future__ import annotations

import secrets
import threading
from datetime import UTC, datetime, timedelta

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.neon.databases import Databases
from tests.support.neon.shapes import (
    Body,
    Branch,
    Operation,
    Refusal,
    branch_shape,
    operation_shape,
    parse_lsn,
)


class Project:
    """Branches and operations, of which a test sets what it wants.

    Parameters
    ----------
    server : where the databases are
    template : the database that the default branch, `main`, begins as
    database, role : what Neon calls them on each branch; the role is there on the server
    seconds : how long each operation takes that begins from now on; a request's run in turns
    page : how many branches a page of the list has at the most
    """

    def __init__(
        self,
        server: LocalServer,
        template: str,
        *,
        database: str,
        role: str,
        seconds: float,
        page: int,
    ) -> None:
        self.id = f"still-lake-{secrets.token_hex(4)}"
        self.password = f"pw-{secrets.token_hex(8)}"
        self.database, self.role, self.seconds, self.page = database, role, seconds, page
        self.suspended = False  # whether the computes of new branches are asleep
        self.locks_project = False  # whether an operation locks every branch, not only its own
        self.outcomes: list[str] = []  # of the next requests' operations, such as "failed"
        self.lock = threading.RLock()
        self.branches: dict[str, Branch] = {}
        self.operations: list[Operation] = []
        self._server, self.databases = server, Databases(server, role)
        self._ahead = timedelta()
        self.main = self.new("main", None)
        self.main.state = "ready"
        self.start_compute(self.main)
        self.databases.copy(template, self.main.database, open=True)

    # What is in the test's hand.

    def close(self) -> None:
        self.databases.close()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, **span: float) -> None:
        """Put Neon's clock forward: `hours=25`, `seconds=1`."""
        self._ahead += timedelta(**span)

    def branch(self, name: str) -> Branch:
        """Return a branch by its name; KeyError where there is none."""
        return {branch.name: branch for branch in self.branches.values()}[name]

    def address(self, name: str) -> Address:
        """Return the address of a branch's database for its owner, past Neon."""
        return self._server.address(self.role, self.branch(name).database)

    def checkpoint(self, name: str = "main") -> str:
        """Keep what a branch is, for restores to any moment from now on; return the LSN."""
        with self.lock:
            branch = self.branch(name)
            copy, lsn = self.databases.snapshot(branch.database)
            branch.history.append((self.now(), parse_lsn(lsn), copy))
            return lsn

    def expire(self) -> None:
        """Do what Neon's background job does, sooner or later: delete what has expired."""
        with self.lock:
            for branch in list(self.branches.values()):
                if branch.expires_at and branch.expires_at <= self.now():
                    self.drop(branch)

    def uri(self, branch: Branch, *, pooled: bool = False) -> str:
        """Return a branch's address; the pooled one leads nowhere."""
        host = f"{branch.endpoint}-pooler.localhost" if pooled else "127.0.0.1"
        where = f"{host}:{branch.port}/{branch.database}?sslmode=disable"
        return f"postgresql://{self.role}:{self.password}@{where}"

    def settle(self) -> None:
        """Let clients into the databases whose operations are finished."""
        now = self.now()
        newest = {each.branch_id: each.status(now) for each in self.operations}
        for branch in self.branches.values():
            if branch.state != "ready" and newest[branch.id] in ("finished", "skipped"):
                self.databases.open(branch.database)
                branch.state = "ready"

    # What requests have in common; they hold `lock`.

    def find(self, id: str) -> Branch:
        if id not in self.branches:
            raise Refusal(404, "branch not found")
        return self.branches[id]

    def new(self, name: str | None, parent_id: str | None) -> Branch:
        id_, now = f"br-{secrets.token_hex(6)}", self.now()
        branch = Branch(id_, name or id_, now, now, parent_id, self.databases.lsn())
        self.branches[id_] = branch
        return branch

    def drop(self, branch: Branch) -> None:
        del self.branches[branch.id]
        self.databases.drop(branch.database)

    def children(self, branch: Branch) -> list[Branch]:
        return [each for each in self.branches.values() if each.parent_id == branch.id]

    def start_compute(self, branch: Branch) -> None:
        branch.endpoint = f"ep-{secrets.token_hex(6)}"
        branch.port = self._server.superuser.port
        if self.suspended:
            branch.port = self.databases.sleeping_port()

    def unlocked(self, *branches: Branch) -> None:
        ids, now = {branch.id for branch in branches}, self.now()
        for each in self.operations:
            if each.ends > now and (self.locks_project or each.branch_id in ids):
                raise Refusal(423, "an operation is running; another cannot be scheduled")

    def free(self, name: str) -> str:
        if not 1 <= len(name) <= 256:
            raise Refusal(400, "name is too short or too long")
        if any(branch.name == name for branch in self.branches.values()):
            raise Refusal(409, f"branch {name} already exists")
        return name

    def set_expiry(self, branch: Branch, expires_at: datetime | None) -> None:
        branch.expires_at = expires_at
        branch.lifetime = expires_at - self.now() if expires_at else timedelta()

    def changed(self, branch: Branch, *actions: str) -> Body:
        """Schedule what follows from a change, and return what Neon tells of it."""
        now, step = self.now(), timedelta(seconds=self.seconds)
        outcome = self.outcomes.pop(0) if actions and self.outcomes else "finished"
        begun = []
        for turn, action in enumerate(actions):
            begins, ends = now + step * (turn + 0.5), now + step * (turn + 1)
            begun.append(Operation(branch.id, action, outcome, now, begins, ends))
        self.operations += begun
        shapes = [operation_shape(each, self) for each in begun]
        return {"branch": branch_shape(branch, self), "operations": shapes}
