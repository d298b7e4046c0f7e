"""What a stand-in for Neon takes and gives: checked input, and JSON as the real API shapes it."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.neon.project import Project

Body = dict[str, Any]


class Refusal(Exception):  # noqa: N818 - it is an answer
    """What Neon answers instead of doing what it was asked: a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Branch:
    """A branch; a test may change what it likes, such as `protected` or `expires_at`.

    `history` are the moments to restore: when, LSN, and the database that holds what was.
    """

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    parent_id: str | None
    parent_lsn: str
    protected: bool = False
    expires_at: datetime | None = None
    lifetime: timedelta = timedelta()
    state: str = "init"
    endpoint: str | None = None
    port: int = 0
    history: list[tuple[datetime, int, str]] = field(default_factory=list)

    @property
    def database(self) -> str:
        """Its database on the test's server; Neon calls that of every branch the same."""
        return self.id.replace("-", "_")


@dataclass(frozen=True)
class Operation:
    """Something that takes Neon its time, half of it in the queue."""

    branch_id: str
    action: str
    outcome: str
    created_at: datetime
    begins: datetime
    ends: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def status(self, now: datetime) -> str:
        if now >= self.ends:
            return self.outcome
        return "running" if now >= self.begins else "scheduling"


def check(body: Any, kinds: dict[str, Any], *required: str) -> None:
    """Refuse what is no object, lacks something, or has what is unknown or of another type."""
    if not isinstance(body, dict):
        raise Refusal(400, "an object is expected")
    for name in required:
        if name not in body:
            raise Refusal(400, f"{name} is missing")
    for name, value in body.items():
        if name not in kinds or not isinstance(value, kinds[name]):
            raise Refusal(400, f"{name} is unknown, or of a wrong type")


def parse_lsn(text: str) -> int:
    if not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text):
        raise Refusal(400, "that is no LSN")
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, "that is no time") from None
    if moment.tzinfo is None:
        raise Refusal(400, "that time has no zone")
    return moment


def parse_cursor(text: str) -> tuple[str, str]:
    try:
        value, id_ = json.loads(text)
    except (ValueError, TypeError):
        raise Refusal(400, "cursor is none of ours") from None
    return str(value), str(id_)


def branch_shape(branch: Branch, project: Project) -> Body:
    shape = {
        "id": branch.id,
        "project_id": project.id,
        "name": branch.name,
        "current_state": branch.state,
        "state_changed_at": _text(branch.updated_at),
        "creation_source": "console",
        "init_source": "parent-data",
        "created_at": _text(branch.created_at),
        "updated_at": _text(branch.updated_at),
        "default": branch is project.main,
        "protected": branch.protected,
        "parent_lsn": branch.parent_lsn,
        **dict.fromkeys(("cpu_used_sec", "active_time_seconds", "compute_time_seconds"), 0),
        **dict.fromkeys(("written_data_bytes", "data_transfer_bytes"), 0),
    }
    if branch.parent_id:
        shape["parent_id"] = branch.parent_id
    if branch.expires_at:
        shape["expires_at"] = _text(branch.expires_at)
        shape["ttl_interval_seconds"] = round(branch.lifetime.total_seconds())
    return shape


def operation_shape(operation: Operation, project: Project) -> Body:
    status = operation.status(project.now())
    reason = {"error": "as the test ordered"} if status == "failed" else {}
    return {
        **reason,
        "id": operation.id,
        "project_id": project.id,
        "branch_id": operation.branch_id,
        "action": operation.action,
        "status": status,
        "failures_count": 0,
        "created_at": _text(operation.created_at),
        "updated_at": _text(operation.created_at),
        "total_duration_ms": 0,
    }


def connection_shapes(branch: Branch, project: Project) -> Body:
    """Return what a new branch's answer tells of its compute, roles and databases."""
    of_branch = {"branch_id": branch.id}
    times = {"created_at": _text(branch.created_at), "updated_at": _text(branch.updated_at)}
    role = {**of_branch, **times, "name": project.role, "password": project.password}
    database = {**of_branch, **times, "id": 1, "name": project.database}
    roles = {"roles": [role], "databases": [{**database, "owner_name": project.role}]}
    if not branch.endpoint:
        return {**roles, "endpoints": []}
    endpoint = {
        **of_branch,
        **times,
        "id": branch.endpoint,
        "project_id": project.id,
        "host": "127.0.0.1",
        "proxy_host": "127.0.0.1",
        "region_id": "aws-us-east-2",
        "autoscaling_limit_min_cu": 0.25,
        "autoscaling_limit_max_cu": 2,
        "type": "read_write",
        "current_state": "init",
        "pooler_enabled": False,
        "pooler_mode": "transaction",
        "disabled": False,
        "passwordless_access": True,
        "creation_source": "console",
        "settings": {},
        "suspend_timeout_seconds": 0,
        "provisioner": "k8s-neonvm",
    }
    parameters = {
        "database": branch.database,
        "password": project.password,
        "role": project.role,
        "host": "127.0.0.1",
        "pooler_host": f"{branch.endpoint}-pooler.localhost",
    }
    uri = {"connection_uri": project.uri(branch), "connection_parameters": parameters}
    return {**roles, "endpoints": [endpoint], "connection_uris": [uri]}


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
