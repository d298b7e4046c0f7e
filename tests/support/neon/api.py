"""A stand-in for Neon's API on loopback, which can answer late, wrongly, or not at all."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from scripts.server import LocalServer
from scripts.settings import project as configured
from tests.support.neon import requests
from tests.support.neon.project import Project
from tests.support.neon.requests import Answer
from tests.support.neon.shapes import Refusal

ID = "([a-z0-9-]{1,60})"
BRANCHES = f"/projects/{ID}/branches"

# Method, path, what does it, and what the query may have; what it must have is capital.
ROUTES = (
    ("GET", BRANCHES, requests.list_branches, "search sort_by sort_order limit cursor"),
    ("POST", BRANCHES, requests.create_branch, ""),
    ("GET", f"{BRANCHES}/{ID}", requests.get_branch, ""),
    ("PATCH", f"{BRANCHES}/{ID}", requests.update_branch, ""),
    ("DELETE", f"{BRANCHES}/{ID}", requests.delete_branch, ""),
    ("POST", f"{BRANCHES}/{ID}/restore", requests.restore_branch, ""),
    ("GET", f"{BRANCHES}/{ID}/compare_schema", requests.compare_schema, "DB_NAME base_branch_id"),
    (
        "GET",
        f"/projects/{ID}/connection_uri",
        requests.connection_uri,
        "DATABASE_NAME ROLE_NAME branch_id pooled",
    ),
    ("GET", f"/projects/{ID}/operations/([0-9a-f-]{{36}})", requests.get_operation, ""),
)


@dataclass
class Fault:
    """What goes wrong with a request.

    Parameters
    ----------
    what : a status; "drop": the connection is cut; "never": no answer; and of the right answer
        "trickle": it comes byte by byte, "garbage": half of it, "slow": after `seconds`
    after : with the first three: the request was carried out before; otherwise not
    seconds : before a slow answer, or between two bytes
    retry_after : the header of that name
    answer : the JSON that a status comes with; an error's by default
    """

    what: str | int
    after: bool = False
    seconds: float = 0.1
    retry_after: str | None = None
    answer: Any = None


NOTHING = Fault("")


@dataclass(frozen=True)
class Request:
    """What was asked, and how it went: a status, or the fault's name where none was sent."""

    method: str
    path: str
    query: dict[str, str]
    authorized: bool
    status: int | str


class NeonApi:
    """The stand-in as a test holds it.

    Parameters
    ----------
    project : the branches; what a test may set and do stands there
    url, key : for the client
    requests : all there were, in the order of their answers
    choose : decides of each request (method, path) what goes wrong, after what `fail` ordered
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.key = f"key-{secrets.token_hex(16)}"
        self.requests: list[Request] = []
        self.choose: Callable[[str, str], Fault | None] = lambda method, path: None
        self.crashes: list[BaseException] = []
        self.closing = threading.Event()
        self._orders: list[tuple[str, str, Fault]] = []
        self._lock = threading.Lock()
        self.http = _Server(("127.0.0.1", 0), _Handler)
        self.http.api = self
        self.url = f"http://127.0.0.1:{self.http.server_port}/api/v2"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a command that is to use this project."""
        return {
            "NEON_API_URL": self.url,
            "NEON_API_KEY": self.key,
            "NEON_PROJECT_ID": self.project.id,
            "NEON_DATABASE": self.project.database,
            "NEON_ROLE": self.project.role,
        }

    def fail(
        self, what: str | int, method: str = "", path: str = "", *, times: int = 1, **details: Any
    ) -> None:
        """Let the next requests of a method, whose path ends as given, go wrong: see Fault."""
        with self._lock:
            self._orders += [(method, path, Fault(what, **details))] * times

    def fault(self, method: str, path: str) -> Fault | None:
        """Return what goes wrong with a request; what was ordered is used up by that."""
        with self._lock:
            for order in self._orders:
                if order[0] in ("", method) and path.endswith(order[1]):
                    self._orders.remove(order)
                    return order[2]
            return self.choose(method, path)

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Answer:
        """Carry a request out; Refusal where Neon would refuse it."""
        with self.project.lock:
            for verb, pattern, act, names in ROUTES:
                match = re.fullmatch(pattern, path)
                if verb != method or not match:
                    continue
                if match[1] != self.project.id:
                    raise Refusal(404, "project not found")
                required = {name.lower() for name in names.split() if name.isupper()}
                if not required <= set(query) <= set(names.lower().split()):
                    raise Refusal(400, "a parameter is missing or unknown")
                arguments: list[Any] = [query]
                if verb in ("POST", "PATCH"):
                    arguments.append(_parse(body))
                elif body:
                    raise Refusal(400, "no body is expected")
                self.project.settle()
                try:
                    return act(self.project, *arguments, *match.groups()[1:])
                finally:
                    self.project.settle()
        raise Refusal(404, "no such path")


