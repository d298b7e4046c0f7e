"""The request schemas accept exactly what the database accepts, and tell the rule that it tells."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple

import psycopg
import pytest
import todo_schema as todo
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pydantic import BaseModel, ValidationError
from todo_schema import InvalidError, TaskCreate, TaskFilter, TaskUpdate
from todo_schema.errors import translate
from todo_schema.schemas import violations

from scripts.address import Address
from tests.schema.acting import ROWS, Connection, act_as, column, value

pytestmark = pytest.mark.row("R14")

Given = dict[str, Any]
Schema = type[BaseModel]

# What looks or counts otherwise than it is stored: every blank of Unicode, what looks blank and is
# not, combining and astral characters, and what PostgreSQL cannot hold.
BLANK = [chr(code) for code in range(0x110000) if not chr(code).strip()]
COMBINED, COMPOSED = "e\u0301", "\u00e9"
ODD = ["\0", "\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00"]
UNITS = ["x", " ", "\u3000", "\u200b", "\ufeff", "\U0001f600", COMBINED, COMPOSED, *ODD]

CHARACTERS = st.sampled_from([*BLANK, *"".join(UNITS)]) | st.characters()


def texts(most: int) -> SearchStrategy[str]:
    """Text of any characters, short or about as long as it may be."""
    long = st.builds(
        lambda length, unit, tail: (unit * (length - len(tail)) + tail)[:length],
        st.sampled_from([0, 1, most - 1, most, most + 1]),
        CHARACTERS,
        st.text(CHARACTERS, max_size=3),
    )
    return st.text(CHARACTERS, max_size=6) | long


def text_edges(most: int) -> list[str]:
    """The edges of a text's length and characters, each alone."""
    lengths = [(unit * most)[:size] for unit in UNITS for size in (1, 2, most, most + 1)]
    beside = [f"x{unit}" for unit in UNITS] + [f"{unit}x" for unit in UNITS]
    return ["", *BLANK, "".join(BLANK), "\ud7ff", "\ue000", "\U0010ffff", *beside, *lengths]


def numbered(count: int) -> list[str]:
    return [f"tag {n}" for n in range(count)]


TAGS = st.one_of(
    st.lists(texts(50) | st.none(), max_size=4),
    st.lists(st.text([*COMBINED, COMPOSED], max_size=2), max_size=4),
    st.integers(18, 22).map(numbered),
    st.builds(lambda n, last: [*numbered(n), last], st.integers(18, 21), texts(50) | st.none()),
)
TAG_EDGES: list[Any] = [
    *([tag] for tag in text_edges(50)),
    *map(numbered, (0, 19, 20, 21)),
    ["a", "b", "a"],
    ["a", "A", " a", "a "],
    [COMBINED, COMPOSED],
    [COMBINED, COMBINED],
    ["NULL", "null", "{}", ",", '"', "\\"],
    [None],
    ["a", None, None],
    # Several rules at once: the database tells the first of them.
    [None] * 21,
    ["\0"] * 21,
    ["\ud800", None],
    ["x" * 51] * 21,
]

# PostgreSQL reads other texts than these as dates too; what JSON calls a date is this form alone.
DAY_EDGES: list[Any] = [datetime.date.min, datetime.date.max, "0001-01-01", "9999-12-31"]
DAY_EDGES += ["2024-02-29", "2023-02-29", "0000-01-01", "2026-13-01", "", "2026-05-01\0"]


class Field(NamedTuple):
    """What a field is given: examples that are fine, its edges, and anything else."""

    fine: SearchStrategy[Any]
    edges: list[Any]
    others: SearchStrategy[Any]


def text(most: int) -> Field:
    return Field(st.text("abc", min_size=1, max_size=5), text_edges(most), texts(most))


def choice(*words: str) -> Field:
    """One of some words; also given what is none of them, and could be taken for one."""
    near = [each for word in words for each in (word.upper(), word.capitalize(), word[:-1])]
    near += [word + unit for word in words for unit in UNITS]
    return Field(st.sampled_from(words), [*words, *near, *UNITS], texts(20))


