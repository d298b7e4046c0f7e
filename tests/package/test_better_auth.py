"""Better Auth, unchanged, is a client of this schema: the release that tests/node pins."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psycopg
import pytest

from scripts.address import Address
from scripts.server import LocalServer
from tests.support.better_auth import BetterAuth, better_auth, migration_plan

Connection = psycopg.Connection[tuple[Any, ...]]

pytestmark = pytest.mark.row("R1")

PHRASE = "correct horse"  # a password
OTHER_PHRASE = "battery staple"

# Whatever belongs to a user, by the column that says whose it is.
OWNER = {'"user"': "id", "session": '"userId"', "account": '"userId"'}
OWNER |= dict.fromkeys(["tasks", "task_search", "conversations", "messages"], "user_id")


@pytest.fixture(scope="module")
def auth(server: LocalServer, module_database: Address) -> Iterator[BetterAuth]:
    """Better Auth on the module's database; each test has its own e-mail addresses."""
    server.allow_logins()
    with better_auth(module_database) as running:
        yield running


@pytest.fixture
def owner(module_database: Address) -> Iterator[Connection]:
    """The same database for its owner, who sees every row."""
    with psycopg.connect(module_database.url, autocommit=True) as connection:
        yield connection


def rows(connection: Connection, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return connection.execute(query, parameters).fetchall()


def count(connection: Connection, user: str) -> dict[str, int]:
    """Return how many rows of each table are a user's."""
    return {
        table: rows(connection, f"select count(*) from {table} where {column} = %s", user)[0][0]
        for table, column in OWNER.items()
    }


def sign_in_status(auth: BetterAuth, email: str, password: str) -> int:
    return auth.post("/sign-in/email", {"email": email, "password": password}).status_code


def test_it_has_nothing_to_change_in_the_schema(
    server: LocalServer, module_database: Address
) -> None:
    server.allow_logins()
    plan = migration_plan(module_database)
    assert plan == {"create": [], "add": [], "indexes": [], "problems": []}


def test_it_tells_what_it_misses_in_a_schema(server: LocalServer, migrated: Address) -> None:
    server.allow_logins()
    with psycopg.connect(migrated.url) as connection:
        connection.execute(
            """
            drop table verification;
            alter table session drop column "userAgent";
            alter table session add column device text not null;
            alter table account alter column "providerId" drop not null;
            alter table jwks alter column "expiresAt" type text;
            """
        )
    plan = migration_plan(migrated)
    created = ["identifier", "value", "expiresAt", "createdAt", "updatedAt"]
    assert plan["create"] == [["verification", created]]
    assert plan["add"] == [["session", ["userAgent"]]]
    for column, said in ("device", "insert"), ("providerId", "nullable"), ("expiresAt", "type"):
        assert any(column in problem and said in problem for problem in plan["problems"])


def test_sign_up_makes_user_account_and_session(auth: BetterAuth, owner: Connection) -> None:
    token = auth.sign_up("Ada@Example.COM", "Ada Lovelace", PHRASE)
    ((user, name, confirmed),) = rows(
        owner, """select id, name, "emailVerified" from "user" where email = 'ada@example.com'"""
    )
    assert (len(user), name, confirmed) == (32, "Ada Lovelace", False)
    assert auth.user_id(token) == user
    ((provider, account, hashed),) = rows(
        owner, 'select "providerId", "accountId", password from account where "userId" = %s', user
    )
    assert (provider, account) == ("credential", user)
    assert hashed
    assert PHRASE not in hashed
    ((stored, open_),) = rows(
        owner, 'select token, "expiresAt" > now() from session where "userId" = %s', user
    )
    assert (stored, open_) == (token, True)


@pytest.mark.parametrize(
    ("email", "name"),
    [("taken@example.com", "Another"), ("TAKEN@example.com", "Another"), ("new@a.org", "x" * 256)],
)
def test_a_refused_sign_up_leaves_nothing(
    auth: BetterAuth, owner: Connection, email: str, name: str
) -> None:
    if not rows(owner, """select from "user" where email = 'taken@example.com'"""):
        auth.sign_up("taken@example.com", "First", PHRASE)
    query = 'select * from "user" u left join account a on a."userId" = u.id order by u.id, a.id'
    before = rows(owner, query)
    answer = auth.post("/sign-up/email", {"email": email, "name": name, "password": OTHER_PHRASE})
    assert answer.status_code == 422
    assert rows(owner, query) == before


def test_of_four_sign_ups_at_once_one_succeeds(auth: BetterAuth, owner: Connection) -> None:
    def sign_up(number: int) -> int:
        body = {"email": "race@example.com", "name": str(number), "password": PHRASE}
        return auth.post("/sign-up/email", body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(sign_up, range(4))) == [200, 422, 422, 422]
    (user,) = rows(owner, """select id from "user" where email = 'race@example.com'""")
    assert count(owner, *user) == {
        **dict.fromkeys(OWNER, 0),
        '"user"': 1,
        "session": 1,
        "account": 1,
    }


def test_sign_in_and_out(auth: BetterAuth, owner: Connection) -> None:
    query = 'select token from session where "userId" = %s order by "createdAt"'
    first = auth.sign_up("grace@example.com", "Grace", PHRASE)
    user = auth.user_id(first)
    assert sign_in_status(auth, "grace@example.com", OTHER_PHRASE) == 401
    assert rows(owner, query, user) == [(first,)]

    second = auth.sign_in("GRACE@example.com", PHRASE)
    assert rows(owner, query, user) == [(first,), (second,)]
    listed = auth.get("/list-sessions", second).json()
    assert {session["token"] for session in listed} == {first, second}

    assert auth.post("/sign-out", token=first).json() == {"success": True}
    assert rows(owner, query, user) == [(second,)]
    assert auth.get("/get-session", first).json() is None
    assert auth.get("/list-sessions", first).status_code == 401
    assert auth.user_id(second) == user


def test_a_user_may_change_and_a_session_is_renewed(auth: BetterAuth, owner: Connection) -> None:
    token = auth.sign_up("john@example.com", "John", PHRASE)
    user = auth.user_id(token)
    assert auth.post("/update-user", {"name": "John von Neumann"}, token).status_code == 200
    query = 'select name, "updatedAt" > "createdAt" from "user" where id = %s'
    assert rows(owner, query, user) == [("John von Neumann", True)]

    owner.execute(
        """update session set "expiresAt" = now() + interval '1 day' where token = %s""", [token]
    )
    assert auth.user_id(token) == user
    query = """select "expiresAt" > now() + interval '6 days' from session where token = %s"""
    assert rows(owner, query, token) == [(True,)]


def test_a_token_is_what_a_backend_can_check(auth: BetterAuth, owner: Connection) -> None:
    session = auth.sign_up("alan@example.com", "Alan", PHRASE)
    token = auth.jwt(session)
    (key,) = auth.keys()
    assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
    assert "d" not in key  # the private part
    assert rows(owner, "select id from jwks") == [(key["kid"],)]
    assert jwt.get_unverified_header(token)["kid"] == key["kid"]
    claims = jwt.decode(
        token,
        jwt.PyJWK(key),
        algorithms=["EdDSA"],
        issuer=auth.base_url,
        audience=auth.base_url,
    )
    assert claims["sub"] == auth.user_id(session)
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert auth.get("/token").status_code == 401


def test_a_new_password_replaces_the_old_one(auth: BetterAuth, owner: Connection) -> None:
    email, hashed = "edsger@example.com", 'select password from account where "userId" = %s'
    token = auth.sign_up(email, "Edsger", PHRASE)
    user = auth.user_id(token)
    before = rows(owner, hashed, user)
    body = {"currentPassword": PHRASE, "newPassword": OTHER_PHRASE}
    assert auth.post("/change-password", body, token).status_code == 200
    ((after,),) = rows(owner, hashed, user)
    assert [(after,)] != before
    assert sign_in_status(auth, email, PHRASE) == 401
    auth.sign_in(email, OTHER_PHRASE)


def test_a_reset_link_works_once(auth: BetterAuth, owner: Connection) -> None:
    email = "barbara@example.com"
    user = auth.user_id(auth.sign_up(email, "Barbara", PHRASE))
    assert auth.post("/request-password-reset", {"email": email}).status_code == 200
    query = "select split_part(identifier, ':', 2) from verification where value = %s"
    ((link,),) = rows(owner, query, user)
    body = {"token": link, "newPassword": OTHER_PHRASE}
    assert auth.post("/reset-password", body).status_code == 200
    assert rows(owner, query, user) == []
    assert auth.post("/reset-password", body).status_code == 400
    assert sign_in_status(auth, email, PHRASE) == 401
    auth.sign_in(email, OTHER_PHRASE)


def test_who_is_deleted_leaves_nothing_and_others_keep_all(
    auth: BetterAuth, owner: Connection
) -> None:
    leaving = auth.sign_up("kurt@example.com", "Kurt", PHRASE)
    staying = auth.sign_up("emmy@example.com", "Emmy", PHRASE)
    gone, kept = auth.user_id(leaving), auth.user_id(staying)
    everything = dict.fromkeys(OWNER, 1)
    for user in gone, kept:
        owner.execute("insert into tasks (user_id, title) values (%s, 'Prove it')", [user])
        owner.execute(
            "with conversation as ("
            "insert into conversations (user_id) values (%s) returning user_id, id) "
            "insert into messages (user_id, conversation_id, role, content) "
            "select user_id, id, 'user', 'Is it complete?' from conversation",
            [user],
        )
        assert count(owner, user) == everything
    answer = auth.post("/delete-user", {"password": PHRASE}, leaving)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert count(owner, gone) == dict.fromkeys(OWNER, 0)
    assert count(owner, kept) == everything
    assert auth.get("/get-session", leaving).json() is None
    assert auth.user_id(staying) == kept
