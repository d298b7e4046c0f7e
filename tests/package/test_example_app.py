"""The example application over real HTTP, sync and async: what the guide promises."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.openapi.models import OpenAPI

from scripts.address import Address
from scripts.server import LocalServer
from tests.example_app import auth
from tests.support.better_auth import better_auth
from tests.support.example_app import (
    CREATE_APP,
    ISSUER,
    Keys,
    Running,
    Watch,
    add_users,
    backends,
    check_afterwards,
    key_server,
    serving,
    visits,
)

pytestmark = pytest.mark.row("R16", "R32")

PHRASE = "correct horse"  # a password
MARKER = "zyx314159"  # part of what is sent, which no refusal may repeat
INTERNAL = [MARKER, "Traceback", ".py", "psycopg", "sqlalchemy", "select ", "insert ", "update "]
INTERNAL += ["_check", "_fkey", "_pkey", "_idx", "task_search", "todo_app", "pg_", "127.0.0.1"]

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    with key_server() as running:
        yield running


@pytest.fixture(scope="module")
def database(server: LocalServer, module_database: Address) -> Address:
    server.allow_logins()
    add_users(module_database, ["alice", "bob"])
    return module_database


@pytest.fixture(scope="module")
def apps(keys: Keys, database: Address) -> Iterator[dict[str, Running]]:
    """Both applications, for all the tests of the module."""
    with ExitStack() as stack:
        yield {kind: stack.enter_context(serving(kind, database, keys.url)) for kind in CREATE_APP}


@pytest.fixture(params=list(CREATE_APP))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app(apps: dict[str, Running], kind: str) -> Running:
    return apps[kind]


@pytest.fixture
def owner(database: Address) -> Iterator[Connection]:
    """The same database for its owner, who sees every row."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection


class Client:
    """A user's requests.

    Parameters
    ----------
    app : the application
    token : the user's
    """

    def __init__(self, app: Running, token: str) -> None:
        self.app = app
        self.token = token

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.app.request(method, path, self.token, **given)

    def send_json(self, method: str, path: str, body: bytes) -> httpx.Response:
        """Send a body as it is: httpx would not make one with half of a surrogate pair."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return self.app.client.request(method, path, headers=headers, content=body)

    def done(self, method: str, path: str, status: int = 200, **given: Any) -> Any:
        """Return the body of an answer that must be this one."""
        answer = self.send(method, path, **given)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def task(self, title: str = "Buy milk", **given: Any) -> dict[str, Any]:
        stored = self.done("POST", "/tasks", 201, json={"title": title, **given})
        assert isinstance(stored, dict)
        return stored


@pytest.fixture
def fresh(app: Running, keys: Keys, database: Address, request: pytest.FixtureRequest) -> Client:
    """A user of this test's own, without rows."""
    user = f"user-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]}"
    add_users(database, [user])
    return Client(app, keys.token(user))


@pytest.fixture
def alice(app: Running, keys: Keys) -> Client:
    return Client(app, keys.token("alice"))


@pytest.fixture
def bob(app: Running, keys: Keys) -> Client:
    return Client(app, keys.token("bob"))


def refused(answer: httpx.Response, status: int) -> Any:
    """Return the detail of a refusal, after a look for what is nobody's business."""
    assert answer.status_code == status, answer.text
    for each in INTERNAL:
        assert each not in answer.text
    assert len(answer.text) < 2000
    detail = answer.json()["detail"]
    assert detail
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    if status == 503:
        assert answer.headers["Retry-After"] == "1"
    return detail


def count(owner: Connection, title: str) -> int:
    found = owner.execute("select count(*) from tasks where title = %s", [title]).fetchone()
    assert found
    return int(found[0])


# What it does


@pytest.mark.row("R17")
def test_a_task_from_beginning_to_end(fresh: Client) -> None:
    task = fresh.task(priority="high", due_date="2026-05-01", tags=["home"])
    path = f"/tasks/{task['id']}"
    assert (task["status"], task["completed"]) == ("pending", False)
    assert fresh.done("GET", path) == task

    changed = fresh.done("PATCH", path, json={"status": "in_progress", "due_date": None})
    different = {name for name in task if task[name] != changed[name]}
    assert different == {"status", "due_date", "updated_at"}
    assert fresh.done("POST", f"{path}/toggle")["completed"] is True
    assert fresh.done("POST", f"{path}/toggle")["status"] == "pending"
    assert fresh.done("DELETE", path, 204) is None
    refused(fresh.send("GET", path), 404)
    refused(fresh.send("DELETE", path), 404)


