"""The request schemas accept exactly what the database accepts, and tell the rule that it tells."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

import psycopg
import pytest
import todo_schema
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from psycopg import sql
from pydantic import BaseModel, ValidationError
from todo_schema import (
    ConversationCreate,
    ConversationUpdate,
    InvalidError,
    MessageCreate,
    Page,
    Slice,
    Status,
    TaskCreate,
    TaskFilter,
    TaskRead,
    TaskUpdate,
)
from todo_schema.errors import translate
from todo_schema.schemas import violations

from scripts.address import Address
from tests.schema.acting import ROWS, Connection, act_as, column, value

pytestmark = pytest.mark.row("R14")

Given = dict[str, Any]
Told = tuple[str | None, str]

# What looks or counts otherwise than it is stored: every blank of Unicode, what looks blank and is
# not, combining and astral characters, and what PostgreSQL cannot hold.
BLANK = [chr(code) for code in range(0x110000) if not chr(code).strip()]
COMBINED, COMPOSED = "e\u0301", "\u00e9"
ODD = ["\0", "\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00"]
UNITS = ["x", " ", "\u3000", "\u200b", "\ufeff", "\U0001f600", COMBINED, COMPOSED, *ODD]

CHARACTERS = st.sampled_from([*BLANK, *"".join(UNITS)]) | st.characters()


def texts(most: int) -> SearchStrategy[str]:
    """Text of any characters, short or about as long as it may be."""
    lengths = st.sampled_from([0, 1, most - 1, most, most + 1])

    @st.composite
    def long(draw: DrawFn) -> str:
        length, unit, tail = draw(lengths), draw(CHARACTERS), draw(st.text(CHARACTERS, max_size=3))
        return (unit * (length - len(tail)) + tail)[:length]

    return st.text(CHARACTERS, max_size=6) | long()


def text_edges(most: int) -> list[str]:
    """The edges of a text's length and characters, each alone."""
    lengths = [(unit * most)[:size] for unit in UNITS for size in (1, 2, most, most + 1)]
    beside = [f"x{unit}" for unit in UNITS] + [f"{unit}x" for unit in UNITS]
    return ["", *BLANK, "".join(BLANK), "\ud7ff", "\ue000", "\U0010ffff", *beside, *lengths]


def nearly(word: str) -> list[str]:
    """Text that is not a word, and could be taken for it."""
    return [word.upper(), word.capitalize(), word[:-1], *(word + each for each in UNITS)]


