"""What the catalog must say: columns, privileges, policies, and the rules without exception."""

from __future__ import annotations

import pytest
from psycopg.errors import InsufficientPrivilege

from scripts.runner.files import read_migrations
from scripts.settings import project
from tests.schema.acting import Connection, act_as, column, refused, value

# The runner's and yoyo's tables are not of this schema.
OURS = """
    relnamespace = 'public'::regnamespace and relkind = 'r'
    and relname not like '%yoyo%' and relname <> 'migration_history'
"""

# A "?" admits NULL. The first five are Better Auth's, for e-mail and password, JWT and bearer
# tokens. It refuses, when it runs, a missing column and another one that is NOT NULL without a
# default; it notices neither types nor nullability, so this does.
COLUMNS = {
    "user": """
        id text, name text, email text, emailVerified boolean = false, image text?,
        createdAt timestamptz = now(), updatedAt timestamptz = now()
    """,
    "session": """
        id text, expiresAt timestamptz, token text, createdAt timestamptz = now(),
        updatedAt timestamptz, ipAddress text?, userAgent text?, userId text
    """,
    "account": """
        id text, accountId text, providerId text, userId text, accessToken text?,
        refreshToken text?, idToken text?, accessTokenExpiresAt timestamptz?,
        refreshTokenExpiresAt timestamptz?, scope text?, password text?,
        createdAt timestamptz = now(), updatedAt timestamptz
    """,
    "verification": """
        id text, identifier text, value text, expiresAt timestamptz,
        createdAt timestamptz = now(), updatedAt timestamptz = now()
    """,
    "jwks": """
        id text, publicKey text, privateKey text, createdAt timestamptz = now(),
        expiresAt timestamptz?, alg text?, crv text?
    """,
    "tasks": """
        user_id text, id bigint identity, created_at timestamptz = now(), due_date date?,
        title text, description text?, tags text[] = '{}', priority text = 'medium',
        priority_rank smallint generated, updated_at timestamptz = now(), status text = 'pending',
        completed boolean generated
    """,
    "task_search": "user_id text, task_id bigint, words text",
    "conversations": """
        user_id text, id bigint identity, title text?, created_at timestamptz = now(),
        updated_at timestamptz = now()
    """,
    "messages": """
        user_id text, id bigint identity, conversation_id bigint, role text, content text,
        created_at timestamptz = now()
    """,
}

# Who may what on what; with a privilege after it, on which columns of it.
GRANTS = {
    # What Better Auth's flows need; whole tables, since it sends `select *` and `returning *`.
    "todo_auth user": "SELECT INSERT UPDATE DELETE",
    "todo_auth session": "SELECT INSERT UPDATE DELETE",
    "todo_auth account": "SELECT INSERT UPDATE DELETE",
    "todo_auth verification": "SELECT INSERT DELETE",
    "todo_auth jwks": "SELECT INSERT",
    "todo_auth schema_version()": "EXECUTE",
    "todo_readonly user": "SELECT",
    "todo_readonly tasks": "SELECT",
    "todo_readonly task_search": "SELECT",
    "todo_readonly conversations": "SELECT",
    "todo_readonly messages": "SELECT",
    "todo_readonly schema_version()": "EXECUTE",
    "todo_app user": "SELECT",
    "todo_app tasks": "SELECT DELETE",
    "todo_app tasks INSERT": "user_id title description status priority due_date tags",
    "todo_app tasks UPDATE": "title description status priority due_date tags",
    "todo_app task_search": "SELECT",
    "todo_app task_search INSERT": "user_id task_id words",
    "todo_app task_search UPDATE": "words",
    "todo_app conversations": "SELECT DELETE",
    "todo_app conversations INSERT": "user_id title",
    "todo_app conversations UPDATE": "title updated_at",
    "todo_app messages": "SELECT DELETE",
    "todo_app messages INSERT": "user_id conversation_id role content",
    "todo_app schema_version()": "EXECUTE",
    "todo_app set_tenant(text)": "EXECUTE",
    "todo_app tags_are_valid(text[])": "EXECUTE",
    "- public": "USAGE",
}
for reader in ("todo_app", "todo_readonly"):
    GRANTS |= {
        f"{reader} {function}": "EXECUTE"
        for function in (
            "task_vector(text,text)",
            "search_words(tsvector)",
            "search_query(text)",
            "search_patterns(tsquery)",
        )
    }

OWN = "= NULLIF(current_setting('app.user_id'::text, true), ''::text))"
POLICIES = {
    ("user", "user_self_select", "SELECT", "todo_app", f"(id {OWN}"),
    ("user", "user_auth_all", "ALL", "todo_auth", "true"),
    ("user", "user_readonly_select", "SELECT", "todo_readonly", "true"),
}
for tenant in ("tasks", "task_search", "conversations", "messages"):
    POLICIES |= {
        (tenant, f"{tenant}_owner_all", "ALL", "todo_app", f"(user_id {OWN}"),
        (tenant, f"{tenant}_readonly_select", "SELECT", "todo_readonly", "true"),
    }