@pytest.mark.row("R18", "R19", "R20")
def test_lists_pages_searches_and_counts(fresh: Client) -> None:
    titles = [f"Task {number}" for number in range(7)]
    for title in titles:
        fresh.task(title, tags=["odd"] if int(title[-1]) % 2 else [])
    fresh.task("Write letters", status="completed", due_date="2026-05-01")

    seen, cursor = [], None
    while True:
        query = {"sort": "title", "contains": "task", "limit": 3, "cursor": cursor}
        given = {name: value for name, value in query.items() if value is not None}
        part = fresh.done("GET", "/tasks", params=given)
        seen += [task["title"] for task in part["items"]]
        if not (cursor := part["next_cursor"]):
            break
    assert seen == titles
    page = fresh.done(
        "GET", "/tasks/page", params={"sort": "title", "order": "desc", "page": 2, "limit": 3}
    )
    assert [task["title"] for task in page["items"]] == ["Task 4", "Task 3", "Task 2"]
    assert (page["total"], page["total_is_exact"]) == (8, True)
    odd = fresh.done("GET", "/tasks", params={"tags": ["odd"], "completed": "false"})
    assert len(odd["items"]) == 3
    dated = fresh.done("GET", "/tasks", params={"due_before": "2026-05-02"})
    assert [task["title"] for task in dated["items"]] == ["Write letters"]
    found = fresh.done("GET", "/tasks/search", params={"search": "lett", "status": "completed"})
    assert [task["title"] for task in found["items"]] == ["Write letters"]
    first = fresh.done("GET", "/tasks/search", params={"search": "task", "limit": 4})
    rest = fresh.done(
        "GET",
        "/tasks/search",
        params={"search": "task", "limit": 4, "cursor": first["next_cursor"]},
    )
    assert sorted(task["title"] for task in first["items"] + rest["items"]) == titles
    counts = {"pending": 7, "in_progress": 0, "completed": 1, "open": 7, "total": 8}
    assert fresh.done("GET", "/tasks/counts") == counts


@pytest.mark.row("R21")
def test_several_tasks_at_once_all_or_none(fresh: Client, bob: Client) -> None:
    ids = [fresh.task(str(number))["id"] for number in range(3)]
    foreign = bob.task()["id"]
    body: dict[str, Any] = {"ids": [*ids, ids[0]], "changes": {"status": "completed"}}
    assert [task["id"] for task in fresh.done("PATCH", "/tasks", json=body)] == ids
    body = {"ids": [*ids, foreign], "changes": {"status": "pending"}}
    assert refused(fresh.send("PATCH", "/tasks", json=body), 404) == f"No task with id {foreign}."
    refused(fresh.send("POST", "/tasks/delete", json={"ids": [*ids, foreign]}), 404)
    assert fresh.done("GET", "/tasks/counts")["completed"] == 3
    assert fresh.done("POST", "/tasks/delete", json={"ids": ids}) == 3
    assert fresh.done("GET", "/tasks/counts")["total"] == 0
    assert bob.done("GET", f"/tasks/{foreign}")["status"] == "pending"


@pytest.mark.row("R3", "R17")
def test_conversations_and_messages(fresh: Client) -> None:
    old, new = (
        fresh.done("POST", "/conversations", 201, json={"title": title}) for title in ("Old", None)
    )
    path = f"/conversations/{old['id']}"
    changed = fresh.done("PATCH", path, json={"title": "Older"})
    assert (changed["title"], changed["id"]) == ("Older", old["id"])
    fresh.done("PATCH", f"/conversations/{new['id']}", json={"title": "New"})
    stored = [
        fresh.done("POST", f"{path}/messages", 201, json={"role": role, "content": role})
        for role in ("user", "assistant", "user")
    ]
    listed = fresh.done("GET", f"{path}/messages", params={"limit": 2})
    assert listed["items"] == stored[:2]
    query = {"limit": 2, "cursor": listed["next_cursor"]}
    assert fresh.done("GET", f"{path}/messages", params=query)["items"] == stored[2:]
    backwards = fresh.done("GET", f"{path}/messages", params={"order": "desc"})["items"]
    assert backwards == stored[::-1]
    listed = fresh.done("GET", "/conversations")
    assert [each["id"] for each in listed["items"]] == [old["id"], new["id"]]
    part = fresh.done("GET", "/conversations", params={"limit": 1})
    rest = fresh.done("GET", "/conversations", params={"cursor": part["next_cursor"]})
    assert [each["id"] for each in rest["items"]] == [new["id"]]

    fresh.done("DELETE", f"/messages/{stored[1]['id']}", 204)
    assert len(fresh.done("GET", f"{path}/messages")["items"]) == 2
    assert fresh.done("GET", path)["title"] == "Older"
    fresh.done("DELETE", path, 204)
    refused(fresh.send("GET", f"{path}/messages"), 404)
    body = {"role": "user", "content": "Hello?"}
    refused(fresh.send("POST", f"{path}/messages", json=body), 404)
    refused(fresh.send("DELETE", f"/messages/{stored[0]['id']}"), 404)