TAGS = st.one_of(
    st.lists(texts(50) | st.none(), max_size=4),
    st.lists(st.text([*COMBINED, COMPOSED], max_size=2), max_size=4),
    st.integers(18, 22).map(lambda count: [f"tag {n}" for n in range(count)]),
    st.tuples(st.integers(18, 21), texts(50) | st.none()).map(
        lambda drawn: [*(f"tag {n}" for n in range(drawn[0])), drawn[1]]
    ),
)
TAG_EDGES: list[Any] = [
    [],
    *([f"tag {n}" for n in range(count)] for count in (19, 20, 21)),
    *([tag] for tag in text_edges(50)),
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
DAYS = st.dates() | st.dates().map(str)
DAY_EDGES: list[Any] = [datetime.date.min, datetime.date.max, "0001-01-01", "9999-12-31"]
DAY_EDGES += ["2024-02-29", "2023-02-29", "0000-01-01", "2026-13-01", "", "2026-05-01\0"]


@dataclass(frozen=True)
class Field:
    """What a field is given: examples that are fine, anything, and its edges."""

    fine: SearchStrategy[Any]
    wild: SearchStrategy[Any]
    edges: list[Any]

    @classmethod
    def text(cls, most: int) -> Field:
        return cls(st.text("abc", min_size=1, max_size=5), texts(most), text_edges(most))

    @classmethod
    def choice(cls, *words: str) -> Field:
        near = [each for word in words for each in nearly(word)]
        wild = st.sampled_from([*words, *near]) | texts(20)
        return cls(st.sampled_from(words), wild, [*words, *near, *UNITS])


TASK = {
    "title": Field.text(200),
    "description": Field.text(1000),
    "status": Field.choice("pending", "in_progress", "completed"),
    "priority": Field.choice("low", "medium", "high"),
    "due_date": Field(st.dates(), DAYS, DAY_EDGES),
    "tags": Field(st.just(["home"]), TAGS, TAG_EDGES),
}
CONVERSATION = {"title": Field.text(200)}
MESSAGE = {"role": Field.choice("user", "assistant"), "content": Field.text(10000)}


@dataclass(frozen=True)
class Case:
    """A schema, and the statement that a request of it stands for.

    Parameters
    ----------
    schema : the schema
    table : where the row is
    fields : what is given
    changes : the row is there already
    fixed : what the row has besides, and of what the schema says nothing
    """

    schema: type[BaseModel]
    table: str
    fields: dict[str, Field]
    changes: bool = False
    fixed: Given = field(default_factory=dict)


CASES = {
    case.schema.__name__: case
    for case in [
        Case(TaskCreate, "tasks", TASK),
        Case(TaskUpdate, "tasks", TASK, changes=True),
        Case(ConversationCreate, "conversations", CONVERSATION),
        Case(ConversationUpdate, "conversations", CONVERSATION, changes=True),
        Case(MessageCreate, "messages", MESSAGE, fixed={"conversation_id": 9001}),
    ]
}


def inputs(case: Case) -> SearchStrategy[Given]:
    """Some fields, fine but for up to three that are anything: else few rows would be accepted."""
    fine = {name: each.fine for name, each in case.fields.items()}

    @st.composite
    def some(draw: DrawFn) -> Given:
        values = draw(st.fixed_dictionaries({}, optional=fine))
        for name in draw(st.lists(st.sampled_from(list(fine)), max_size=3)):
            values[name] = draw(case.fields[name].wild | st.none())
        return values

    return some()


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


def schema_says(case: Case, values: Given) -> tuple[Given, set[Told]]:
    """Return what was given as the schema has it, or what it refuses."""
    try:
        request: Any = case.schema.model_validate(values)
    except ValidationError as error:
        told = violations(error.errors())
        return {}, {(str(place[0]) if place else None, rule) for place, rule, _ in told}
    return request.given() if case.changes else request.model_dump(include=set(case.fields)), set()


def database_says(app: Connection, case: Case, values: Given) -> Given | Exception:
    """Return the row that a plain statement stores, or the error; nothing stays of either."""
    stored: Any = None
    try:
        with app.transaction(force_rollback=True):
            columns = sql.SQL(", ").join(map(sql.Identifier, case.fields))
            stored = app.execute(statement(case, values, columns), [*values.values()]).fetchone()
    except (psycopg.Error, UnicodeEncodeError) as error:
        return error
    return dict(zip(case.fields, stored, strict=True))


def statement(case: Case, values: Given, columns: sql.Composable) -> sql.Composed:
    """The INSERT or UPDATE of what was given; a SELECT where there is nothing to change."""
    table = sql.Identifier(case.table)
    names = [*map(sql.Identifier, values)]
    holders = [
        sql.SQL("%s::text[]" if name == "tags" else "%s::date" if name == "due_date" else "%s")
        for name in values
    ]
    if not case.changes:
        names += map(sql.Identifier, ["user_id", *case.fixed])
        holders += map(sql.Literal, ["alice", *case.fixed.values()])
        return sql.SQL("insert into {} ({}) values ({}) returning {}").format(
            table, sql.SQL(", ").join(names), sql.SQL(", ").join(holders), columns
        )
    row = sql.SQL("where user_id = 'alice' and id = 9001")
    if not values:
        return sql.SQL("select {} from {} {}").format(columns, table, row)
    pairs = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(*pair) for pair in zip(names, holders, strict=True)
    )
    return sql.SQL("update {} set {} {} returning {}").format(table, pairs, row, columns)


