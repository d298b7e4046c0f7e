"""What applications send and receive: schemas that accept exactly what the database accepts.

Each rule here is one of the database's CHECKs; an error's `type` is the rule's name, the same word
that `InvalidError.rule` has when the database refuses the value.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    computed_field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from todo_schema.errors import RULES
from todo_schema.tables import Priority, Role, Status

TaskSort = Literal["created", "updated", "title", "priority", "due_date"]
Order = Literal["asc", "desc"]
Total = Literal["exact", "bounded", "none"]


_UNSTORABLE = re.compile("[\\0\\ud800-\\udfff]")


def storable(value: str) -> bool:
    """Return whether PostgreSQL can hold a text: no NUL, no half of a surrogate pair."""
    return not _UNSTORABLE.search(value)


def broken(rule: str, message: str | None = None) -> PydanticCustomError:
    """Return what a validator raises for a value that breaks a rule."""
    return PydanticCustomError(rule, message or RULES[rule])


def text(least: int, most: int, *, blank: bool = False) -> Callable[[str], str]:
    """Return a validator of text; it tells of several rules the one that the database tells.

    Parameters
    ----------
    least, most : length in code points, as char_length() counts
    blank : whether all of it may be what str.strip() removes
    """

    def validate(value: str) -> str:
        if not storable(value):
            raise broken("characters")
        if not blank and not value.strip():
            raise broken("blank")
        if not least <= len(value) <= most:
            raise broken("length", f"must have {least} to {most} characters")
        return value

    return validate


def _tags(values: list[str]) -> list[str]:
    if not all(map(storable, values)):
        raise broken("characters")
    if len(values) > 20:
        raise broken("count", "must be at most 20")
    if any(len(value) > 50 or not value.strip() for value in values):
        raise broken("items")
    if len(set(values)) < len(values):
        raise broken("items")
    return values


def _null_is_blank(value: Any) -> Any:
    # A null tag breaks the same rule as a blank one, and is no missing field.
    return "" if value is None else value


def _only_dates(value: Any) -> Any:
    # Pydantic would take a number, in a text too, for seconds since 1970.
    is_text = isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value)
    if not is_text and not isinstance(value, datetime.date):
        raise broken("type")
    return value


def violations(errors: Iterable[Any]) -> Iterator[tuple[list[str | int], str, str]]:
    """Yield the place, the rule and a message for users of everything that was refused.

    Parameters
    ----------
    errors : what `errors()` of Pydantic's or FastAPI's exception returns
    """
    rules = {
        "missing": "required",
        "literal_error": "choice",
        "string_unicode": "characters",
        "extra_forbidden": "unknown",
        # Of an application's own models.
        **dict.fromkeys(["string_too_short", "string_too_long"], "length"),
        **dict.fromkeys(["too_short", "too_long"], "count"),
        **dict.fromkeys(["greater_than", "greater_than_equal"], "range"),
        **dict.fromkeys(["less_than", "less_than_equal"], "range"),
    }
    for each in errors:
        kind = each["type"]
        rule = kind if kind in RULES else rules.get(kind, "type")
        if rule in ("type", "choice") and each.get("input", "") is None:
            rule = "required"
        message = each["msg"] if kind in RULES else RULES[rule]
        # A field's name may be what somebody sent: of any length, and unprintable.
        place = [
            part.encode("utf-8", "replace").decode()[:100] if isinstance(part, str) else part
            for part in each["loc"]
        ]
        names = [part for part in place if isinstance(part, str)]
        yield place, rule, f"{names[-1] if names else 'The value'} {message}."


def _length(least: int, most: int) -> Any:
    return Field(json_schema_extra={"minLength": least, "maxLength": most})


Title = Annotated[str, AfterValidator(text(1, 200)), _length(1, 200)]
Description = Annotated[str, AfterValidator(text(0, 1000, blank=True)), _length(0, 1000)]
Content = Annotated[str, AfterValidator(text(1, 10000, blank=True)), _length(1, 10000)]
Tags = Annotated[
    list[Annotated[str, BeforeValidator(_null_is_blank), _length(1, 50)]],
    AfterValidator(_tags),
    Field(json_schema_extra={"maxItems": 20, "uniqueItems": True}),
]
Day = Annotated[datetime.date, BeforeValidator(_only_dates)]


Searched = Annotated[str, AfterValidator(text(1, 1000))]


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class _Request(BaseModel):
    """What all requests share: an unknown field is refused, and no value is repeated in errors."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, None among them."""
        return self.model_dump(exclude_unset=True)


class _TaskRequest(_Request):
    @model_validator(mode="after")
    def _one_state(self) -> Self:
        """Refuse a status and a completed that contradict each other."""
        given = self.given()
        completed, status = given.get("completed"), given.get("status")
        if completed is not None and status and completed != (status == "completed"):
            raise broken("contradiction")
        return self


class TaskCreate(_TaskRequest):
    """A new task. `completed` is another way to say `status`.

    Raises
    ------
    pydantic.ValidationError : a value breaks a rule of the database, or the two contradict
    """

    model_config = _example(title="Buy milk", priority="high", due_date="2026-05-01", tags=["home"])

    title: Title
    description: Description | None = None
    status: Status = "pending"
    priority: Priority = "medium"
    due_date: Day | None = None
    tags: Tags = Field(default_factory=list)
    completed: bool | None = None


#: The default of a field that may be left out but not be null: `given()` has it only if it was.
#: A factory, for a default would be told to clients, which may not send it.
_NOT_GIVEN: Any = Field(default_factory=lambda: None)