def test_a_user_sees_the_own_account(alice: Client) -> None:
    me = alice.done("GET", "/me")
    assert (me["id"], me["email"]) == ("alice", "alice@example.com")


@pytest.mark.row("R14")
def test_openapi_describes_it_with_examples_that_work(app: Running, fresh: Client) -> None:
    document = app.client.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    schemas = document["components"]["schemas"]
    references = {
        line.split('"')[3]
        for line in json.dumps(document, indent=0).splitlines()
        if line.startswith('"$ref"')
    }
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in schemas}
    assert sum(len(methods) for methods in document["paths"].values()) == 20
    for kind_of_row in "Task", "Conversation", "Message":
        assert schemas[f"{kind_of_row}Create"]["examples"]
        assert schemas[f"{kind_of_row}Read"]["examples"]
    for name in "TaskUpdate", "ConversationUpdate", "TaskCounts", "UserRead":
        assert schemas[name]["examples"]
    (task,) = schemas["TaskCreate"]["examples"]
    stored = fresh.done("POST", "/tasks", 201, json=task)
    (changes,) = schemas["TaskUpdate"]["examples"]
    fresh.done("PATCH", f"/tasks/{stored['id']}", json=changes)
    # FastAPI leaves out what is null, in examples too.
    assert set(stored) - set(schemas["TaskRead"]["examples"][0]) == {"description"}
    (conversation,) = schemas["ConversationCreate"]["examples"]
    path = fresh.done("POST", "/conversations", 201, json=conversation)["id"]
    (message,) = schemas["MessageCreate"]["examples"]
    fresh.done("POST", f"/conversations/{path}/messages", 201, json=message)
    secured = document["paths"]["/tasks"]["get"]
    assert secured["security"] == [{"HTTPBearer": []}]
    limits = [each["schema"] for each in secured["parameters"] if each["name"] == "limit"]
    assert (limits[0]["minimum"], limits[0]["maximum"]) == (1, 100)


# Who may


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def claims(**given: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "alice", "iss": ISSUER, "aud": ISSUER, "iat": now, "exp": now + 900, **given}


def unsigned(keys: Keys) -> str:
    header = {"alg": "none", "typ": "JWT", "kid": "first"}
    return f"{encoded(header)}.{encoded(claims())}."


def signed_with_the_public_key(keys: Keys) -> str:
    # By hand: PyJWT would not sign with what is a public key.
    head = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{encoded(claims())}"
    return f"{head}.{encoded(hmac.digest(keys.raw_public(), head.encode(), 'sha256'))}"


def signed_by_somebody_else(keys: Keys) -> str:
    other = Ed25519PrivateKey.generate()
    return jwt.encode(claims(), other, algorithm="EdDSA", headers={"kid": "first"})


def signed_with_the_senders_own_key(keys: Keys) -> str:
    other = Ed25519PrivateKey.generate()
    own = {"kty": "OKP", "crv": "Ed25519", "x": encoded(other.public_key().public_bytes_raw())}
    return jwt.encode(claims(), other, algorithm="EdDSA", headers={"kid": "first", "jwk": own})


def changed_afterwards(keys: Keys) -> str:
    head, _, signature = keys.token("bob").split(".")
    return f"{head}.{encoded(claims())}.{signature}"


def unknown_key(keys: Keys) -> str:
    other = Ed25519PrivateKey.generate()
    return jwt.encode(claims(), other, algorithm="EdDSA", headers={"kid": MARKER})


TOKENS: dict[str, Callable[[Keys], str]] = {
    "none": lambda keys: "",
    "no-token": lambda keys: MARKER,
    "not-text": lambda keys: "\xe4.\xf6.\xfc",
    "brackets": lambda keys: f"{encoded(b'[' * 30_000)}.e30.AA",
    "expired": lambda keys: keys.token("alice", exp=int(time.time()) - 60),
    "of-the-future": lambda keys: keys.token("alice", nbf=int(time.time()) + 600),
    "for-ever": lambda keys: keys.token("alice", exp=None),
    "nobodys": lambda keys: keys.token("alice", sub=None),
    "empty-user": lambda keys: keys.token(""),
    "number-as-user": lambda keys: keys.token("alice", sub=["alice"]),
    "other-issuer": lambda keys: keys.token("alice", iss=f"https://{MARKER}.example.com"),
    "no-issuer": lambda keys: keys.token("alice", iss=None),
    "other-audience": lambda keys: keys.token("alice", aud=f"https://{MARKER}.example.com"),
    "no-audience": lambda keys: keys.token("alice", aud=None),
    "no-key-id": lambda keys: keys.token("alice", kid=None),
    "unknown-key-id": unknown_key,
    "unsigned": unsigned,
    "hs256-with-the-public-key": signed_with_the_public_key,
    "somebody-elses": signed_by_somebody_else,
    "own-key-inside": signed_with_the_senders_own_key,
    "changed": changed_afterwards,
}