def compare(app: Connection, case: Case, values: Given) -> str:
    """Compare what the two say of an input; return what the database refused it by, or `stored`."""
    request, told = schema_says(case, values)
    found = database_says(app, case, values)
    if isinstance(found, dict):
        assert not told
        before = database_says(app, case, {}) if case.changes else {}
        assert isinstance(before, dict)
        assert found == before | request
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
    rules = column(
        app,
        """
        select conname from pg_constraint
        where contype = 'c' and conrelid = %s::regclass
            -- No date of Python's, and no list of texts, can break these.
            and conname not in ('tasks_due_date_check', 'tasks_tags_shape_check')
        """,
        [case.table],
    )
    required = column(
        app,
        """
        select attname from pg_attribute
        where attnotnull and attrelid = %s::regclass and attname = any(%s)
        """,
        [case.table, [*case.fields]],
    )
    others = {"stored", "DataError", "UnicodeEncodeError"}
    if "due_date" in case.fields:
        others |= {"DatetimeFieldOverflow", "InvalidDatetimeFormat"}
    # It says nothing where the inputs miss a rule.
    assert met == {*rules, *required, *others}


REQUESTS: list[type[BaseModel]] = [*(case.schema for case in CASES.values()), TaskFilter]
FINE: dict[type[BaseModel], Given] = {
    TaskCreate: {"title": "x"},
    MessageCreate: {"role": "user", "content": "x"},
}


def told(schema: type[BaseModel], values: Given) -> set[Told]:
    """Return what a schema refuses of values that are fine otherwise."""
    case = Case(schema, "", {})
    return schema_says(case, FINE.get(schema, {}) | values)[1]


@pytest.mark.parametrize("schema", REQUESTS)
def test_a_field_that_does_not_exist_is_refused(schema: type[BaseModel]) -> None:
    assert not told(schema, {})
    for name in ("user_id", "id", "created_at", "nonsense", "x" * 100):
        assert told(schema, {name: "x"}) == {(name, "unknown")}
    # A name may be what somebody sent.
    assert told(schema, {"x" * 1000: "x"}) == {("x" * 100, "unknown")}
    assert told(schema, {"\ud800": "x"}) == {(None, "characters")}


@pytest.mark.parametrize("schema", [TaskCreate, TaskUpdate, TaskFilter])
@pytest.mark.parametrize(
    "number", [0, 1, -1, 1746057600, 1.5, True, "0", "1746057600", "20260501", b"2026-05-01"]
)
def test_a_number_is_no_date(schema: type[BaseModel], number: Any) -> None:
    assert told(schema, {"due_date": number}) == {("due_date", "type")}


# PostgreSQL would take some of these by a cast, which the application never asks for.
@pytest.mark.parametrize(
    ("name", "odd"),
    [
        ("title", 1),
        ("title", ["x"]),
        ("description", False),
        ("tags", "home"),
        ("tags", {"home": 1}),
        ("tags", [1]),
        ("tags", [["home"]]),
        ("due_date", datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)),
        ("due_date", "2026-05-01T00:00:00Z"),
        ("due_date", "today"),
        ("completed", 2),
    ],
)
def test_another_type_is_refused(name: str, odd: Any) -> None:
    for schema in (TaskCreate, TaskUpdate):
        assert told(schema, {name: odd}) == {(name, "type")}


@pytest.mark.parametrize("schema", [TaskCreate, TaskUpdate, TaskFilter])
@pytest.mark.parametrize("completed", [True, False])
def test_completed_may_say_again_what_the_status_says(
    schema: type[BaseModel], completed: bool
) -> None:
    assert not told(schema, {"completed": completed})
    for status in get_args(Status):
        agrees = completed == (status == "completed")
        found = told(schema, {"status": status, "completed": completed})
        assert found == (set() if agrees else {(None, "contradiction")})


