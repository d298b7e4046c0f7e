"""The tables of accounts have the columns that Better Auth wants, exactly."""

from __future__ import annotations

import pytest

from tests.schema.acting import Connection, column

# "type?": nullable; "type=": with a default. From Better Auth's schema for e-mail and password,
# JWT and bearer tokens. It refuses, when it runs, a missing column and another one that is NOT NULL
# without a default; it notices neither types nor nullability, so this test does.
COLUMNS = {
    "user": {
        "id": "text",
        "name": "text",
        "email": "text",
        "emailVerified": "boolean=",
        "image": "text?",
        "createdAt": "timestamptz=",
        "updatedAt": "timestamptz=",
    },
    "session": {
        "id": "text",
        "expiresAt": "timestamptz",
        "token": "text",
        "createdAt": "timestamptz=",
        "updatedAt": "timestamptz",
        "ipAddress": "text?",
        "userAgent": "text?",
        "userId": "text",
    },
    "account": {
        "id": "text",
        "accountId": "text",
        "providerId": "text",
        "userId": "text",
        "accessToken": "text?",
        "refreshToken": "text?",
        "idToken": "text?",
        "accessTokenExpiresAt": "timestamptz?",
        "refreshTokenExpiresAt": "timestamptz?",
        "scope": "text?",
        "password": "text?",  # pragma: allowlist secret
        "createdAt": "timestamptz=",
        "updatedAt": "timestamptz",
    },
    "verification": {
        "id": "text",
        "identifier": "text",
        "value": "text",
        "expiresAt": "timestamptz",
        "createdAt": "timestamptz=",
        "updatedAt": "timestamptz=",
    },
    "jwks": {
        "id": "text",
        "publicKey": "text",
        "privateKey": "text",  # pragma: allowlist secret
        "createdAt": "timestamptz=",
        "expiresAt": "timestamptz?",
        "alg": "text?",
        "crv": "text?",
    },
}


@pytest.mark.row("R1")
@pytest.mark.parametrize("table", COLUMNS)
def test_columns(owner: Connection, table: str) -> None:
    columns = owner.execute(
        """
        select
            attname,
            replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz')
            || case when attnotnull then '' else '?' end
            || case when atthasdef then '=' else '' end
        from pg_attribute
        where attrelid = quote_ident(%s)::regclass and attnum > 0 and not attisdropped
        """,
        [table],
    ).fetchall()
    assert dict(columns) == COLUMNS[table]


@pytest.mark.row("R1", "R6")
@pytest.mark.parametrize(
    ("table", "leading"),
    [
        ("user", ["email"]),
        ("session", ["token"]),
        ("session", ["userId", "expiresAt"]),
        ("account", ["userId"]),
        ("account", ["providerId", "accountId"]),
        ("verification", ["identifier", "createdAt"]),
        ("verification", ["expiresAt"]),
    ],
)
def test_each_of_its_searches_has_an_index(
    owner: Connection, table: str, leading: list[str]
) -> None:
    indexes = column(
        owner,
        """
        select array_agg(attname::text order by position)
        from pg_index
        cross join unnest(indkey::int2[]) with ordinality as key (number, position)
        join pg_attribute on attrelid = indrelid and attnum = number
        where indrelid = quote_ident(%s)::regclass and indisvalid and indpred is null
        group by indexrelid
        """,
        [table],
    )
    assert leading in [names[: len(leading)] for names in indexes]


@pytest.mark.row("R1", "R8")
def test_ids_compare_by_bytes_everywhere(owner: Connection) -> None:
    others = column(
        owner,
        """
        select attrelid::regclass || '.' || attname from pg_attribute
        where
            attrelid in (
                select oid from pg_class
                where relkind = 'r' and relnamespace = 'public'::regnamespace
            )
            and attname in ('id', 'user_id', 'userId') and atttypid = 'text'::regtype
            and attcollation <> '"C"'::regcollation
            and attrelid::regclass::text not like '%yoyo%'
        """,
    )
    assert others == []
