"""The requests that a stand-in for Neon understands, and what each does to the project."""

from __future__ import annotations

import difflib
import json
import re
from datetime import datetime, timedelta

from scripts.render.dump import dump
from tests.support.neon.project import Project
from tests.support.neon.shapes import (
    Body,
    Branch,
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


def list_branches(project: Project, query: dict[str, str]) -> Answer:
    by, order = query.get("sort_by", "updated_at"), query.get("sort_order", "desc")
    if by not in ("name", "created_at", "updated_at") or order not in ("asc", "desc"):
        raise Refusal(400, "sort_by or sort_order is unknown")
    part = query.get("search", "")
    found = {
        (str(getattr(each, by)), each.id): each
        for each in project.branches.values()
        if part in each.name or part in each.id
    }
    keys = sorted(found, reverse=order == "desc")
    if "cursor" in query:
        last = parse_cursor(query["cursor"])
        keys = [key for key in keys if (key > last if order == "asc" else key < last)]
    size = _size(project, query)
    pagination = {"sort_by": by, "sort_order": order}
    if len(keys) >= size:  # so the page after the last one may be empty
        pagination["next"] = json.dumps(keys[size - 1])
    branches = [branch_shape(found[key], project) for key in keys[:size]]
    return 200, {"branches": branches, "annotations": {}, "pagination": pagination}


def create_branch(project: Project, query: dict[str, str], body: Body) -> Answer:
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
    parent = project.find(asked["parent_id"]) if asked.get("parent_id") else project.main
    expires_at = _expiry(project, asked)
    name = project.free(asked["name"]) if "name" in asked else None
    if parent.expires_at:
        raise Refusal(400, "a branch that expires cannot be a parent")
    project.unlocked(parent)
    branch = project.new(name, parent.id)
    branch.protected = asked.get("protected", False)
    project.set_expiry(branch, expires_at)
    project.databases.copy(parent.database, branch.database)
    actions = ["create_branch"]
    if body.get("endpoints"):
        project.start_compute(branch)
        actions.append("start_compute")
    return 201, {**project.changed(branch, *actions), **connection_shapes(branch, project)}


def get_branch(project: Project, query: dict[str, str], id: str) -> Answer:
    annotation = {"object": {"type": "console/branch", "id": id}, "value": {}}
    return 200, {"branch": branch_shape(project.find(id), project), "annotation": annotation}


def update_branch(project: Project, query: dict[str, str], body: Body, id: str) -> Answer:
    branch = project.find(id)
    check(body, {"branch": dict}, "branch")
    asked = body["branch"]
    check(asked, {"name": str, "protected": bool, "expires_at": (str, type(None))})
    expires_at = _expiry(project, asked)
    if expires_at and (branch is project.main or branch.protected or project.children(branch)):
        raise Refusal(400, "a default or protected branch, or a parent, cannot expire")
    project.unlocked(branch)
    if asked.get("name", branch.name) != branch.name:
        branch.name = project.free(asked["name"])
    branch.protected = asked.get("protected", branch.protected)
    if "expires_at" in asked:
        project.set_expiry(branch, expires_at)
    branch.updated_at = project.now()
    return 200, project.changed(branch)


def delete_branch(project: Project, query: dict[str, str], id: str) -> Answer:
    branch = project.branches.get(id)
    if not branch:
        return 204, None
    if branch is project.main or branch.protected or project.children(branch):
        raise Refusal(422, "a default or protected branch, or a parent, cannot be deleted")
    project.unlocked(branch)
    project.drop(branch)
    return 200, project.changed(branch, "suspend_compute", "delete_timeline")


def restore_branch(project: Project, query: dict[str, str], body: Body, id: str) -> Answer:
    branch = project.find(id)
    names = ("source_branch_id", "source_lsn", "source_timestamp", "preserve_under_name")
    check(body, dict.fromkeys(names, str), "source_branch_id")
    source = project.find(body["source_branch_id"])
    past = _past(project, source, body)
    if branch is source and not past:
        raise Refusal(400, "source_lsn or source_timestamp is required")
    keep = body.get("preserve_under_name")
    if not keep and (branch is source or project.children(branch)):
        raise Refusal(400, "preserve_under_name is required")
    if branch is not source and source.expires_at:
        raise Refusal(400, "a branch that expires cannot be a parent")
    name = project.free(keep) if keep else None
    project.unlocked(branch, source)
    parent: Branch | None = source
    if name:
        kept = project.new(name, branch.parent_id)
        kept.state, kept.history = "ready", branch.history
        for child in project.children(branch):
            child.parent_id = kept.id
        project.databases.rename(branch.database, kept.database)
        # A root that is restored from its own past stays one, beside what it was.
        parent = (kept if branch.parent_id else None) if branch is source else source
    else:
        project.databases.drop(branch.database)
    branch.history = past or list(source.history)
    project.databases.copy(past[-1][2] if past else source.database, branch.database)
    branch.parent_id = parent.id if parent else None
    branch.state, branch.updated_at = "resetting", project.now()
    branch.parent_lsn = project.databases.lsn()
    if branch.expires_at:
        project.set_expiry(branch, project.now() + branch.lifetime)
    return 200, project.changed(branch, "create_branch", "start_compute")


def compare_schema(project: Project, query: dict[str, str], id: str) -> Answer:
    branch = project.find(id)
    base = project.find(query.get("base_branch_id") or branch.parent_id or "")
    _called(project, query["db_name"], project.role)
    before, after = (
        "".join(f"{each.text};\n" for each in dump(project.address(one.name))).splitlines()
        for one in (base, branch)
    )
    names = f"a/{project.database}", f"b/{project.database}"
    diff = difflib.unified_diff(before, after, *names, lineterm="")
    return 200, {"diff": "\n".join(diff)}


def connection_uri(project: Project, query: dict[str, str]) -> Answer:
    branch = project.find(query["branch_id"]) if "branch_id" in query else project.main
    _called(project, query["database_name"], query["role_name"])
    if query.get("pooled", "false") not in ("true", "false"):
        raise Refusal(400, "pooled is no boolean")
    if not branch.endpoint:
        raise Refusal(404, "the branch has no read-write endpoint")
    return 200, {"uri": project.uri(branch, pooled=query.get("pooled") == "true")}


def get_operation(project: Project, query: dict[str, str], id: str) -> Answer:
    for operation in project.operations:
        if operation.id == id:
            return 200, {"operation": operation_shape(operation, project)}
    raise Refusal(404, "operation not found")


def _expiry(project: Project, asked: Body) -> datetime | None:
    if not asked.get("expires_at"):
        return None
    if not re.fullmatch(r"[\d-]{10}T[\d:]{8}(Z|[+-]\d\d:\d\d)", asked["expires_at"]):
        raise Refusal(400, "expires_at is not RFC 3339 to the second")
    expires_at = parse_time(asked["expires_at"])
    if not project.now() < expires_at <= project.now() + timedelta(days=30):
        raise Refusal(400, "expires_at is past, or more than 30 days ahead")
    return expires_at


def _past(project: Project, source: Branch, asked: Body) -> list[tuple[datetime, int, str]]:
    """Return the history up to what is asked for, if that is not the branch's head."""
    if "source_lsn" in asked and "source_timestamp" in asked:
        raise Refusal(400, "either source_lsn or source_timestamp")
    if "source_lsn" in asked:
        lsn, newest = parse_lsn(asked["source_lsn"]), parse_lsn(project.databases.lsn())
        past = [each for each in source.history if each[1] <= lsn <= newest]
    elif "source_timestamp" in asked:
        moment = parse_time(asked["source_timestamp"])
        past = [each for each in source.history if each[0] <= moment <= project.now()]
    else:
        return []
    if not past:
        raise Refusal(400, "that moment is outside of the history")
    return past


def _called(project: Project, database: str, role: str) -> None:
    if (database, role) != (project.database, project.role):
        raise Refusal(404, "database or role not found")


def _size(project: Project, query: dict[str, str]) -> int:
    limit = query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= 10000:
        raise Refusal(400, "limit is no number from 1 to 10000")
    return min(int(limit), project.page)
