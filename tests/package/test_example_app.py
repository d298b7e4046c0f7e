"""The example application over real HTTP, sync and async: what the guide promises."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.openapi.models import OpenAPI
from jwt.algorithms import OKPAlgorithm

from scripts.address import Address
from scripts.server import LocalServer
from tests.example_app import auth
from tests.schema.acting import Connection, value
from tests.support.better_auth import better_auth
from tests.support.example_app import (
    CREATE_APP,
    Keys,
    Running,
    add_users,
    check_afterwards,
    key_server,
    serving,
    visits,
    watching,
)

pytestmark = [pytest.mark.row("R16", "R32"), pytest.mark.usefixtures("owner")]

MARKER = "zyx314159"  # part of what is sent, which no refusal may repeat
INTERNAL = [MARKER, "Traceback", ".py", "psycopg", "sqlalchemy", "select ", "insert ", "update "]
INTERNAL += ["_check", "_fkey", "_pkey", "_idx", "task_search", "todo_app", "pg_", "127.0.0.1"]


class Client:
    """A user's requests to an application, or nobody's."""

    def __init__(self, app: Running, token: str = "") -> None:
        self.app = app
        self.token = token

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        # For bodies that are sent as they are: httpx would not make one with half of a surrogate.
        headers = {b"Content-Type": b"application/json"}
        if self.token:
            headers[b"Authorization"] = f"Bearer {self.token}".encode("latin-1")
        return self.app.client.request(method, path, **{"headers": headers, **given})

    def done(self, method: str, path: str, status: int = 200, **given: Any) -> Any:
        """Return the body of an answer that must be this one."""
        answer = self.send(method, path, **given)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def refused(self, status: int, method: str, path: str, **given: Any) -> httpx.Response:
        """Return a refusal, after a look for what is nobody's business."""
        answer = self.send(method, path, **given)
        assert answer.status_code == status, answer.text
        assert not [each for each in INTERNAL if each in answer.text]
        assert len(answer.text) < 2000
        if status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        if status == 503:
            assert answer.headers["Retry-After"] == "1"
        assert answer.json()["detail"]
        return answer

    def task(self, title: str = "Buy milk", **given: Any) -> Any:
        return self.done("POST", "/tasks", 201, json={"title": title, **given})


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
def alice(app: Running, keys: Keys) -> Client:
    return Client(app, keys.token("alice"))


@pytest.fixture
def bob(app: Running, keys: Keys) -> Client:
    return Client(app, keys.token("bob"))


@pytest.fixture
def owner(database: Address) -> Iterator[Connection]:
    """The same database for its owner, who sees every row; Alice and Bob have none at the end."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection
        connection.execute("delete from tasks")
        connection.execute("delete from conversations")


# What it does


@pytest.mark.row("R3", "R7", "R17", "R18", "R19", "R20", "R21", "R30")
@pytest.mark.parametrize(("number", "requests"), [(20, 2), (80, 1)])
def test_everything_by_many_users_at_once(
    app: Running, keys: Keys, number: int, requests: int
) -> None:
    """Of 80 who just come, 15 would have all the connections and 40 all of FastAPI's threads."""
    users = [f"user-{each}" for each in range(number)]
    add_users(app.database, users)
    with watching(app) as most:
        sent = visits(app.url, {user: keys.token(user) for user in users}, requests)
    assert sent >= number * requests
    assert most["in use"] <= 15
    check_afterwards(app, users if requests > 1 else [])


@pytest.mark.row("R14")
def test_openapi_describes_it_with_examples_that_work(alice: Client) -> None:
    document = alice.done("GET", "/openapi.json")
    OpenAPI.model_validate(document)
    schemas = document["components"]["schemas"]
    assert sum(len(methods) for methods in document["paths"].values()) == 20

    def example(name: str) -> Any:
        (only,) = schemas[name]["examples"]
        return only

    stored = alice.done("POST", "/tasks", 201, json=example("TaskCreate"))
    alice.done("PATCH", f"/tasks/{stored['id']}", json=example("TaskUpdate"))
    # FastAPI leaves out what is null, in examples too.
    assert set(stored) - set(example("TaskRead")) == {"description"}
    talk = alice.done("POST", "/conversations", 201, json=example("ConversationCreate"))["id"]
    alice.done("PATCH", f"/conversations/{talk}", json=example("ConversationUpdate"))
    alice.done("POST", f"/conversations/{talk}/messages", 201, json=example("MessageCreate"))
    for name in "ConversationRead", "MessageRead", "TaskCounts", "UserRead":
        assert example(name)
    secured = document["paths"]["/tasks"]["get"]
    assert secured["security"] == [{"HTTPBearer": []}]
    limits = [each["schema"] for each in secured["parameters"] if each["name"] == "limit"]
    assert (limits[0]["minimum"], limits[0]["maximum"]) == (1, 100)