def test_a_default_status_does_not_contradict() -> None:
    assert TaskCreate(title="x", completed=True).completed is True
    assert not told(TaskCreate, {"completed": None, "status": "completed"})


def test_what_was_not_given_is_not_null() -> None:
    assert TaskUpdate().given() == {}
    assert TaskUpdate(description=None, due_date=None).given() == {
        "description": None,
        "due_date": None,
    }
    assert ConversationUpdate().given() == {}
    assert ConversationUpdate(title=None).given() == {"title": None}


def test_an_error_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        TaskCreate(title="secret" * 100, tags=["secret"] * 2, status="secret")  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)
    assert "secret" not in str([*violations(caught.value.errors())])


def public_schemas() -> dict[str, type[BaseModel]]:
    """Every schema that applications import; the generic ones of something."""
    public = {name: getattr(todo_schema, name) for name in todo_schema.__all__}
    found = {
        name: each
        for name, each in public.items()
        if isinstance(each, type) and issubclass(each, BaseModel) and not hasattr(each, "__table__")
    }
    return found | {"Slice": Slice[TaskRead], "Page": Page[TaskRead]}


@pytest.mark.parametrize("name", public_schemas())
def test_every_schema_has_examples_that_validate(name: str) -> None:
    schema = public_schemas()[name]
    examples = schema.model_json_schema(mode="serialization")["examples"]
    assert examples
    for each in examples:
        parsed = schema.model_validate_json(json.dumps(each))
        assert json.loads(parsed.model_dump_json(exclude_unset=True)) == each


def described(schema: type[BaseModel], name: str) -> Given:
    """Return the JSON schema of a field, without null."""
    found: Given = schema.model_json_schema()["properties"][name]
    return found["anyOf"][0] | found if "anyOf" in found else found


def definition(app: Connection, name: str) -> str:
    query = "select pg_get_constraintdef(oid) from pg_constraint where conname = %s"
    return str(value(app, query, [name]))


def bounds(text: str, function: str) -> tuple[int, int]:
    """Return the least and the most that a CHECK lets a function's result be."""
    call = re.escape(function) + r"\([^()]*\)"
    least, most = (re.findall(rf"{call} {sign} (\d+)", text) for sign in (">=", "<="))
    assert len(most) == 1
    return int((least or [0])[0]), int(most[0])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_json_schema_has_the_limits_of_the_database(app: Connection, case: Case) -> None:
    compared = set()
    for name in case.fields:
        checks = column(
            app,
            "select conname from pg_constraint where conrelid = %s::regclass and conname like %s",
            [case.table, f"{case.table}_{name}%check"],
        )
        here = described(case.schema, name)
        if f"{case.table}_{name}_length_check" in checks:
            text = definition(app, f"{case.table}_{name}_length_check")
            assert (here["minLength"], here["maxLength"]) == bounds(text, "char_length")
            compared.add(name)
        elif "enum" in here:
            text = definition(app, f"{case.table}_{name}_check")
            assert set(here["enum"]) == set(re.findall(r"'(\w+)'::text", text))
            compared.add(name)
    assert compared == set(case.fields) - {"tags", "due_date"}


@pytest.mark.parametrize("schema", [TaskCreate, TaskUpdate])
def test_the_json_schema_has_the_limits_of_tags(app: Connection, schema: type[BaseModel]) -> None:
    here = described(schema, "tags")
    text = definition(app, "tasks_tags_count_check")
    assert here["maxItems"] == bounds(text, "cardinality")[1]
    text = value(app, "select pg_get_functiondef('tags_are_valid'::regproc)")
    assert here["items"]["maxLength"] == bounds(text, "char_length")[1]
    assert (here["items"]["minLength"], here["uniqueItems"]) == (1, True)


@pytest.mark.parametrize("schema", REQUESTS)
def test_a_default_that_clients_are_told_may_be_sent(schema: type[BaseModel]) -> None:
    for name, each in schema.model_json_schema()["properties"].items():
        if "default" in each:
            assert not told(schema, {name: each["default"]})