TASK = {
    "title": text(200),
    "description": text(1000),
    "status": choice("pending", "in_progress", "completed"),
    "priority": choice("low", "medium", "high"),
    "due_date": Field(st.dates(), DAY_EDGES, st.dates() | st.dates().map(str)),
    "tags": Field(st.just(["home"]), TAG_EDGES, TAGS),
}
CONVERSATION = {"title": text(200)}
MESSAGE = {"role": choice("user", "assistant"), "content": text(10000)}


class Case(NamedTuple):
    """A schema, and the statement that a request of it stands for."""

    schema: Schema
    table: str
    fields: dict[str, Field]
    changes: bool = False  # the row is there already


CASES = {
    case.schema.__name__: case
    for case in [
        Case(TaskCreate, "tasks", TASK),
        Case(TaskUpdate, "tasks", TASK, changes=True),
        Case(todo.ConversationCreate, "conversations", CONVERSATION),
        Case(todo.ConversationUpdate, "conversations", CONVERSATION, changes=True),
        Case(todo.MessageCreate, "messages", MESSAGE),
    ]
}


@st.composite
def inputs(draw: DrawFn, case: Case) -> Given:
    """Some fields, fine but for up to three that are anything: else few rows would be accepted."""
    fine = {name: each.fine for name, each in case.fields.items()}
    values = draw(st.fixed_dictionaries({}, optional=fine))
    for name in draw(st.lists(st.sampled_from(list(fine)), max_size=3)):
        each = case.fields[name]
        values[name] = draw(st.sampled_from(each.edges) | each.others | st.none())
    return values


def edges(case: Case) -> Iterator[Given]:
    """Each edge of each field in a row that is fine otherwise; each field null, and not given."""
    fine = {"title": "x", "role": "user", "content": "x"}
    base = {name: fine[name] for name in case.fields if name in fine and not case.changes}
    yield {}
    for name, each in case.fields.items():
        yield {other: base[other] for other in base if other != name}
        for edge in [*each.edges, None]:
            yield base | {name: edge}


@contextmanager
def application(address: Address) -> Iterator[Connection]:
    """A transaction of todo_app for Alice, who has a task and a conversation; rolled back."""
    with psycopg.connect(address.url) as connection:
        connection.execute(ROWS)
        act_as(connection, "todo_app", "alice")
        yield connection
        connection.rollback()


@pytest.fixture(scope="module")
def app(module_database: Address) -> Iterator[Connection]:
    with application(module_database) as connection:
        yield connection


def refusals(schema: Schema, values: Given) -> set[tuple[str | None, str]]:
    """Return the field and the rule of everything that a schema refuses."""
    try:
        schema.model_validate(values)
    except ValidationError as error:
        found = violations(error.errors())
        return {(str(place[0]) if place else None, rule) for place, rule, _ in found}
    return set()


def database_says(app: Connection, case: Case, values: Given) -> Given | Exception:
    """Return the row that a plain statement stores, or the error; nothing stays of either."""
    stored: Any = None
    try:
        with app.transaction(force_rollback=True):
            stored = app.execute(statement(case, values), [*values.values()]).fetchone()
    except (psycopg.Error, UnicodeEncodeError) as error:
        return error
    return dict(zip(case.fields, stored, strict=True))


def statement(case: Case, values: Given) -> str:
    """The INSERT or UPDATE of what was given; a SELECT where there is nothing to change."""
    casts = {"tags": "::text[]", "due_date": "::date"}
    given = {name: f"%s{casts.get(name, '')}" for name in values}
    columns = ", ".join(case.fields)
    if not case.changes:
        row = given | {"user_id": "'alice'"}
        row |= {"conversation_id": "9001"} if case.table == "messages" else {}
        rows = f"({', '.join(row)}) values ({', '.join(row.values())})"
        return f"insert into {case.table} {rows} returning {columns}"
    this = "where user_id = 'alice' and id = 9001"
    if not values:
        return f"select {columns} from {case.table} {this}"
    pairs = ", ".join(f"{name} = {holder}" for name, holder in given.items())
    return f"update {case.table} set {pairs} {this} returning {columns}"


