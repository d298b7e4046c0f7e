"""The example application over real HTTP: its server, its tokens, and many users at once."""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import psycopg
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Response
from jwt.algorithms import OKPAlgorithm

from scripts.address import Address
from tests.example_app import async_app, sync_app
from tests.example_app.shared import Settings

CREATE_APP = {"sync": sync_app.create_app, "async": async_app.create_app}

ISSUER = "https://auth.example.com"


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Run an application by uvicorn in a thread, on a free port of loopback; stop it properly."""
    # Without the protocol's number asyncio would leave Nagle's delay on: 40 ms for each answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app, lifespan="on", ws="none", log_level="warning", timeout_graceful_shutdown=10
        )
        server = uvicorn.Server(config)

        def run() -> None:
            with suppress(SystemExit):  # where the application does not start
                server.run([listener])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the application did not start; stderr has its reason")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Keys:
    """A server of public keys, and the private ones: Better Auth's part, for tokens of any kind.

    Attributes
    ----------
    published : the private keys by id, whose public parts are published
    fetches : how often they were fetched
    answer : what is answered instead of the keys, a status and a body
    delay : seconds before an answer
    """

    def __init__(self) -> None:
        self.published = {"first": Ed25519PrivateKey.generate()}
        self.fetches = 0
        self.answer: tuple[int, bytes] | None = None
        self.delay = 0.0
        self.url = ""

    def token(self, user: str, *, kid: str | None = "first", **claims: Any) -> str:
        """Return a token as Better Auth makes them; claims that are None are left out."""
        now = int(time.time())
        given = {"sub": user, "iss": ISSUER, "aud": ISSUER, "iat": now, "exp": now + 900, **claims}
        return jwt.encode(
            {name: value for name, value in given.items() if value is not None},
            self.published[kid or "first"],
            algorithm="EdDSA",
            headers={"kid": kid} if kid else {},
        )

    async def respond(self) -> Response:
        """Answer what is published, unless told otherwise."""
        self.fetches += 1
        await asyncio.sleep(self.delay)
        keys = [
            {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "alg": "EdDSA", "kid": kid}
            for kid, key in self.published.items()
        ]
        status, body = self.answer or (200, json.dumps({"keys": keys}).encode())
        return Response(body, status)


@contextmanager
def key_server() -> Iterator[Keys]:
    """Serve public keys on loopback."""
    keys, app = Keys(), FastAPI()
    app.get("/jwks")(keys.respond)
    with listening(app) as url:
        keys.url = f"{url}/jwks"
        yield keys


@dataclass(frozen=True)
class Running:
    """A running application.

    Parameters
    ----------
    url : its address
    app : itself
    database : whose it is, for its owner
    client : without a user
    """

    url: str
    app: FastAPI
    database: Address
    client: httpx.Client

    @property
    def pool(self) -> Any:
        """The engine's pool."""
        return self.app.state.engine.pool


