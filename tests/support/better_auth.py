"""Better Auth itself, in a Node process of its own, on a database of this schema."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from secrets import token_hex
from typing import Any

import httpx
import pytest

from scripts.address import Address
from tests.support.postgres import PACKAGES

PROGRAM = PACKAGES.parent / "better-auth.mjs"
SECRET = token_hex(32)  # of the whole run: it encrypts the signing keys in the database
TIMEOUT = 20


@dataclass(frozen=True)
class BetterAuth:
    """A client of a running Better Auth; the token of a session, sent as a bearer, says whose.

    `get` and `post` return any answer as it is, the other methods what a test goes on with.
    """

    base_url: str
    client: httpx.Client = field(repr=False)

    @property
    def jwks_url(self) -> str:
        return f"{self.base_url}/api/auth/jwks"

    def get(self, path: str, token: str | None = None) -> httpx.Response:
        return self.client.get(path, headers=_bearer(token))

    def post(self, path: str, body: Any = None, token: str | None = None) -> httpx.Response:
        return self.client.post(path, headers=_bearer(token), json=body or {})

    def sign_up(self, email: str, name: str, password: str) -> str:
        """Make an account; return the token of its first session."""
        body = {"email": email, "name": name, "password": password}
        return str(self.post("/sign-up/email", body).raise_for_status().json()["token"])

    def sign_in(self, email: str, password: str) -> str:
        """Return the token of a new session."""
        body = {"email": email, "password": password}
        return str(self.post("/sign-in/email", body).raise_for_status().json()["token"])

    def user_id(self, token: str) -> str:
        return str(self.get("/get-session", token).raise_for_status().json()["user"]["id"])

    def jwt(self, token: str) -> str:
        """Return a JSON web token for a session's user, as a backend wants it."""
        return str(self.get("/token", token).raise_for_status().json()["token"])


@contextmanager
def better_auth(address: Address) -> Iterator[BetterAuth]:
    """Run Better Auth on a database, as the role `todo_auth`, which must be able to log in there.

    What it logs goes to stderr. Where Node or its packages are missing, the test is skipped.
    """
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(**_command(address), **pipes) as process:
        try:
            readable, _, _ = select.select([process.stdout], [], [], TIMEOUT)
            base_url = process.stdout.readline().strip() if readable else ""
            if not base_url:
                raise RuntimeError("Better Auth did not start; stderr has its reason")
            # A proxy of the environment is not meant for loopback.
            api = f"{base_url}/api/auth"
            with httpx.Client(base_url=api, timeout=TIMEOUT, trust_env=False) as client:
                # A cookie would decide who the caller is.
                client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
                yield BetterAuth(base_url, client)
        finally:
            process.stdin.close()  # the program ends with it, also where this process was killed
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def migration_plan(address: Address) -> dict[str, list[Any]]:
    """Return what Better Auth would change in a database: nothing, where all lists are empty.

    `create` and `add` are pairs of a table and its columns, `indexes` names; `problems` is what it
    would not mend but complains of: a column's type, for instance.
    """
    command = _command(address, "plan")
    done = subprocess.run(**command, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True)
    return dict(json.loads(done.stdout))


def _command(address: Address, *arguments: str) -> dict[str, Any]:
    """Return the command and all of its environment: PGSSLMODE or NODE_ENV would change it."""
    node = shutil.which("node")
    if not node:
        pytest.skip("Node is not installed (20 or newer)")
    if not (PACKAGES / "better-auth").exists():
        pytest.skip("Better Auth is not installed: make node")
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": address.with_(user="todo_auth").url,
        "BETTER_AUTH_SECRET": SECRET,
    }
    return {"args": [node, str(PROGRAM), *arguments], "env": environment}


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
