"""A project at Neon as its API's clients see it: branches, operations, and what is refused."""

from __future__ import annotations

import difflib
import json
import re
import secrets
import threading
from datetime import UTC, datetime, timedelta

from scripts.address import Address
from scripts.render.dump import dump
from scripts.server import LocalServer
from tests.support.neon_databases import Databases
from tests.support.neon_shapes import (
    Body,
    Branch,
    Operation,
    Refusal,
    branch_shape,
    check,
    connection_shapes,
    operation_shape,
    parse_cursor,
    parse_lsn,
    parse_time,
)

Answer = tuple[int, Body | None]


class Project:
    """Branches and operations; whoever calls the method of a request holds `lock`.

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
        self._server, self._databases = server, Databases(server, role)
        self._ahead = timedelta()
        self.main = self._new("main", None)
        self.main.state = "ready"
        self._start_compute(self.main)
        self._databases.copy(template, self.main.database, open=True)

    # What is in the test's hand.

    def close(self) -> None:
        self._databases.close()

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
            copy, lsn = self._databases.snapshot(branch.database)
            branch.history.append((self.now(), parse_lsn(lsn), copy))
            return lsn

    def expire(self) -> None:
        """Do what Neon's background job does, sooner or later: delete what has expired."""
        with self.lock:
            for branch in list(self.branches.values()):
                if branch.expires_at and branch.expires_at <= self.now():
                    self._drop(branch)

    def uri(self, branch: Branch, *, pooled: bool = False) -> str:
        """Return a branch's address; the pooled one leads nowhere."""
        host = f"{branch.endpoint}-pooler.localhost" if pooled else "127.0.0.1"
        where = f"{host}:{branch.port}/{branch.database}?sslmode=disable"
        return f"postgresql://{self.role}:{self.password}@{where}"

    def settle(self) -> None:
        """Let clients into the databases whose operations are finished."""
        now = self.now()
        for branch in self.branches.values():
            ends = {each.status(now) for each in self.operations if each.branch_id == branch.id}
            if branch.state != "ready" and ends <= {"finished", "skipped"}:
                self._databases.open(branch.database)
                branch.state = "ready"

    # The requests; each takes what stands in the path, the query and the body.

    def list_branches(self, query: dict[str, str]) -> Answer:
        by, order = query.get("sort_by", "updated_at"), query.get("sort_order", "desc")
        if by not in ("name", "created_at", "updated_at") or order not in ("asc", "desc"):
            raise Refusal(400, "sort_by or sort_order is unknown")
        part = query.get("search", "")
        found = {
            (str(getattr(each, by)), each.id): each
            for each in self.branches.values()
            if part in each.name or part in each.id
        }
        keys = sorted(found, reverse=order == "desc")
        if "cursor" in query:
            last = parse_cursor(query["cursor"])
            keys = [key for key in keys if (key > last if order == "asc" else key < last)]
        size = self._size(query)
        pagination = {"sort_by": by, "sort_order": order}
        if len(keys) >= size:  # so the page after the last one may be empty
            pagination["next"] = json.dumps(keys[size - 1])
        branches = [branch_shape(found[key], self) for key in keys[:size]]
        return 200, {"branches": branches, "annotations": {}, "pagination": pagination}

    def create_branch(self, query: dict[str, str], body: Body) -> Answer:
        check(body, {"branch": dict, "endpoints": list})
        asked = body.get("branch", {})
        texts = dict.fromkeys(("name", "parent_id", "expires_at", "init_source"), str)
        check(asked, {**texts, "protected": bool})
        for endpoint in body.get("endpoints", []):
            check(endpoint, {"type": str}, "type")
            if endpoint["type"] != "read_write":
                raise Refusal(400, "the stand-in makes read_write endpoints only")
        if asked.get("init_source", "parent-data") != "parent-data":
            raise Refusal(400, "the stand-in makes branches of parent-data only")
        parent = self._find(asked["parent_id"]) if asked.get("parent_id") else self.main
        expires_at = self._expiry(asked)
        name = self._free(asked["name"]) if "name" in asked else None
        if parent.expires_at:
            raise Refusal(400, "a branch that expires cannot be a parent")
        self._unlocked(parent)
        branch = self._new(name, parent.id)
        branch.protected = asked.get("protected", False)
        self._set_expiry(branch, expires_at)
        self._databases.copy(parent.database, branch.database)
        actions = ["create_branch"]
        if body.get("endpoints"):
            self._start_compute(branch)
            actions.append("start_compute")
        return 201, {**self._changed(branch, *actions), **connection_shapes(branch, self)}

    def get_branch(self, query: dict[str, str], id: str) -> Answer:
        annotation = {"object": {"type": "console/branch", "id": id}, "value": {}}
        return 200, {"branch": branch_shape(self._find(id), self), "annotation": annotation}

    def update_branch(self, query: dict[str, str], body: Body, id: str) -> Answer:
        branch = self._find(id)
        check(body, {"branch": dict}, "branch")
        asked = body["branch"]
        check(asked, {"name": str, "protected": bool, "expires_at": (str, type(None))})
        expires_at = self._expiry(asked)
        if expires_at and (branch is self.main or branch.protected or self._children(branch)):
            raise Refusal(400, "a default or protected branch, or a parent, cannot expire")
        self._unlocked(branch)
        if asked.get("name", branch.name) != branch.name:
            branch.name = self._free(asked["name"])
        branch.protected = asked.get("protected", branch.protected)
        if "expires_at" in asked:
            self._set_expiry(branch, expires_at)
        branch.updated_at = self.now()
        return 200, self._changed(branch)

    def delete_branch(self, query: dict[str, str], id: str) -> Answer:
        branch = self.branches.get(id)
        if not branch:
            return 204, None
        if branch is self.main or branch.protected or self._children(branch):
            raise Refusal(422, "a default or protected branch, or a parent, cannot be deleted")
        self._unlocked(branch)
        self._drop(branch)
        return 200, self._changed(branch, "suspend_compute", "delete_timeline")

    def restore_branch(self, query: dict[str, str], body: Body, id: str) -> Answer:
        branch = self._find(id)
        names = ("source_branch_id", "source_lsn", "source_timestamp", "preserve_under_name")
        check(body, dict.fromkeys(names, str), "source_branch_id")
        source = self._find(body["source_branch_id"])
        past = self._past(source, body)
        if branch is source and not past:
            raise Refusal(400, "source_lsn or source_timestamp is required")
        keep = body.get("preserve_under_name")
        if not keep and (branch is source or self._children(branch)):
            raise Refusal(400, "preserve_under_name is required")
        if branch is not source and source.expires_at:
            raise Refusal(400, "a branch that expires cannot be a parent")
        name = self._free(keep) if keep else None
        self._unlocked(branch, source)
        parent = source
        if name:
            kept = self._new(name, branch.parent_id)
            kept.state, kept.history = "ready", branch.history
            for child in self._children(branch):
                child.parent_id = kept.id
            self._databases.rename(branch.database, kept.database)
            parent = kept if branch is source else source
        else:
            self._databases.drop(branch.database)
        branch.history = past or list(source.history)
        self._databases.copy(past[-1][2] if past else source.database, branch.database)
        branch.parent_id, branch.state, branch.updated_at = parent.id, "resetting", self.now()
        branch.parent_lsn = self._databases.lsn()
        if branch.expires_at:
            self._set_expiry(branch, self.now() + branch.lifetime)
        return 200, self._changed(branch, "create_branch", "start_compute")

    def compare_schema(self, query: dict[str, str], id: str) -> Answer:
        branch = self._find(id)
        base = self._find(query.get("base_branch_id") or branch.parent_id or "")
        self._called(query["db_name"], self.role)
        before, after = (
            "".join(f"{each.text};\n" for each in dump(self.address(one.name))).splitlines()
            for one in (base, branch)
        )
        names = f"a/{self.database}", f"b/{self.database}"
        diff = difflib.unified_diff(before, after, *names, lineterm="")
        return 200, {"diff": "\n".join(diff)}

    def connection_uri(self, query: dict[str, str]) -> Answer:
        branch = self._find(query["branch_id"]) if "branch_id" in query else self.main
        self._called(query["database_name"], query["role_name"])
        if query.get("pooled", "false") not in ("true", "false"):
            raise Refusal(400, "pooled is no boolean")
        if not branch.endpoint:
            raise Refusal(404, "the branch has no read-write endpoint")
        return 200, {"uri": self.uri(branch, pooled=query.get("pooled") == "true")}

    def get_operation(self, query: dict[str, str], id: str) -> Answer:
        for operation in self.operations:
            if operation.id == id:
                return 200, {"operation": operation_shape(operation, self)}
        raise Refusal(404, "operation not found")

    # What they have in common.

    def _find(self, id: str) -> Branch:
        if id not in self.branches:
            raise Refusal(404, "branch not found")
        return self.branches[id]

    def _new(self, name: str | None, parent_id: str | None) -> Branch:
        id_, now = f"br-{secrets.token_hex(6)}", self.now()
        branch = Branch(id_, name or id_, now, now, parent_id, self._databases.lsn())
        self.branches[id_] = branch
        return branch

    def _drop(self, branch: Branch) -> None:
        del self.branches[branch.id]
        self._databases.drop(branch.database)

    def _children(self, branch: Branch) -> list[Branch]:
        return [each for each in self.branches.values() if each.parent_id == branch.id]

    def _start_compute(self, branch: Branch) -> None:
        branch.endpoint = f"ep-{secrets.token_hex(6)}"
        branch.port = self._server.superuser.port
        if self.suspended:
            branch.port = self._databases.sleeping_port()

    def _unlocked(self, *branches: Branch) -> None:
        ids, now = {branch.id for branch in branches}, self.now()
        for each in self.operations:
            if each.ends > now and (self.locks_project or each.branch_id in ids):
                raise Refusal(423, "an operation is running; another cannot be scheduled")

    def _free(self, name: str) -> str:
        if not 1 <= len(name) <= 256:
            raise Refusal(400, "name is too short or too long")
        if any(branch.name == name for branch in self.branches.values()):
            raise Refusal(409, f"branch {name} already exists")
        return name

    def _expiry(self, asked: Body) -> datetime | None:
        if not asked.get("expires_at"):
            return None
        if not re.fullmatch(r"[\d-]{10}T[\d:]{8}(Z|[+-]\d\d:\d\d)", asked["expires_at"]):
            raise Refusal(400, "expires_at is not RFC 3339 to the second")
        expires_at = parse_time(asked["expires_at"])
        if not self.now() < expires_at <= self.now() + timedelta(days=30):
            raise Refusal(400, "expires_at is past, or more than 30 days ahead")
        return expires_at

    def _set_expiry(self, branch: Branch, expires_at: datetime | None) -> None:
        branch.expires_at = expires_at
        branch.lifetime = expires_at - self.now() if expires_at else timedelta()

    def _past(self, source: Branch, asked: Body) -> list[tuple[datetime, int, str]]:
        """Return the history up to what is asked for, if that is not the branch's head."""
        if "source_lsn" in asked and "source_timestamp" in asked:
            raise Refusal(400, "either source_lsn or source_timestamp")
        if "source_lsn" in asked:
            lsn, newest = parse_lsn(asked["source_lsn"]), parse_lsn(self._databases.lsn())
            past = [each for each in source.history if each[1] <= lsn <= newest]
        elif "source_timestamp" in asked:
            moment = parse_time(asked["source_timestamp"])
            past = [each for each in source.history if each[0] <= moment <= self.now()]
        else:
            return []
        if not past:
            raise Refusal(400, "that moment is outside of the history")
        return past

    def _called(self, database: str, role: str) -> None:
        if (database, role) != (self.database, self.role):
            raise Refusal(404, "database or role not found")

    def _size(self, query: dict[str, str]) -> int:
        limit = query.get("limit", "100")
        if not limit.isdecimal() or not 1 <= int(limit) <= 10000:
            raise Refusal(400, "limit is no number from 1 to 10000")
        return min(int(limit), self.page)

    def _changed(self, branch: Branch, *actions: str) -> Body:
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