@contextmanager
def neon_api(
    server: LocalServer,
    template: str = "template0",
    *,
    database: str = "neondb",
    role: str | None = None,
    seconds: float = 0.2,
    page: int = 2,
) -> Iterator[NeonApi]:
    """Give a stand-in for Neon with one project, whose parameters are those of Project.

    `role` is the local owner by default. What it made on the server is dropped in the end, and an
    error of its own, of which a client only saw that the connection was cut, is raised.
    """
    project = Project(
        server,
        template,
        database=database,
        role=role or configured().local_owner,
        seconds=seconds,
        page=page,
    )
    api = NeonApi(project)
    thread = threading.Thread(target=api.http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.closing.set()
        api.http.shutdown()
        api.http.server_close()
        thread.join(5)
        project.close()
    if api.crashes:
        raise api.crashes[0]


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except ValueError:
        raise Refusal(400, "the body is no JSON") from None


class _Server(ThreadingHTTPServer):
    api: NeonApi
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error and not isinstance(error, OSError):  # a client that went away
            self.api.crashes.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # headers and body in one packet

    def handle_one(self) -> None:
        api, where = self.server.api, urlsplit(self.path)
        path, query = where.path.removeprefix("/api/v2"), dict(parse_qsl(where.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        offered = self.headers.get("Authorization") or ""
        authorized = hmac.compare_digest(offered, f"Bearer {api.key}")
        fault = api.fault(self.command, path) or NOTHING
        status: int | str = fault.what
        if fault.what == "slow":
            api.closing.wait(fault.seconds)
        answer: Any = fault.answer or self.error("as the test ordered")
        if fault.after or fault.what in ("", "slow", "trickle", "garbage"):
            try:
                if not authorized:
                    raise Refusal(401, "the key opens nothing")
                carried = api.answer(self.command, path, query, body)
            except Refusal as refusal:
                carried = refusal.status, self.error(str(refusal))
            if fault.what in ("", "slow", "trickle", "garbage"):
                status, answer = carried
        api.requests.append(Request(self.command, path, query, authorized, status))
        if isinstance(status, int):
            self.send(status, answer, fault)
            return
        if status == "never":
            api.closing.wait()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_one  # noqa: N815

    def error(self, message: str) -> dict[str, str]:
        request_id = self.headers.get("X-Request-ID") or str(uuid.uuid4())
        return {"request_id": request_id, "code": "", "message": message}

    def send(self, status: int, answer: Any, fault: Fault) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        if fault.what == "garbage":
            data = data[: len(data) // 2]
        if fault.what == "trickle":
            self.wfile, self.close_connection = BytesIO(), True
        self.send_response(status)
        if fault.retry_after is not None:
            self.send_header("Retry-After", fault.retry_after)
        if answer is not None:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        if isinstance(self.wfile, BytesIO):
            for byte in self.wfile.getvalue():
                self.connection.sendall(bytes([byte]))
                if self.server.api.closing.wait(fault.seconds):
                    return

    def log_message(self, format: str, *values: Any) -> None:
        """Stay quiet: `requests` has it."""