# Who may

OTHER = Ed25519PrivateKey.generate()


def forged(keys: Keys, key: Any, algorithm: str = "EdDSA", **header: Any) -> str:
    """Return a good token of Alice's, but for what signs it."""
    claims = jwt.decode(keys.token("alice"), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, {"kid": "first", **header})


def changed(keys: Keys) -> str:
    """Return a token of Bob's that became Alice's."""
    head, _, signature = keys.token("bob").split(".")
    return f"{head}.{keys.token('alice').split('.')[1]}.{signature}"


TOKENS: dict[str, Callable[[Keys], str]] = {
    "none": lambda keys: "",
    "no-token": lambda keys: MARKER,
    "not-text": lambda keys: "\xe4.\xf6.\xfc",
    "brackets": lambda keys: f"{base64.b64encode(b'[' * 30_000).decode()}.e30.AA",
    "expired": lambda keys: keys.token("alice", exp=int(time.time()) - 60),
    "of-the-future": lambda keys: keys.token("alice", nbf=int(time.time()) + 600),
    "for-ever": lambda keys: keys.token("alice", exp=None),
    "nobodys": lambda keys: keys.token("alice", sub=None),
    "empty-user": lambda keys: keys.token(""),
    "list-as-user": lambda keys: keys.token("alice", sub=["alice"]),
    "other-issuer": lambda keys: keys.token("alice", iss=f"https://{MARKER}.example.com"),
    "no-issuer": lambda keys: keys.token("alice", iss=None),
    "other-audience": lambda keys: keys.token("alice", aud=f"https://{MARKER}.example.com"),
    "no-audience": lambda keys: keys.token("alice", aud=None),
    "no-key-id": lambda keys: keys.token("alice", kid=None),
    "unknown-key-id": lambda keys: forged(keys, OTHER, kid=MARKER),
    "unsigned": lambda keys: forged(keys, None, "none"),
    "hs256-with-the-public-key": lambda keys: forged(
        keys, keys.published["first"].public_key().public_bytes_raw(), "HS256"
    ),
    "somebody-elses": lambda keys: forged(keys, OTHER),
    "own-key-inside": lambda keys: forged(
        keys, OTHER, jwk=OKPAlgorithm.to_jwk(OTHER.public_key(), as_dict=True)
    ),
    "changed": changed,
}


@pytest.mark.row("R23")
@pytest.mark.parametrize("token", TOKENS)
def test_a_token_that_is_not_valid_is_401(app: Running, keys: Keys, token: str) -> None:
    given = TOKENS[token](keys)
    said = "The token is not valid; sign in again." if given else "Sign in first."
    assert Client(app, given).refused(401, "GET", "/tasks").json() == {"detail": said}
    Client(app, given).refused(401, "POST", "/tasks", json={"title": MARKER})


@pytest.mark.row("R23")
def test_other_ways_to_sign_in_are_none(app: Running, keys: Keys) -> None:
    token = keys.token("alice")
    for headers in {"Authorization": f"Basic {token}"}, {"Cookie": f"token={token}"}:
        Client(app).refused(401, "GET", "/tasks", headers=headers)
    Client(app).refused(401, "GET", f"/tasks?token={token}")


def test_small_differences_of_clocks_do_not_matter(app: Running, keys: Keys) -> None:
    now = int(time.time())
    for token in keys.token("alice", iat=now + 5), keys.token("alice", exp=now - 5):
        me = Client(app, token).done("GET", "/me")
        assert (me["id"], me["email"]) == ("alice", "alice@example.com")


