"""The example application over real HTTP: its server, its tokens, and many users at once."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import psycopg
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI

from scripts.address import Address
from tests.example_app import async_app, sync_app
from tests.example_app.shared import Settings

CREATE_APP = {"sync": sync_app.create_app, "async": async_app.create_app}

ISSUER = "https://auth.example.com"


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
        given = {
            "sub": user,
            "iss": ISSUER,
            "aud": ISSUER,
            "iat": now,
            "exp": now + 900,
            "email": f"{user}@example.com",
            **claims,
        }
        return jwt.encode(
            {name: value for name, value in given.items() if value is not None},
            self.published[kid or "first"],
            algorithm="EdDSA",
            headers={"kid": kid} if kid else {},
        )

    def raw_public(self, kid: str = "first") -> bytes:
        """Return a public key's 32 bytes."""
        return self.published[kid].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def document(self) -> bytes:
        """Return what is published."""
        keys = [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "alg": "EdDSA",
                "kid": kid,
                "x": base64.urlsafe_b64encode(self.raw_public(kid)).decode().rstrip("="),
            }
            for kid in self.published
        ]
        return json.dumps({"keys": keys}).encode()


@contextmanager
def key_server() -> Iterator[Keys]:
    """Serve public keys on loopback."""
    keys = Keys()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.fetches += 1
            time.sleep(keys.delay)
            status, body = keys.answer or (200, keys.document())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        keys.url = f"http://127.0.0.1:{server.server_port}/jwks"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield keys
        finally:
            server.shutdown()
            thread.join()


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
    client: httpx.Client = field(repr=False)

    @property
    def pool(self) -> Any:
        """The engine's pool."""
        return self.app.state.engine.pool

    def request(self, method: str, path: str, token: str | None, **given: Any) -> httpx.Response:
        """Send a request of a token's user."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.request(method, path, headers=headers, **given)


@contextmanager
def serving(kind: str, database: Address, jwks_url: str, **given: Any) -> Iterator[Running]:
    """Run an application by uvicorn in a thread, on a free port of loopback; stop it properly.

    Parameters
    ----------
    kind : `sync` or `async`
    database : which one; the application connects as `todo_app`
    jwks_url : where the keys are
    given : other settings
    """
    address = database.with_(user="todo_app").url
    values = {"issuer": ISSUER, "audience": ISSUER, "jwks_url": jwks_url, **given}
    app = CREATE_APP[kind](Settings(database_url=address, **values))
    # Without the protocol's number asyncio would leave Nagle's delay on: 40 ms for each answer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app, lifespan="on", ws="none", log_level="warning", timeout_graceful_shutdown=10
        )
        server = uvicorn.Server(config)

        def run() -> None:
            with suppress(SystemExit):  # where the application does not start
                server.run([listening])

        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the application did not start; stderr has its reason")
                time.sleep(0.01)
            # A proxy of the environment is not meant for loopback.
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                yield Running(url, app, database, client)
        finally:
            server.should_exit = True
            thread.join()


def add_users(address: Address, names: list[str]) -> None:
    """Store accounts as Better Auth would."""
    query = (
        "insert into \"user\" (id, name, email) select name, name, name || '@example.com' "
        "from unnest(%s::text[]) as name on conflict do nothing"
    )
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(query, [names])


class Visitor:
    """One user who does everything, at random, and believes nothing.

    Parameters
    ----------
    user : its id
    client : sends the user's token
    chance : decides what it does
    strangers : ids of everybody's tasks, to try those of others
    """

    def __init__(
        self, user: str, client: httpx.AsyncClient, chance: random.Random, strangers: list[int]
    ) -> None:
        self.user = user
        self.client = client
        self.chance = chance
        self.strangers = strangers
        self.tasks: dict[int, dict[str, Any]] = {}
        self.conversations: list[int] = []
        self.messages = 0
        self.sent = 0

    async def visit(self, requests: int) -> None:
        """Send that many requests, and check every answer."""
        steps = [
            (self.create, 22),
            (self.get, 14),
            (self.list, 20),
            (self.change, 12),
            (self.toggle, 6),
            (self.search, 5),
            (self.count, 5),
            (self.delete, 4),
            (self.bulk, 3),
            (self.talk, 7),
            (self.intrude, 2),
        ]
        doing, weights = zip(*steps, strict=True)
        while self.sent < requests:
            await self.chance.choices(doing, weights)[0]()

    async def send(self, method: str, path: str, status: int = 200, **given: Any) -> Any:
        answer = await self.client.request(method, path, **given)
        self.sent += 1
        assert answer.status_code == status, f"{answer.status_code} {method} {path} {answer.text}"
        body = answer.json() if answer.content else None
        self.check(body)
        return body

    def check(self, body: Any) -> None:
        """Look for rows of others."""
        if isinstance(body, list):
            for each in body:
                self.check(each)
        elif isinstance(body, dict):
            if "id" in body:
                assert body["user_id"] == self.user
            self.check(body.get("items"))

    def keep(self, task: dict[str, Any]) -> None:
        self.tasks[task["id"]] = task

    def any_task(self) -> int:
        return self.chance.choice(list(self.tasks))

    async def create(self) -> None:
        priority = self.chance.choice(["low", "medium", "high"])
        task = {"title": f"Write to {self.user}", "priority": priority, "tags": ["home"]}
        stored = await self.send("POST", "/tasks", 201, json=task)
        self.keep(stored)
        self.strangers.append(stored["id"])

    async def get(self) -> None:
        if self.tasks:
            id_ = self.any_task()
            assert await self.send("GET", f"/tasks/{id_}") == self.tasks[id_]

    async def list(self) -> None:
        given: dict[str, Any] = {
            "sort": self.chance.choice(["created", "title", "priority"]),
            "completed": self.chance.choice(["true", "false"]),
            "limit": 10,
        }
        wanted = {i for i, t in self.tasks.items() if str(t["completed"]).lower() in given.values()}
        if self.chance.random() < 0.3:
            page = await self.send("GET", "/tasks/page", params=given)
            assert page["total"] == len(wanted)
            return
        part = await self.send("GET", "/tasks", params=given)
        assert len(part["items"]) == min(10, len(wanted))
        if part["next_cursor"]:
            rest = await self.send("GET", "/tasks", params={**given, "cursor": part["next_cursor"]})
            seen = {task["id"] for task in part["items"]}
            assert not seen & {task["id"] for task in rest["items"]}

    async def change(self) -> None:
        if self.tasks:
            id_ = self.any_task()
            changes = {"description": self.chance.choice(["soon", "later", None])}
            self.keep(await self.send("PATCH", f"/tasks/{id_}", json=changes))

    async def toggle(self) -> None:
        if self.tasks:
            id_ = self.any_task()
            before = self.tasks[id_]["completed"]
            self.keep(await self.send("POST", f"/tasks/{id_}/toggle"))
            assert self.tasks[id_]["completed"] is not before

    async def search(self) -> None:
        found = await self.send("GET", "/tasks/search", params={"search": "write", "limit": 5})
        assert len(found["items"]) == min(5, len(self.tasks))

    async def count(self) -> None:
        assert (await self.send("GET", "/tasks/counts"))["total"] == len(self.tasks)

    async def delete(self) -> None:
        if self.tasks:
            id_ = self.any_task()
            await self.send("DELETE", f"/tasks/{id_}", 204)
            del self.tasks[id_]

    async def bulk(self) -> None:
        some = self.chance.sample(list(self.tasks), min(3, len(self.tasks)))
        if not some:
            return
        if self.chance.random() < 0.3:
            body: dict[str, Any] = {"ids": some}
            assert await self.send("POST", "/tasks/delete", json=body) == len(some)
            for id_ in some:
                del self.tasks[id_]
            return
        body = {"ids": some, "changes": {"priority": "high"}}
        for task in await self.send("PATCH", "/tasks", json=body):
            self.keep(task)

    async def talk(self) -> None:
        if not self.conversations:
            new = await self.send("POST", "/conversations", 201, json={"title": "Plans"})
            self.conversations.append(new["id"])
            return
        path = f"/conversations/{self.conversations[0]}/messages"
        await self.send("POST", path, 201, json={"role": "user", "content": "What is due?"})
        self.messages += 1
        listed = await self.send("GET", path, params={"limit": 100})
        assert len(listed["items"]) == min(100, self.messages)
        await self.send("GET", "/conversations")

    async def intrude(self) -> None:
        others = [id_ for id_ in self.strangers[:1000] if id_ not in self.tasks]
        if others:
            id_ = self.chance.choice(others)
            await self.send("GET", f"/tasks/{id_}", 404)
            await self.send("PATCH", f"/tasks/{id_}", 404, json={"title": "Mine"})
            body = {"ids": [id_, *list(self.tasks)[:2]]}
            await self.send("POST", "/tasks/delete", 404, json=body)


@dataclass(frozen=True)
class Visits:
    """What many users did.

    Parameters
    ----------
    sent : requests, of all of them
    tasks, messages : how many each has at the end, by user
    """

    sent: int
    tasks: dict[str, int]
    messages: dict[str, int]


def visits(url: str, tokens: dict[str, str], requests: int) -> Visits:
    """Let all users of those tokens send their requests at once; raise for a wrong answer."""

    async def all_of_them() -> list[Visitor]:
        strangers: list[int] = []
        trust = httpx.create_ssl_context()  # unused, and slow to make for each

        async def one(number: int, user: str, token: str) -> Visitor:
            headers = {"Authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(
                base_url=url, headers=headers, timeout=30, trust_env=False, verify=trust
            ) as client:
                visitor = Visitor(user, client, random.Random(number), strangers)
                await visitor.visit(requests)
                return visitor

        users = [one(number, *each) for number, each in enumerate(tokens.items())]
        return await asyncio.gather(*users)

    done = asyncio.run(all_of_them())
    return Visits(
        sum(each.sent for each in done),
        {each.user: len(each.tasks) for each in done},
        {each.user: each.messages for each in done},
    )


class Watch:
    """Looks at the server's connections of `todo_app` and at the pool, from the side.

    Attributes
    ----------
    backends, checked_out : the most that were seen
    """

    def __init__(self, running: Running) -> None:
        self.backends = 0
        self.checked_out = 0
        self._running = running
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _look(self) -> None:
        with psycopg.connect(self._running.database.url, autocommit=True) as connection:
            while not self._stop.wait(0.02):
                self.backends = max(self.backends, len(backends(connection)))
                self.checked_out = max(self.checked_out, self._running.pool.checkedout())


def check_afterwards(running: Running, done: Visits) -> None:
    """Look for connections that were not returned, and for rows that are not as users know them."""
    assert running.pool.checkedout() == 0
    with psycopg.connect(running.database.url, autocommit=True) as owner:
        assert set(backends(owner)) <= {"idle"}
        for table, expected in ("tasks", done.tasks), ("messages", done.messages):
            query = (
                f"select user_id, count(*) from {table} where user_id = any(%s) group by user_id"
            )
            stored: dict[str, int] = dict(owner.execute(query, [list(expected)]).fetchall())
            assert stored == {user: count for user, count in expected.items() if count}


def backends(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the states of the application's connections to this database."""
    rows = connection.execute(
        "select state from pg_stat_activity "
        "where usename = 'todo_app' and datname = current_database()"
    )
    return [state for (state,) in rows]