@pytest.mark.row("R23")
@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_not_valid_is_401(app: Running, keys: Keys, token: str) -> None:
    given = TOKENS[token](keys)
    headers = {b"Authorization": f"Bearer {given}".encode("latin-1")} if given else {}
    answer = app.client.get("/tasks", headers=headers)
    detail = refused(answer, 401)
    assert detail == ("The token is not valid; sign in again." if given else "Sign in first.")
    answer = app.client.post("/tasks", headers=headers, json={"title": MARKER})
    refused(answer, 401)


@pytest.mark.row("R23")
def test_other_ways_to_sign_in_are_none(app: Running, keys: Keys) -> None:
    token = keys.token("alice")
    refused(app.client.get("/tasks", headers={"Authorization": f"Basic {token}"}), 401)
    refused(app.client.get("/tasks", headers={"Cookie": f"token={token}"}), 401)
    refused(app.client.get("/tasks", params={"token": token}), 401)


def test_small_differences_of_clocks_do_not_matter(app: Running, keys: Keys) -> None:
    now = int(time.time())
    for token in keys.token("alice", iat=now + 5), keys.token("alice", exp=now - 5):
        assert app.request("GET", "/me", token).status_code == 200


@pytest.mark.row("R23")
def test_a_token_outlives_its_user_in_vain(fresh: Client, owner: Connection) -> None:
    title = f"{MARKER}-{fresh.app.url}"
    fresh.task(title)
    user = jwt.decode(fresh.token, options={"verify_signature": False})["sub"]
    owner.execute('delete from "user" where id = %s', [user])
    for method, path, body in [
        ("GET", "/tasks", None),
        ("GET", "/me", None),
        ("GET", "/tasks/1", None),
        ("POST", "/tasks", {"title": title}),
        ("POST", "/conversations", {}),
    ]:
        refused(fresh.send(method, path, json=body), 401)
    assert count(owner, title) == 0


@pytest.mark.row("R7", "R17", "R23")
def test_the_row_of_somebody_else_is_as_one_that_does_not_exist(alice: Client, bob: Client) -> None:
    task = alice.task()["id"]
    conversation = alice.done("POST", "/conversations", 201, json={})["id"]
    talk = f"/conversations/{conversation}"
    body = {"role": "user", "content": "Hello"}
    message = alice.done("POST", f"{talk}/messages", 201, json=body)["id"]
    attempts: list[tuple[str, str, Any]] = [
        ("GET", f"/tasks/{task}", None),
        ("PATCH", f"/tasks/{task}", {"title": MARKER}),
        ("PATCH", f"/tasks/{task}", {}),
        ("POST", f"/tasks/{task}/toggle", None),
        ("DELETE", f"/tasks/{task}", None),
        ("PATCH", "/tasks", {"ids": [task], "changes": {"title": MARKER}}),
        ("POST", "/tasks/delete", {"ids": [task]}),
        ("GET", talk, None),
        ("PATCH", talk, {"title": MARKER}),
        ("DELETE", talk, None),
        ("GET", f"{talk}/messages", None),
        ("POST", f"{talk}/messages", {"role": "user", "content": MARKER}),
        ("DELETE", f"/messages/{message}", None),
    ]

    def tried() -> list[tuple[int, str, list[tuple[str, str]]]]:
        answers = [bob.send(method, path, json=body) for method, path, body in attempts]
        for answer in answers:
            refused(answer, 404)
        return [
            (each.status_code, each.text, [h for h in each.headers.items() if h[0] != "date"])
            for each in answers
        ]

    of_alice = tried()
    assert alice.done("GET", f"/tasks/{task}")["title"] == "Buy milk"
    assert len(alice.done("GET", f"{talk}/messages")["items"]) == 1
    alice.done("DELETE", talk, 204)
    alice.done("DELETE", f"/tasks/{task}", 204)
    assert tried() == of_alice
    for id_ in 0, -1, 2**63, 10**30:
        refused(bob.send("GET", f"/tasks/{id_}"), 404)


# What is not valid

FORGED = encoded(b"0" * 16 + json.dumps(["0" * 16, 1, 1, False]).encode())

QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("/tasks", {"sort": MARKER}, "sort"),
    ("/tasks", {"order": MARKER}, "order"),
    ("/tasks", {"limit": 0}, "limit"),
    ("/tasks", {"limit": -1}, "limit"),
    ("/tasks", {"limit": 101}, "limit"),
    ("/tasks", {"limit": 10**30}, "limit"),
    ("/tasks", {"limit": MARKER}, "limit"),
    ("/tasks", {"status": MARKER}, "status"),
    ("/tasks", {"completed": MARKER}, "completed"),
    ("/tasks", {"due_date": MARKER}, "due_date"),
    ("/tasks", {"due_date": "5"}, "due_date"),
    ("/tasks", {"contains": MARKER * 50}, "contains"),
    ("/tasks", {"contains": "\0"}, "contains"),
    ("/tasks", {"tags": [MARKER] * 21}, "tags"),
    ("/tasks", {"status": "pending", "completed": "true"}, "status"),
    ("/tasks", {"has_due_date": "false", "due_date": "2026-05-01"}, "has_due_date"),
    ("/tasks", {"nothing": MARKER}, "nothing"),
    ("/tasks", {"cursor": MARKER}, "first page"),
    ("/tasks", {"cursor": ""}, "first page"),
    ("/tasks", {"cursor": "ä\0"}, "first page"),
    ("/tasks", {"cursor": FORGED}, "first page"),
    ("/tasks", {"search": "the"}, "search"),
    ("/tasks/page", {"page": -1}, "page"),
    ("/tasks/page", {"page": 0}, "page"),
    ("/tasks/page", {"page": 501}, "page"),
    ("/tasks/page", {"page": 10**30}, "page"),
    ("/tasks/page", {"limit": 101}, "limit"),
    ("/tasks/page", {"total": MARKER}, "total"),
    ("/tasks/page", {"cursor": MARKER}, "cursor"),
    ("/tasks/search", {}, "search"),
    ("/tasks/search", {"search": ""}, "search"),
    ("/tasks/search", {"search": "the of and"}, "search"),
    ("/tasks/search", {"search": '- " OR'}, "search"),
    ("/tasks/search", {"search": "& | ! ( ) <-> :*"}, "search"),
    ("/tasks/search", {"search": "\0"}, "search"),
    ("/tasks/search", {"search": MARKER * 200}, "search"),
    ("/tasks/search", {"search": "milk", "limit": 101}, "limit"),
    ("/tasks/search", {"search": "milk", "sort": "title"}, "sort"),
    ("/conversations", {"limit": 0}, "limit"),
    ("/conversations", {"cursor": MARKER}, "first page"),
    ("/conversations", {"sort": MARKER}, "sort"),
    ("/conversations/1/messages", {"limit": 101}, "limit"),
    ("/conversations/1/messages", {"order": MARKER}, "order"),
    ("/conversations/1/messages", {"cursor": FORGED}, "first page"),
    (f"/tasks/{MARKER}", {}, "id"),
]


@pytest.mark.row("R18", "R19", "R23")
def test_a_query_that_is_not_valid_is_422_and_says_why(alice: Client) -> None:
    for path, query, said in QUERIES:
        detail = refused(alice.send("GET", path, params=query), 422)
        assert any(said in each["msg"] for each in detail), (path, query, detail)