class TaskUpdate(_TaskRequest):
    """Changes of a task: a field that is not given stays as it is, None empties one.

    Read what was given by `given()`: the others are None, whatever their type says.

    Raises
    ------
    pydantic.ValidationError : a value breaks a rule of the database, or None is given for what
        cannot be empty
    """

    model_config = _example(status="in_progress", due_date=None)

    title: Title = _NOT_GIVEN
    description: Description | None = None
    status: Status = _NOT_GIVEN
    priority: Priority = _NOT_GIVEN
    due_date: Day | None = None
    tags: Tags = _NOT_GIVEN
    completed: bool = _NOT_GIVEN


class TaskFilter(_TaskRequest):
    """Which tasks a list has: those that meet every condition that is not None.

    A subclass may add fields, such as the sort and the cursor for a model of query parameters.

    Parameters
    ----------
    status, completed, priority : exactly that
    due_date, due_before, due_after : on that day, before it, after it
    has_due_date : False for the undated
    tags : tasks that have all of them
    contains : part of the title or of the description, whatever the case
    search : as in `tasks.search`

    Raises
    ------
    pydantic.ValidationError : a value could not be stored, or two conditions contradict
    """

    model_config = _example(completed=False, tags=["home"])

    status: Status | None = None
    completed: bool | None = None
    priority: Priority | None = None
    due_date: Day | None = None
    due_before: Day | None = None
    due_after: Day | None = None
    has_due_date: bool | None = None
    tags: Tags = Field(default_factory=list)
    contains: Annotated[str, AfterValidator(text(1, 200, blank=True))] | None = None
    search: Searched | None = None

    @model_validator(mode="after")
    def _dated_or_not(self) -> Self:
        """Refuse a condition on the due date of tasks that have none."""
        if self.has_due_date is False and any((self.due_date, self.due_before, self.due_after)):
            raise broken("contradiction", "has_due_date contradicts another condition")
        return self


class ConversationCreate(_Request):
    """A new conversation.

    Raises
    ------
    pydantic.ValidationError : a value breaks a rule of the database
    """

    model_config = _example(title="Holidays")

    title: Title | None = None


class ConversationUpdate(ConversationCreate):
    """Changes of a conversation; None takes its title away.

    Raises
    ------
    pydantic.ValidationError : a value breaks a rule of the database
    """


class MessageCreate(_Request):
    """A new message.

    Raises
    ------
    pydantic.ValidationError : a value breaks a rule of the database
    """

    model_config = _example(role="user", content="What is due today?")

    role: Role
    content: Content


class _Stored(BaseModel):
    model_config = ConfigDict(from_attributes=True, frozen=True)


class TaskRead(_Stored):
    """A stored task."""

    model_config = _example(
        id=42,
        user_id="alice",
        title="Buy milk",
        description=None,
        status="pending",
        completed=False,
        priority="high",
        due_date="2026-05-01",
        tags=["home"],
        created_at="2026-04-01T12:00:00Z",
        updated_at="2026-04-01T12:00:00Z",
    )

    id: int
    user_id: str
    title: str
    description: str | None
    status: Status
    completed: bool
    priority: Priority
    due_date: datetime.date | None
    tags: list[str]
    created_at: datetime.datetime
    updated_at: datetime.datetime


class TaskCounts(_Stored):
    """How many tasks a user has, by state."""

    model_config = _example(pending=2, in_progress=1, completed=5, open=3, total=8)

    pending: int = 0
    in_progress: int = 0
    completed: int = 0

    # mypy takes no decorator above a property; Pydantic's documentation says to ignore that.
    @computed_field  # type: ignore[prop-decorator]
    @property
    def open(self) -> int:
        """Those that are not completed."""
        return self.pending + self.in_progress

    # mypy takes no decorator above a property; Pydantic's documentation says to ignore that.
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        """All of them."""
        return self.open + self.completed


class ConversationRead(_Stored):
    """A stored conversation."""

    model_config = _example(
        id=7,
        user_id="alice",
        title="Holidays",
        created_at="2026-04-01T12:00:00Z",
        updated_at="2026-04-01T12:05:00Z",
    )

    id: int
    user_id: str
    title: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


class MessageRead(_Stored):
    """A stored message."""

    model_config = _example(
        id=99,
        user_id="alice",
        conversation_id=7,
        role="user",
        content="What is due today?",
        created_at="2026-04-01T12:05:00Z",
    )

    id: int
    user_id: str
    conversation_id: int
    role: Role
    content: str
    created_at: datetime.datetime


class UserRead(_Stored):
    """An account, as its owner sees it."""

    model_config = _example(
        id="alice",
        name="Alice",
        email="alice@example.com",
        email_verified=True,
        image=None,
        created_at="2026-04-01T12:00:00Z",
        updated_at="2026-04-01T12:00:00Z",
    )

    id: str
    name: str
    email: str
    email_verified: bool
    image: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


Item = TypeVar("Item")


class Slice(_Stored, Generic[Item]):
    """Part of a list, and the cursor of what follows; None at the end."""

    model_config = _example(items=[], next_cursor=None)

    items: list[Item]
    next_cursor: str | None


class Page(_Stored, Generic[Item]):
    """A numbered page of a list.

    Parameters
    ----------
    items : at most `limit`
    page, limit : as asked for, from 1
    total : how many there are in all pages; None where it was not asked for
    total_is_exact : False where there are more than the bound that was counted to
    """

    model_config = _example(items=[], page=1, limit=20, total=0, total_is_exact=True)

    items: list[Item]
    page: int
    limit: int
    total: int | None
    total_is_exact: bool