# Each query finds what breaks its rule.
RULES = {
    "every table and column has a comment": f"""
        select format('%s.%s', oid::regclass, attname) from pg_class
        left join pg_attribute on attrelid = oid and attnum > 0 and not attisdropped
        where
            {OURS} and (
                obj_description(oid, 'pg_class') is null
                or col_description(oid, attnum) is null
            )
    """,
    "every function has a comment and a fixed meaning": """
        select oid::regprocedure from pg_proc
        where
            pronamespace = 'public'::regnamespace and (
                obj_description(oid, 'pg_proc') is null
                or (prosqlbody is null and proconfig is distinct from array['search_path=""'])
            )
    """,
    "only the version runs with its owner's rights": """
        select proname from pg_proc
        where
            pronamespace = 'public'::regnamespace and prosecdef <> (proname = 'schema_version')
    """,
    "every trigger is enabled": "select tgname from pg_trigger where tgenabled <> 'O'",
    "every foreign key cascades, at once": """
        select conname from pg_constraint
        where
            contype = 'f' and connamespace = 'public'::regnamespace
            and (confdeltype <> 'c' or condeferrable)
    """,
    "every foreign key leads an index": """
        select conname from pg_constraint
        where contype = 'f' and connamespace = 'public'::regnamespace and not exists (
            select from pg_index
            where
                indrelid = conrelid and indpred is null and indisvalid
                and (indkey::int2[])[0:cardinality(conkey) - 1] = conkey
        )
    """,
    "ids compare by bytes everywhere": f"""
        select attrelid::regclass || '.' || attname from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where
            {OURS} and attname in ('id', 'user_id', 'userId') and atttypid = 'text'::regtype
            and attcollation <> '"C"'::regcollation
    """,
    "row security is forced where a row is a user's": f"""
        select relname from pg_class
        where {OURS} and not (relrowsecurity and relforcerowsecurity) and (
            relname = 'user' or exists (
                select from pg_attribute where attrelid = pg_class.oid and attname = 'user_id'
            )
        )
    """,
    "the roles have no powers, and none of another role": """
        select rolname from pg_roles
        where starts_with(rolname, 'todo_') and rolname <> current_user and (
            rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication
            or exists (select from pg_auth_members where member = pg_roles.oid)
        )
    """,
}


@pytest.mark.row("R4", "R5", "R6", "R7", "R8")
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_without_exception(empty: Connection, rule: str) -> None:
    assert column(empty, RULES[rule]) == []


@pytest.mark.row("R1", "R2", "R3", "R4")
def test_columns(empty: Connection) -> None:
    columns = empty.execute(
        f"""
        select relname, string_agg(
            format(
                '%s %s%s%s',
                attname,
                format_type(atttypid, atttypmod),
                case when not attnotnull then '?' end,
                case
                    when attidentity = 'a' then ' identity'
                    when attgenerated = 's' then ' generated'
                    else ' = ' || regexp_replace(pg_get_expr(adbin, adrelid), '::.*', '')
                end
            ),
            ', ' order by attnum
        )
        from pg_class
        join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where {OURS}
        group by relname
        """
    ).fetchall()
    expected = {
        table: " ".join(text.split()).replace("timestamptz", "timestamp with time zone")
        for table, text in COLUMNS.items()
    }
    assert dict(columns) == expected


@pytest.mark.row("R1", "R6")
@pytest.mark.parametrize(
    "search",
    [
        'session USING btree ("userId", "expiresAt")',
        'verification USING btree (identifier, "createdAt")',
        'verification USING btree ("expiresAt")',
    ],
)
def test_each_search_of_better_auth_by_no_key_has_an_index(empty: Connection, search: str) -> None:
    indexes = column(empty, "select pg_get_indexdef(indexrelid) from pg_index where indisvalid")
    assert [index for index in indexes if index.endswith(search)]


@pytest.mark.row("R5", "R7")
def test_privileges(empty: Connection) -> None:
    granted = empty.execute(
        f"""
        with acl (owner, object, item) as (
            select relowner, relname, aclexplode(relacl) from pg_class
            where relnamespace = 'public'::regnamespace and relkind <> 'r' or {OURS}
            union all
            select
                proowner,
                oid::regprocedure::text,
                aclexplode(coalesce(proacl, acldefault('f', proowner)))
            from pg_proc
            where pronamespace = 'public'::regnamespace
            union all
            select nspowner, nspname, aclexplode(nspacl) from pg_namespace where nspname = 'public'
        ), on_columns as (
            select relowner, relname, attname, aclexplode(attacl) as item from pg_attribute
            join pg_class on pg_class.oid = attrelid
            where {OURS}
        ), words (owner, grantee, object, word) as (
            select owner, (item).grantee, object, (item).privilege_type from acl
            union all
            select relowner, (item).grantee, relname || ' ' || (item).privilege_type, attname
            from on_columns
        )
        select grantee::regrole || ' ' || object, array_agg(word) from words
        where grantee <> owner
        group by 1
        """
    )
    expected = {name: set(words.split()) for name, words in GRANTS.items()}
    assert {name: set(words) for name, words in granted} == expected


@pytest.mark.row("R7")
def test_policies(empty: Connection) -> None:
    policies = empty.execute(
        """
        select tablename, policyname, cmd, array_to_string(roles, ' '), qual from pg_policies
        where schemaname = 'public' and permissive = 'PERMISSIVE' and with_check is null
        """
    ).fetchall()
    assert set(policies) == POLICIES
    assert value(empty, "select count(*) from pg_policies") == len(policies)


@pytest.mark.row("R9")
@pytest.mark.parametrize("role", ["todo_app", "todo_auth", "todo_readonly"])
def test_every_role_may_ask_for_the_version(empty: Connection, role: str) -> None:
    act_as(empty, role)
    newest = read_migrations(project().migrations)[-1].id
    assert value(empty, "select schema_version()") == newest
    with refused(empty, InsufficientPrivilege):
        empty.execute("select from _yoyo_migration")