@pytest.mark.row("R23")
def test_a_token_outlives_its_user_in_vain(app: Running, keys: Keys, owner: Connection) -> None:
    add_users(app.database, ["carol"])
    carol = Client(app, keys.token("carol"))
    carol.task(MARKER)
    owner.execute("""delete from "user" where id = 'carol'""")
    for path in "/tasks", "/me", "/tasks/1":
        carol.refused(401, "GET", path)
    carol.refused(401, "POST", "/tasks", json={"title": MARKER})
    carol.refused(401, "POST", "/conversations", json={})
    assert value(owner, "select count(*) from tasks") == 0


@pytest.mark.row("R7", "R17", "R23")
def test_the_row_of_somebody_else_is_as_one_that_does_not_exist(alice: Client, bob: Client) -> None:
    task = f"/tasks/{alice.task()['id']}"
    talk = f"/conversations/{alice.done('POST', '/conversations', 201, json={})['id']}"
    body = {"role": "user", "content": "Hello"}
    message = f"/messages/{alice.done('POST', f'{talk}/messages', 201, json=body)['id']}"
    ids = [int(task.removeprefix("/tasks/"))]
    attempts: list[tuple[str, str, Any]] = [
        ("GET", task, None),
        ("PATCH", task, {"title": MARKER}),
        ("PATCH", task, {}),
        ("POST", f"{task}/toggle", None),
        ("DELETE", task, None),
        ("PATCH", "/tasks", {"ids": ids, "changes": {"title": MARKER}}),
        ("POST", "/tasks/delete", {"ids": ids}),
        ("GET", talk, None),
        ("PATCH", talk, {"title": MARKER}),
        ("DELETE", talk, None),
        ("GET", f"{talk}/messages", None),
        ("POST", f"{talk}/messages", {"role": "user", "content": MARKER}),
        ("DELETE", message, None),
    ]

    def tried() -> list[Any]:
        answers = [bob.refused(404, method, path, json=body) for method, path, body in attempts]
        return [
            (each.text, [header for header in each.headers.items() if header[0] != "date"])
            for each in answers
        ]

    of_alice = tried()
    assert alice.done("GET", task)["title"] == "Buy milk"
    assert len(alice.done("GET", f"{talk}/messages")["items"]) == 1
    alice.done("DELETE", talk, 204)
    alice.done("DELETE", task, 204)
    assert tried() == of_alice
    for id_ in 0, -1, 2**63, 10**30:
        bob.refused(404, "GET", f"/tasks/{id_}")


# What is not valid

FORGED = base64.urlsafe_b64encode(b"0" * 16 + json.dumps(["0" * 16, 1, 1, False]).encode()).decode()

# What is said, and of which queries. Every rule has its own test; here it is told over HTTP.
QUERIES: dict[str, list[str]] = {
    "sort": ["/tasks?sort=zyx314159", "/tasks/search?search=milk&sort=title"],
    "order": ["/conversations/1/messages?order=zyx314159"],
    "limit": [
        *(f"/tasks?limit={limit}" for limit in (-1, 101, 10**30, MARKER)),
        "/tasks/page?limit=0",
        "/tasks/search?search=milk&limit=0",
        "/conversations?limit=0",
    ],
    "completed": ["/tasks?completed=zyx314159"],
    "status": ["/tasks?status=pending&completed=true"],
    "due_date": ["/tasks?has_due_date=false&due_date=2026-05-01", "/tasks?due_date=5"],
    "contains": ["/tasks?contains=" + MARKER * 50, "/tasks?contains=%00"],
    "tags": ["/tasks?" + "tags=zyx314159&" * 21],
    "is not a field": ["/conversations?nothing=zyx314159", "/tasks/page?cursor=zyx314159"],
    "ask for the first page": [
        *(f"/tasks?cursor={cursor}" for cursor in (MARKER, "", "%C3%A4%00", FORGED)),
        *(f"/conversations{path}?cursor={FORGED}" for path in ("", "/1/messages")),
    ],
    "page": [f"/tasks/page?page={page}" for page in (0, 501, 10**30)],
    "total": ["/tasks/page?total=zyx314159"],
    "search": [
        *("/tasks?search=the", "/tasks/search", "/tasks/search?search=" + MARKER * 200),
        *(f"/tasks/search?search={text}" for text in ("", "the+of", '-+"+OR', "%26+|+!", "%00")),
    ],
    "id": ["/tasks/zyx314159"],
}