def compare(app: Connection, case: Case, values: Given) -> str:
    """Compare what the two say of an input; return what the database refused it by, or `stored`."""
    told = refusals(case.schema, values)
    found = database_says(app, case, values)
    if isinstance(found, dict):
        assert not told
        request: Any = case.schema.model_validate(values)
        before = database_says(app, case, {}) if case.changes else request.model_dump()
        assert found == {name: (before | request.given())[name] for name in case.fields}
        return "stored"
    error = translate(found)
    assert isinstance(error, InvalidError)
    if error.field is not None:
        assert (error.field, error.rule) in told
    elif error.rule == "characters":
        # The driver cannot send it and tells no field; what is not just text has a rule before it.
        assert told & {
            *((name, "characters") for name in case.fields),
            *((name, "choice") for name in ("status", "priority", "role")),
            ("due_date", "type"),
        }
    else:
        assert error.rule in {rule for _, rule in told}
    if isinstance(found, psycopg.Error) and found.sqlstate:
        diag = found.diag
        return diag.constraint_name or diag.column_name or type(found).__name__
    return type(found).__name__


def agree(app: Connection, case: Case, **options: Any) -> set[str]:
    """Try a schema's edges and other inputs; return all that inputs were refused by."""
    met = set()

    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck), **options)
    @given(inputs(case))
    def same(values: Given) -> None:
        met.add(compare(app, case, values))

    for edge in edges(case):
        same = example(edge)(same)
    same()
    return met


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_schema_accepts_what_the_database_accepts(app: Connection, case: Case) -> None:
    met = agree(app, case, derandomize=True, max_examples=100)
    query = """
    select conname from pg_constraint
    where contype = 'c' and conrelid = %(table)s::regclass
        -- No date of Python's, and no list of texts, can break these.
        and conname not in ('tasks_due_date_check', 'tasks_tags_shape_check')
    union all
    select attname from pg_attribute
    where attnotnull and attrelid = %(table)s::regclass and attname = any(%(fields)s)
    """
    rules = column(app, query, {"table": case.table, "fields": [*case.fields]})
    others = {"stored", "DataError", "UnicodeEncodeError"}
    if "due_date" in case.fields:
        others |= {"DatetimeFieldOverflow", "InvalidDatetimeFormat"}
    # It says nothing where the inputs miss a rule.
    assert met == {*rules, *others}


TASKS = [TaskCreate, TaskUpdate, TaskFilter]
REQUESTS: list[Schema] = [*(case.schema for case in CASES.values()), TaskFilter]
FINE: dict[Schema, Given] = {
    TaskCreate: {"title": "x"},
    todo.MessageCreate: {"role": "user", "content": "x"},
}


def told(schema: Schema, values: Given) -> set[tuple[str | None, str]]:
    """Return what a schema refuses of values that are fine otherwise."""
    return refusals(schema, FINE.get(schema, {}) | values)


@pytest.mark.parametrize("schema", REQUESTS)
def test_a_field_that_does_not_exist_is_refused(schema: Schema) -> None:
    assert not told(schema, {})
    for name in ("user_id", "id", "created_at", "nonsense", "x" * 100):
        assert told(schema, {name: "x"}) == {(name, "unknown")}
    # A name may be what somebody sent.
    assert told(schema, {"x" * 1000: "x"}) == {("x" * 100, "unknown")}
    assert told(schema, {"\ud800": "x"}) == {(None, "characters")}