BODIES: list[tuple[str, str, bytes, str]] = [
    ("POST", "/tasks", b"", "body"),
    ("POST", "/tasks", b"{", "body"),
    ("POST", "/tasks", b"[]", "body"),
    ("POST", "/tasks", b"{}", "title"),
    ("POST", "/tasks", b'{"title": null}', "title must not be null"),
    ("POST", "/tasks", b'{"title": ""}', "title must "),
    ("POST", "/tasks", b'{"title": " \\u3000"}', "title must not be blank"),
    ("POST", "/tasks", b'{"title": "%s"}' % (b"zyx314159x" * 2**20), "title must have 1 to 200"),
    ("POST", "/tasks", b'{"title": "zyx314159\\u0000"}', "title has characters"),
    ("POST", "/tasks", b'{"title": "zyx314159\\ud800"}', "title has characters"),
    ("POST", "/tasks", b'{"title": "zyx314159\\udc00\\ud800"}', "title has characters"),
    ("POST", "/tasks", b'{"title": "a", "description": "\\ud800"}', "description has characters"),
    ("POST", "/tasks", b'{"title": "a", "tags": ["\\u0000"]}', "tags has characters"),
    ("POST", "/tasks", b'{"title": "a", "tags": ["zyx314159", "zyx314159"]}', "tags"),
    ("POST", "/tasks", b'{"title": "a", "due_date": 5}', "due_date has the wrong type"),
    ("POST", "/tasks", b'{"title": "a", "due_date": "zyx314159"}', "due_date"),
    ("POST", "/tasks", b'{"title": "a", "priority": "zyx314159"}', "priority is none"),
    ("POST", "/tasks", b'{"title": "a", "status": "pending", "completed": true}', "status"),
    ("POST", "/tasks", b'{"title": "a", "user_id": "zyx314159"}', "user_id is not a field"),
    ("POST", "/tasks", b'{"title": "a", "\\ud800": "zyx314159"}', "body"),
    ("POST", "/tasks", b'{"title": "a", "\\u0000": "zyx314159"}', "is not a field"),
    ("PATCH", "/tasks/1", b'{"title": null}', "title must not be null"),
    ("PATCH", "/tasks/1", b'{"id": 5}', "id is not a field"),
    ("PATCH", "/tasks", b'{"ids": [], "changes": {"title": "a"}}', "ids must be 1 to 1000"),
    ("PATCH", "/tasks", b'{"ids": [1], "changes": {}}', "changes must have at least one"),
    ("PATCH", "/tasks", b'{"ids": [1], "changes": {"x": "zyx314159"}}', "x is not a field"),
    ("POST", "/tasks/delete", b'{"ids": []}', "ids must be 1 to 1000"),
    ("POST", "/tasks/delete", b'{"ids": [%s1]}' % (b"1," * 1000), "ids must be 1 to 1000"),
    ("POST", "/tasks/delete", b'{"ids": [%s1]}' % (b"1," * 100_000), "ids must be 1 to 1000"),
    ("POST", "/tasks/delete", b'{"ids": ["zyx314159"]}', "ids has the wrong type"),
    ("POST", "/tasks/delete", b'{"ids": [NaN]}', "ids has the wrong type"),
    ("POST", "/tasks/delete", b'{"ids": null}', "ids must not be null"),
    ("POST", "/tasks/delete", b'{"ids": [1], "all": true}', "all is not a field"),
    ("POST", "/conversations", b'{"title": ""}', "title must "),
    ("POST", "/conversations", b'{"title": "\\ud800"}', "title has characters"),
    ("POST", "/conversations/1/messages", b'{"role": "system", "content": "a"}', "role is none"),
    ("POST", "/conversations/1/messages", b'{"role": "user", "content": ""}', "content must have"),
    ("POST", "/conversations/1/messages", b'{"role": "user", "content": "\\u0000"}', "content has"),
]


@pytest.mark.row("R4", "R14", "R23")
def test_a_body_that_is_not_valid_is_422_and_says_why(fresh: Client) -> None:
    for method, path, body, said in BODIES:
        detail = refused(fresh.send_json(method, path, body), 422)
        assert any(said in each["msg"] for each in detail), (method, path, body[:80], detail)
    assert fresh.done("GET", "/tasks/counts")["total"] == 0


@pytest.mark.row("R23")
def test_a_body_that_is_no_json_at_all_is_400(alice: Client) -> None:
    for body in b"\xff\xfe\xfa", b"[" * 100_000, b'{"title": ' + b"9" * 5000 + b"}":
        refused(alice.send_json("POST", "/tasks", body), 400)


@pytest.mark.row("R18", "R23")
def test_a_cursor_is_good_for_its_user_and_list_only(fresh: Client, bob: Client) -> None:
    for client in fresh, bob:
        for number in range(3):
            client.task(f"Milk {number}")
            client.done("POST", "/conversations", 201, json={})
    path, query = "/tasks", {"limit": 1, "sort": "title"}
    cursor = fresh.done("GET", path, params=query)["next_cursor"]
    talk = fresh.done("GET", "/conversations", params={"limit": 1})["next_cursor"]
    search = {"search": "milk", "limit": 1}
    found = fresh.done("GET", "/tasks/search", params=search)["next_cursor"]
    query["cursor"] = cursor
    assert fresh.done("GET", path, params=query)["items"][0]["title"] == "Milk 1"
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-3] ^= 1
    for client, path_, given in [
        (bob, path, query),
        (bob, "/conversations", {"cursor": talk}),
        (fresh, path, {**query, "sort": "priority"}),
        (fresh, path, {**query, "order": "desc"}),
        (fresh, path, {**query, "completed": "false"}),
        (fresh, path, {**query, "cursor": talk}),
        (fresh, path, {**query, "cursor": found}),
        (fresh, path, {**query, "cursor": encoded(bytes(raw))}),
        (fresh, path, {**query, "cursor": cursor[:-4]}),
        (fresh, "/conversations", {"cursor": cursor}),
        (fresh, "/tasks/search", {**search, "cursor": cursor}),
        (fresh, "/tasks/search", {**search, "search": "milk 1", "cursor": found}),
    ]:
        (detail,) = refused(client.send("GET", path_, params=given), 422)
        assert detail["type"] == "cursor"
        assert "ask for the first page" in detail["msg"]


# What the database refuses