# The same of bodies, for each path.
BODIES: dict[str, dict[str, list[bytes]]] = {
    "POST /tasks": {
        "body": [b"", b"{", b"[]", b'{"title": "a", "\\ud800": "zyx314159"}'],
        "title must not be null": [b"{}", b'{"title": null}'],
        "title must not be blank": [b'{"title": " \\u3000"}'],
        "title must have 1 to 200": [b'{"title": "%s"}' % (b"zyx314159x" * 2**20)],
        "title has characters": [
            b'{"title": "zyx314159\\%s"}' % odd for odd in (b"u0000", b"ud800", b"udc00\\ud800")
        ],
        "tags has an item": [b'{"title": "a", "tags": ["zyx314159", "zyx314159"]}'],
        "due_date has the wrong type": [b'{"title": "a", "due_date": "zyx314159"}'],
        "priority is none": [b'{"title": "a", "priority": "zyx314159"}'],
        "status": [b'{"title": "a", "status": "pending", "completed": true}'],
        "is not a field": [b'{"title": "a", "%s": 1}' % name for name in (b"user_id", b"\\u0000")],
    },
    "PATCH /tasks/1": {"title must not be null": [b'{"title": null}']},
    "PATCH /tasks": {
        "ids must be 1 to 1000": [b'{"ids": [], "changes": {"title": "a"}}'],
        "changes must have at least one": [b'{"ids": [1], "changes": {}}'],
        "x is not a field": [b'{"ids": [1], "changes": {"x": "zyx314159"}}'],
    },
    "POST /tasks/delete": {
        "ids must be 1 to 1000": [b'{"ids": [%s1]}' % (b"1," * n) for n in (1000, 100_000)],
        "ids has the wrong type": [b'{"ids": ["zyx314159"]}', b'{"ids": [NaN]}'],
        "all is not a field": [b'{"ids": [1], "all": true}'],
    },
    "POST /conversations": {"title has characters": [b'{"title": "\\ud800"}']},
    "POST /conversations/1/messages": {
        "role is none": [b'{"role": "system", "content": "a"}'],
        "content has": [b'{"role": "user", "content": "\\u0000"}'],
    },
}


@pytest.mark.row("R4", "R14", "R18", "R19", "R23")
def test_what_is_not_valid_is_422_and_says_why(alice: Client) -> None:
    cases = [(said, "GET", url, b"") for said, urls in QUERIES.items() for url in urls]
    for route, reasons in BODIES.items():
        cases += [(said, *route.split(), body) for said, sent in reasons.items() for body in sent]
    for said, method, path, body in cases:
        detail = alice.refused(422, method, path, content=body).json()["detail"]
        assert any(said in each["msg"] for each in detail), (said, method, path, body[:80], detail)
    assert alice.done("GET", "/tasks/counts")["total"] == 0


@pytest.mark.row("R23")
def test_a_body_that_is_no_json_at_all_is_400(alice: Client) -> None:
    for body in b"\xff\xfe\xfa", b"[" * 100_000, b'{"title": ' + b"9" * 5000 + b"}":
        alice.refused(400, "POST", "/tasks", content=body)


# The owner may end the application's connections, and so may what runs as the owner.
AT_COMMIT = """
create function at_commit() returns trigger language plpgsql security definer as $$
begin {}; return null; end $$;
create constraint trigger at_commit after insert on tasks
deferrable initially deferred for each row execute function at_commit()
"""


@pytest.mark.row("R15", "R16", "R23")
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
    alice: Client, owner: Connection, action: str, status: int
) -> None:
    owner.execute(AT_COMMIT.format(action))
    try:
        alice.refused(status, "POST", "/tasks", json={"title": MARKER})
    finally:
        owner.execute("drop function at_commit() cascade")
    assert alice.done("GET", "/tasks/counts")["total"] == 0
    assert alice.task()["title"] == "Buy milk"
    assert alice.app.pool.checkedout() == 0


# The keys


