"""What the tools do with branches: one for each pull request, reused, always with an end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from scripts.errors import Finding, ToolError, refuse
from scripts.neon.client import Branch, Client

OF_PULL_REQUEST = re.compile(r"pr-([1-9]\d*)")
"""Names of the branches that `neon check` makes, and `prune` deletes."""

USABLE = ("ready", "archived")
"""The states in which nothing is done to a branch."""

HOURS = 24
"""Until a branch expires, unless told otherwise."""


@dataclass
class Pruned:
    """What `prune` did: the names of branches, and what it could not do."""

    deleted: list[str] = field(default_factory=list)
    expiring: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def named(client: Client, name: str | None) -> Branch:
    """Return the branch of that name; the project's default branch without one.

    Raises
    ------
    ToolError : there is none (code `no-branch`)
    """
    if name is not None:
        found = client.find(name)
    else:
        found = next((each for each in client.branches() if each.default), None)
    if found is None:
        raise refuse(
            "no-branch",
            f"the project has no branch {name}" if name else "the project has no default branch",
            fix="python -m scripts neon branch list",
        )
    return found


def ensure(
    client: Client, name: str, *, parent: str | None, hours: int, renew: bool = False
) -> tuple[Branch, bool]:
    """Return the branch of that name, made where it is missing, and whether it was there.

    Parameters
    ----------
    name : of the branch
    parent : the name of the branch whose data it gets; the default branch's without one
    hours : until it expires; one that is there expires then, too
    renew : make one that is there what the parent is now, and give it an end if it has none

    Raises
    ------
    ToolError : there is no such parent, or the branch is somebody's who keeps it
    """
    expires_at = datetime.now(UTC) + timedelta(hours=hours)
    found = client.find(name)
    if found:
        refuse_kept(found, "resets or ends", lasting=renew)
    if found and renew and found.state not in USABLE:
        # An operation on it failed, or is that of a run which this one takes over from.
        client.delete(found)
        found = None
    if found is None:
        return client.create(name, parent=named(client, parent).id, expires_at=expires_at), False
    found = client.expire(client.ready(found), expires_at)
    if renew:
        found = client.restore(found, named(client, parent).id)
        if found.expires_at is None or found.expires_at < expires_at - timedelta(minutes=1):
            found = client.expire(found, expires_at)
    return found, True


def refuse_kept(branch: Branch, action: str, *, lasting: bool = True) -> None:
    """Raise ToolError where a branch is the default one, protected, or has no end.

    Parameters
    ----------
    branch : which
    action : what is not done to it, for the message
    lasting : let one without an end pass
    """
    if branch.default or branch.protected:
        word = "is the default branch" if branch.default else "is protected"
    elif branch.expires_at is None and not lasting:
        word = "does not expire, so somebody keeps it"
    else:
        return
    raise refuse("branch-protected", f"{branch.name} {word}: this command never {action} it")


def prune(client: Client, still_open: Iterable[int] | None) -> Pruned:
    """Delete branches of pull requests that nobody needs, and give an end to those without one.

    Parameters
    ----------
    still_open : the numbers of the pull requests that are open; None where that is unknown, and
        only expired branches are deleted
    """
    done = Pruned()
    kept = None if still_open is None else set(still_open)
    now = datetime.now(UTC)
    for branch in list(client.branches("pr-")):
        match = OF_PULL_REQUEST.fullmatch(branch.name)
        if not match or branch.default or branch.protected:
            continue
        expired = branch.expires_at is not None and branch.expires_at <= now
        try:
            if expired or (kept is not None and int(match[1]) not in kept):
                client.delete(branch)
                done.deleted.append(branch.name)
            elif branch.expires_at is None:
                client.expire(branch, now + timedelta(hours=HOURS))
                done.expiring.append(branch.name)
        except ToolError as error:  # such as a child of somebody's: the others go on
            done.findings += error.findings
    return done