@contextmanager
def at_commit(owner: Connection, title: str, action: str) -> Iterator[None]:
    """Have a transaction that stores a task of this title do something when it is committed."""
    owner.execute(
        "create function fail_at_commit() returns trigger language plpgsql as $$ begin "
        f"if new.title = '{title}' then {action}; end if; return null; end $$"
    )
    owner.execute(
        "create constraint trigger fail_at_commit after insert on tasks "
        "deferrable initially deferred for each row execute function fail_at_commit()"
    )
    try:
        yield
    finally:
        owner.execute("drop trigger fail_at_commit on tasks")
        owner.execute("drop function fail_at_commit()")


@pytest.mark.row("R16", "R23")
@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("raise 'zyx314159' using errcode = '40001'", 409),
        ("raise 'zyx314159' using errcode = '23505', constraint = 'tasks_pkey'", 409),
        ("raise 'zyx314159' using errcode = '23514', constraint = 'tasks_title_blank_check'", 422),
        ("raise 'zyx314159' using errcode = '42501'", 403),
        ("raise 'zyx314159' using errcode = '53100'", 503),
        ("perform pg_terminate_backend(pg_backend_pid())", 503),
    ],
)
def test_a_commit_that_fails_is_no_success(
    fresh: Client, owner: Connection, action: str, status: int
) -> None:
    title = f"At commit {status}"
    if "terminate" in action:
        # The application's role may not; a function of the owner's would run as that role.
        action = "perform terminate_me()"
        owner.execute(
            "create or replace function terminate_me() returns void security definer "
            "language sql as 'select pg_terminate_backend(pg_backend_pid())'"
        )
    with at_commit(owner, title, action):
        refused(fresh.send("POST", "/tasks", json={"title": title}), status)
        assert count(owner, title) == 0
    fresh.task(title)
    assert fresh.app.pool.checkedout() == 0
    owner.execute("delete from tasks where title = %s", [title])


# When the server goes away


def wait_for_lock(owner: Connection) -> int:
    """Return the process of the application's statement that waits for a lock."""
    query = (
        "select pid from pg_stat_activity where usename = 'todo_app' "
        "and datname = current_database() and wait_event_type = 'Lock'"
    )
    end = time.monotonic() + 10
    while time.monotonic() < end:
        # Within a transaction the view does not move.
        owner.execute("select pg_stat_clear_snapshot()")
        if row := owner.execute(query).fetchone():
            return int(row[0])
        time.sleep(0.01)
    raise AssertionError("nothing waits")


def terminate_all(owner: Connection) -> int:
    """End the application's connections; return how many there were."""
    found = owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where usename = 'todo_app' and datname = current_database()"
    )
    while backends(owner):
        time.sleep(0.005)
    return found.rowcount


@pytest.mark.row("R15", "R23")
def test_connections_that_died_between_requests_are_not_noticed(
    fresh: Client, owner: Connection
) -> None:
    with ThreadPoolExecutor(5) as pool:
        for _ in range(2):
            created = pool.map(lambda n: fresh.send("POST", "/tasks", json={"title": n}), "abcde")
            assert [answer.status_code for answer in created] == [201] * 5
            assert terminate_all(owner) > 0
    assert fresh.done("GET", "/tasks/counts")["total"] == 10


@pytest.mark.row("R23")
def test_a_server_that_goes_away_during_a_request_is_503(fresh: Client, owner: Connection) -> None:
    task = fresh.task()
    path = f"/tasks/{task['id']}"
    with ThreadPoolExecutor(1) as pool, owner.transaction():
        owner.execute("select from tasks where id = %s for update", [task["id"]])
        answer = pool.submit(fresh.send, "PATCH", path, json={"title": "Buy bread"})
        pid = wait_for_lock(owner)
        owner.execute("select pg_terminate_backend(%s)", [pid])
        refused(answer.result(), 503)
    assert fresh.done("GET", path) == task
    assert fresh.app.pool.checkedout() == 0


# The keys


@pytest.mark.row("R23")
@pytest.mark.parametrize(
    "wrong",
    [
        (500, b""),
        (404, b"{}"),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kid": "first", "kty": "OKP"}]}'),
        None,
    ],
)
def test_whatever_comes_instead_of_keys_is_the_same_error(
    wrong: tuple[int, bytes] | None,
) -> None:
    with key_server() as own:
        own.answer = wrong
        if wrong:
            with pytest.raises(jwt.PyJWKClientConnectionError):
                auth.Keys(own.url).get_signing_key("first")
    if not wrong:  # nobody listens any more
        with pytest.raises(jwt.PyJWKClientConnectionError):
            auth.Keys(own.url).get_signing_key("first")


@pytest.mark.row("R23")
def test_without_keys_it_is_503_until_there_are_some(
    database: Address, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth.Keys, "pause", 0.3)
    with key_server() as own, serving(kind, database, own.url) as app:
        own.answer = (500, b"")
        for _ in range(3):
            refused(app.request("GET", "/tasks", own.token("alice")), 503)
        assert own.fetches == 1
        refused(app.request("GET", "/tasks", unsigned(own)), 401)
        own.answer = None
        time.sleep(auth.Keys.pause)
        assert app.request("GET", "/tasks", own.token("alice")).status_code == 200