@contextmanager
def serving(kind: str, database: Address, jwks_url: str, **given: Any) -> Iterator[Running]:
    """Run an application, `sync` or `async`, that connects as `todo_app`; `given` are settings."""
    address = database.with_(user="todo_app").url
    values = {"issuer": ISSUER, "audience": ISSUER, "jwks_url": jwks_url, **given}
    app = CREATE_APP[kind](Settings(database_url=address, **values))
    # A proxy of the environment is not meant for loopback.
    with (
        listening(app) as url,
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        yield Running(url, app, database, client)


def add_users(address: Address, names: list[str]) -> None:
    """Store accounts as Better Auth would."""
    query = (
        "insert into \"user\" (id, name, email) select name, name, name || '@example.com' "
        "from unnest(%s::text[]) as name on conflict do nothing"
    )
    with psycopg.connect(address.url) as connection:
        connection.execute(query, [names])


async def visit(
    client: httpx.AsyncClient, user: str, strangers: dict[str, int], requests: int
) -> int:
    """Do everything as one user, again and again, and believe nothing.

    Parameters
    ----------
    client : sends the user's token
    user : its id
    strangers : one task of every user, by user
    requests : after how many there is no other round

    Returns
    -------
    How many requests were sent. One task and one message are left.
    """
    sent = 0

    async def send(method: str, path: str, status: int = 200, **given: Any) -> Any:
        nonlocal sent
        sent += 1
        answer = await client.request(method, path, **given)
        assert answer.status_code == status, f"{answer.status_code} {method} {path} {answer.text}"
        assert set(re.findall('"user_id":"([^"]*)"', answer.text)) <= {user}
        return answer.json() if answer.content else None

    async def listed(path: str, **query: Any) -> list[Any]:
        """Return a whole list, slice by slice."""
        part = await send("GET", path, params=query)
        if not (cursor := part["next_cursor"]):
            return part["items"]
        return part["items"] + await listed(path, **{**query, "cursor": cursor})

    async def titles(path: str, **query: Any) -> list[str]:
        return [each["title"] for each in await listed(path, **query)]

    me = await send("GET", "/me")
    assert (me["id"], me["email"]) == (user, f"{user}@example.com")
    while sent < requests:
        task = await send("POST", "/tasks", 201, json={"title": "Letter", "due_date": "2026-05-01"})
        path = f"/tasks/{task['id']}"
        assert (task["status"], task["completed"]) == ("pending", False)
        assert await send("GET", path) == task
        changed = await send("PATCH", path, json={"status": "in_progress", "due_date": None})
        different = {name for name in task if task[name] != changed[name]}
        assert different == {"status", "due_date", "updated_at"}
        assert (await send("POST", f"{path}/toggle"))["completed"] is True

        new = [{"title": f"Task {n}", "tags": ["odd"] if n % 2 else []} for n in range(4)]
        ids = [(await send("POST", "/tasks", 201, json=each))["id"] for each in new]
        strangers[user] = ids[0]
        tasks = ["Task 0", "Task 1", "Task 2", "Task 3"]
        assert await titles("/tasks", sort="title", contains="task", limit=2) == tasks
        assert await titles("/tasks", tags="odd", completed="false") == ["Task 3", "Task 1"]
        assert await titles("/tasks/search", search="lett", status="completed") == ["Letter"]
        assert sorted(await titles("/tasks/search", search="task", limit=3)) == tasks
        query = {"sort": "title", "order": "desc", "page": 2, "limit": 3, "total": "exact"}
        page = await send("GET", "/tasks/page", params=query)
        assert [each["title"] for each in page["items"]] == ["Task 0", "Letter"]
        assert (page["total"], page["total_is_exact"]) == (5, True)

        body: dict[str, Any] = {"ids": [*ids, ids[0]], "changes": {"status": "completed"}}
        assert [each["id"] for each in await send("PATCH", "/tasks", json=body)] == ids
        others = [id_ for other, id_ in strangers.items() if other != user]
        for foreign in random.sample(others, min(1, len(others))):
            await send("GET", f"/tasks/{foreign}", 404)
            await send("POST", "/tasks/delete", 404, json={"ids": [*ids, foreign]})
            body = {"ids": [*ids, foreign], "changes": {"status": "pending"}}
            refused = await send("PATCH", "/tasks", 404, json=body)
            assert refused["detail"] == f"No task with id {foreign}."
        counts = {"pending": 0, "in_progress": 0, "completed": 5, "open": 0, "total": 5}
        assert await send("GET", "/tasks/counts") == counts
        assert await send("POST", "/tasks/delete", json={"ids": ids}) == 4

        plans, second = [
            await send("POST", "/conversations", 201, json={"title": title})
            for title in ("Plan", None)
        ]
        talk = f"/conversations/{plans['id']}"
        assert (await send("PATCH", talk, json={"title": "Plans"}))["title"] == "Plans"
        said = [
            await send("POST", f"{talk}/messages", 201, json={"role": role, "content": role})
            for role in ("user", "assistant", "user")
        ]
        assert await listed(f"{talk}/messages", limit=2) == said
        assert await listed(f"{talk}/messages", limit=2, order="desc") == said[::-1]
        assert await listed("/conversations", limit=1) == [await send("GET", talk), second]
        for each in said[:2]:
            await send("DELETE", f"/messages/{each['id']}", 204)
        assert await listed(f"{talk}/messages") == said[2:]
        await send("DELETE", f"/conversations/{second['id']}", 204)
        if sent < requests:
            await send("DELETE", path, 204)
            await send("DELETE", talk, 204)
            await send("GET", f"{talk}/messages", 404)
    return sent


def visits(url: str, tokens: dict[str, str], requests: int) -> int:
    """Let all users of those tokens send that many requests at once; return how many were sent."""
    strangers: dict[str, int] = {}
    trust = httpx.create_ssl_context()  # unused, and slow to make for each

    async def one(user: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=30, trust_env=False, verify=trust
        ) as client:
            return await visit(client, user, strangers, requests)

    async def all_of_them() -> int:
        return sum(await asyncio.gather(*(one(*each) for each in tokens.items())))

    return asyncio.run(all_of_them())


@contextmanager
def watching(running: Running) -> Iterator[dict[str, int]]:
    """Give the most connections that were ever `open` at the server and `in use` of the pool."""
    most = {"open": 0, "in use": 0}
    stop = threading.Event()

    def look() -> None:
        with psycopg.connect(running.database.url, autocommit=True) as connection:
            while not stop.wait(0.02):
                most["open"] = max(most["open"], len(backends(connection)))
                most["in use"] = max(most["in use"], running.pool.checkedout())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def check_afterwards(running: Running, users: list[str]) -> None:
    """Look for connections that were not returned, and for rows that are not as visitors left."""
    assert running.pool.checkedout() == 0
    with psycopg.connect(running.database.url, autocommit=True) as owner:
        assert set(backends(owner)) <= {"idle"}
        for table in "tasks", "messages":
            query = f"select user_id from {table} where user_id = any(%s)"
            assert sorted(user for (user,) in owner.execute(query, [users])) == sorted(users)


def backends(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the states of the application's connections to this database."""
    rows = connection.execute(
        "select state from pg_stat_activity "
        "where usename = 'todo_app' and datname = current_database()"
    )
    return [state for (state,) in rows]