# PostgreSQL would take some of these by a cast, which the application never asks for.
OTHER_TYPES: dict[str, list[Any]] = {
    "title": [1, ["x"]],
    "description": [False],
    "tags": ["home", {"home": 1}, [1], [["home"]]],
    "due_date": [
        *(0, 1, -1, 1746057600, 1.5, True, "0", "1746057600", "20260501", b"2026-05-01"),
        *("today", "2026-05-01T00:00:00Z", datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)),
    ],
    "completed": [2],
}


@pytest.mark.parametrize("schema", TASKS)
@pytest.mark.parametrize("name", OTHER_TYPES)
def test_another_type_is_refused(schema: Schema, name: str) -> None:
    wanted = (name, "type" if name in schema.model_fields else "unknown")
    for odd in OTHER_TYPES[name]:
        assert told(schema, {name: odd}) == {wanted}, odd


@pytest.mark.parametrize("schema", TASKS)
def test_completed_may_say_again_what_the_status_says(schema: Schema) -> None:
    for completed, status in product([True, False], ["pending", "in_progress", "completed"]):
        assert not told(schema, {"completed": completed})
        agrees = completed == (status == "completed")
        found = told(schema, {"status": status, "completed": completed})
        assert found == (set() if agrees else {(None, "contradiction")})
    assert TaskCreate(title="x", completed=True).completed is True
    assert not told(TaskCreate, {"completed": None, "status": "completed"})


def test_what_was_not_given_is_not_null() -> None:
    for values in ({}, {"description": None, "due_date": None}):
        assert TaskUpdate(**values).given() == values
    for values in ({}, {"title": None}):
        assert todo.ConversationUpdate(**values).given() == values


def test_an_error_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        TaskCreate(title="secret" * 100, tags=["secret"] * 2, status="secret")
    assert "secret" not in str(caught.value)
    assert "secret" not in str([*violations(caught.value.errors())])


PUBLIC = [each for each in vars(todo).values() if isinstance(each, type(BaseModel))]


@pytest.mark.parametrize("schema", [each for each in PUBLIC if not hasattr(each, "__table__")])
def test_every_schema_has_examples_that_validate(schema: Schema) -> None:
    examples = schema.model_json_schema(mode="serialization")["examples"]
    assert examples
    for each in examples:
        parsed = schema.model_validate_json(json.dumps(each))
        assert json.loads(parsed.model_dump_json(exclude_unset=True)) == each


def bounds(text: str, function: str) -> tuple[int, int]:
    """Return the least and the most that a CHECK lets a function's result be."""
    call = re.escape(function) + r"\([^()]*\)"
    least, most = (re.findall(rf"{call} {sign} (\d+)", text) for sign in (">=", "<="))
    assert len(most) == 1
    return int((least or [0])[0]), int(most[0])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_json_schema_has_the_limits_of_the_database(app: Connection, case: Case) -> None:
    query = "select conname, pg_get_constraintdef(oid) from pg_constraint where contype = 'c'"
    rules = dict(app.execute(query).fetchall())
    properties = case.schema.model_json_schema()["properties"]
    for name in case.fields:
        here = properties[name]
        here |= here.get("anyOf", [{}])[0]  # the other is null
        rule = f"{case.table}_{name}"
        if name == "tags":
            tag = value(app, "select pg_get_functiondef('tags_are_valid'::regproc)")
            assert here["maxItems"] == bounds(rules[f"{rule}_count_check"], "cardinality")[1]
            assert here["items"]["maxLength"] == bounds(tag, "char_length")[1]
            assert (here["items"]["minLength"], here["uniqueItems"]) == (1, True)
        elif "enum" in here:
            assert set(here["enum"]) == set(re.findall(r"'(\w+)'::text", rules[f"{rule}_check"]))
        elif name != "due_date":
            limits = (here["minLength"], here["maxLength"])
            assert limits == bounds(rules[f"{rule}_length_check"], "char_length")


@pytest.mark.parametrize("schema", REQUESTS)
def test_a_default_that_clients_are_told_may_be_sent(schema: Schema) -> None:
    for name, each in schema.model_json_schema()["properties"].items():
        if "default" in each:
            assert not told(schema, {name: each["default"]})