@pytest.mark.row("R23")
def test_slow_keys_hold_up_nobody_else(database: Address, kind: str) -> None:
    with (
        key_server() as own,
        serving(kind, database, own.url, jwks_timeout=0.3) as app,
        ThreadPoolExecutor(1) as pool,
    ):
        own.delay = 0.6
        waiting = pool.submit(app.request, "GET", "/tasks", own.token("alice"))
        while not own.fetches:
            time.sleep(0.01)
        for _ in range(3):
            refused(app.request("GET", "/tasks", None), 401)
        assert not waiting.done()
        refused(waiting.result(), 503)


@pytest.mark.row("R32")
def test_a_new_key_is_fetched_when_a_token_names_it(database: Address, kind: str) -> None:
    with (
        key_server() as own,
        serving(kind, database, own.url, jwks_cooldown=0) as app,
    ):
        old = own.token("alice")
        for _ in range(3):
            assert app.request("GET", "/me", old).status_code == 200
        assert own.fetches == 1
        own.published["second"] = Ed25519PrivateKey.generate()
        for _ in range(3):
            assert app.request("GET", "/me", own.token("alice", kid="second")).status_code == 200
        assert own.fetches == 2
        assert app.request("GET", "/me", old).status_code == 200

        # Keys that cannot be fetched again leave the known ones good.
        own.answer = (500, b"")
        refused(app.request("GET", "/me", unknown_key(own)), 503)
        assert app.request("GET", "/me", old).status_code == 200


@pytest.mark.row("R32")
def test_invented_key_ids_cause_no_fetches(app: Running, keys: Keys) -> None:
    assert app.request("GET", "/me", keys.token("alice")).status_code == 200
    before = keys.fetches
    for _ in range(5):
        refused(app.request("GET", "/me", unknown_key(keys)), 401)
        refused(app.request("GET", "/me", unsigned(keys)), 401)
    assert keys.fetches == before


@pytest.mark.row("R1", "R32")
def test_with_better_auth_itself(database: Address, owner: Connection) -> None:
    with better_auth(database) as issuer, ExitStack() as stack:
        given = {"issuer": issuer.base_url, "audience": issuer.base_url, "jwks_cooldown": 0}
        for kind in CREATE_APP:
            app = stack.enter_context(serving(kind, database, issuer.jwks_url, **given))
            session = issuer.sign_up(f"{kind}@example.com", kind, PHRASE)
            client = Client(app, issuer.jwt(session))
            me = client.done("GET", "/me")
            assert (me["id"], me["email"]) == (issuer.user_id(session), f"{kind}@example.com")
            title = f"Of {kind}"
            client.task(title)
            assert len(client.done("GET", "/tasks")["items"]) == 1

            # Better Auth signs with a new key where there is none.
            owner.execute("delete from jwks")
            renewed = Client(app, issuer.jwt(session))
            ids = [jwt.get_unverified_header(each.token)["kid"] for each in (client, renewed)]
            assert ids[0] != ids[1]
            assert len(renewed.done("GET", "/tasks")["items"]) == 1
            refused(client.send("GET", "/tasks"), 401)

            assert issuer.post("/delete-user", {"password": PHRASE}, session).status_code == 200
            refused(renewed.send("GET", "/tasks"), 401)
            refused(renewed.send("POST", "/tasks", json={"title": title}), 401)
            assert count(owner, title) == 0


# The start, and many at once


@pytest.mark.row("R24")
def test_it_does_not_start_on_a_database_without_the_schema(
    scratch: Address, server: LocalServer, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server.allow_logins()
    with (
        pytest.raises(RuntimeError, match="did not start"),
        serving(kind, scratch, "http://127.0.0.1:9/jwks"),
    ):
        pass
    assert "python -m scripts migrate" in capfd.readouterr().err


@pytest.mark.row("R16", "R30")
@pytest.mark.parametrize(("users", "requests"), [(50, 8), (80, 1)])
def test_many_users_at_once(
    apps: dict[str, Running], kind: str, keys: Keys, users: int, requests: int
) -> None:
    """Of 80, 15 would have all the connections and 40 all of FastAPI's threads."""
    app = apps[kind]
    names = [f"{kind}-{users}-{number}" for number in range(users)]
    add_users(app.database, names)
    watch = Watch(app)
    with watch.watching():
        done = visits(app.url, {name: keys.token(name) for name in names}, requests)
    assert done.sent >= users * requests
    assert watch.checked_out <= 15
    check_afterwards(app, done)