@pytest.mark.row("R23")
def test_whatever_comes_instead_of_keys_is_the_same_error() -> None:
    with key_server() as own:
        for own.answer in (
            (500, b""),
            (404, b"{}"),
            (302, b""),
            (200, b"<html>"),
            (200, b"[]"),
            (200, b"{}"),
            (200, b'{"keys": []}'),
            (200, b'{"keys": [{"kid": "first", "kty": "OKP"}]}'),
        ):
            with pytest.raises(jwt.PyJWKClientConnectionError):
                auth.Keys(own.url).get_signing_key("first")
    with pytest.raises(jwt.PyJWKClientConnectionError):  # nobody listens any more
        auth.Keys(own.url).get_signing_key("first")


@pytest.mark.row("R23", "R32")
def test_keys_are_fetched_when_a_token_names_one_that_is_not_known(
    database: Address, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth.Keys, "pause", 0.3)
    with key_server() as own, serving(kind, database, own.url, jwks_cooldown=0) as app:
        alice = Client(app, own.token("alice"))
        own.answer = (500, b"")
        for _ in range(3):
            alice.refused(503, "GET", "/me")
        Client(app, forged(own, None, "none")).refused(401, "GET", "/me")
        assert own.fetches == 1
        own.answer = None
        time.sleep(auth.Keys.pause)
        for _ in range(3):
            alice.done("GET", "/me")
        assert own.fetches == 2
        own.published["second"] = OTHER
        for _ in range(3):
            Client(app, own.token("alice", kid="second")).done("GET", "/me")
        assert own.fetches == 3

        # Keys that cannot be fetched again leave the known ones good.
        own.answer = (500, b"")
        Client(app, forged(own, OTHER, kid=MARKER)).refused(503, "GET", "/me")
        alice.done("GET", "/me")


@pytest.mark.row("R23")
def test_slow_keys_hold_up_nobody_else(database: Address, kind: str) -> None:
    with (
        key_server() as own,
        serving(kind, database, own.url, jwks_timeout=0.3) as app,
        ThreadPoolExecutor(1) as pool,
    ):
        own.delay = 0.6
        waiting = pool.submit(Client(app, own.token("alice")).refused, 503, "GET", "/tasks")
        while not own.fetches:
            time.sleep(0.01)
        for _ in range(3):
            Client(app).refused(401, "GET", "/tasks")
        assert not waiting.done()
        waiting.result()


@pytest.mark.row("R32")
def test_invented_key_ids_cause_no_more_than_one_fetch(app: Running, keys: Keys) -> None:
    invented, unsigned = forged(keys, OTHER, kid=MARKER), forged(keys, None, "none")
    Client(app, invented).refused(401, "GET", "/me")
    before = keys.fetches
    for token in [invented, unsigned] * 5:
        Client(app, token).refused(401, "GET", "/me")
    assert keys.fetches == before


@pytest.mark.row("R1", "R32")
def test_with_better_auth_itself(database: Address, owner: Connection) -> None:
    phrase = "correct horse"
    with better_auth(database) as issuer, ExitStack() as stack:
        given = {"issuer": issuer.base_url, "audience": issuer.base_url, "jwks_cooldown": 0}
        for kind in CREATE_APP:
            app = stack.enter_context(serving(kind, database, issuer.jwks_url, **given))
            session = issuer.sign_up(f"{kind}@example.com", kind, phrase)
            client = Client(app, issuer.jwt(session))
            me = client.done("GET", "/me")
            assert (me["id"], me["email"]) == (issuer.user_id(session), f"{kind}@example.com")
            task = client.task()
            assert client.done("GET", "/tasks")["items"] == [task]

            # Better Auth signs with a new key where there is none.
            owner.execute("delete from jwks")
            renewed = Client(app, issuer.jwt(session))
            assert renewed.done("GET", "/tasks")["items"] == [task]
            client.refused(401, "GET", "/tasks")

            assert issuer.post("/delete-user", {"password": phrase}, session).status_code == 200
            renewed.refused(401, "GET", "/tasks")
            renewed.refused(401, "POST", "/tasks", json={"title": "Buy bread"})
            assert value(owner, "select count(*) from tasks") == 0


@pytest.mark.row("R24")
def test_it_does_not_start_on_a_database_without_the_schema(
    scratch: Address, server: LocalServer, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server.allow_logins()
    unstarted = pytest.raises(RuntimeError, match="did not start")
    with unstarted, serving(kind, scratch, "http://127.0.0.1:9/jwks"):
        pass
    assert "python -m scripts migrate" in capfd.readouterr().err
