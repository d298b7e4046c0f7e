"""Mirrors of the tables as SQLModel classes; the SQL is the truth, Python never makes a table.

A mirror has names, types, nullability, defaults and foreign keys, and no rule: table classes
validate nothing. The collation of ids is left to the column: named here, it would be sent with
every value. Values that the database sets (ids, times, generated columns) are None until the row
is stored, and are typed as what a stored row holds; they come back with the INSERT or UPDATE.
"""

# No `from __future__ import annotations`: SQLModel reads relationships from evaluated annotations.
import datetime
from typing import Any, Literal

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    FetchedValue,
    ForeignKeyConstraint,
    Identity,
    MetaData,
    SmallInteger,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import registry
from sqlmodel import Field, Relationship, SQLModel

Status = Literal["pending", "in_progress", "completed"]
Priority = Literal["low", "medium", "high"]
Role = Literal["user", "assistant"]

#: The mirrors' own: an application may have a Task or a "user" table of its own beside them.
metadata = MetaData()
_registry = registry(metadata=metadata)

_TIME = TIMESTAMP(timezone=True)
# Children without a parent do not exist, and the database's cascade removes those not loaded.
_OWNED = {"cascade": "all, delete-orphan", "passive_deletes": True, "lazy": "raise_on_sql"}
# What was not asked for raises: one statement for each row of a list is never an accident.
_OWNER = {"lazy": "raise_on_sql"}


def _now(name: str, **options: Any) -> "Column[datetime.datetime]":
    """Return a column for a time that the database sets."""
    return Column(name, _TIME, nullable=False, server_default=func.now(), **options)


class _Mirror(SQLModel, registry=_registry):
    """What all mirrors share: values set by the database come back by RETURNING."""

    __mapper_args__ = {"eager_defaults": True}


class User(_Mirror, table=True):
    """An account. Better Auth's column names are camelCase; attributes are snake_case here."""

    __tablename__ = "user"

    id: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    email: str = Field(sa_column=Column(Text, nullable=False))
    email_verified: bool = Field(
        default=False,
        sa_column=Column("emailVerified", Boolean, nullable=False, server_default=text("false")),
    )
    image: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("createdAt"),
    )
    updated_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("updatedAt"),
    )

    tasks: list["Task"] = Relationship(back_populates="user", sa_relationship_kwargs=_OWNED)
    conversations: list["Conversation"] = Relationship(
        back_populates="user", sa_relationship_kwargs=_OWNED
    )


class AuthSession(_Mirror, table=True):
    """A signed-in device: table `session`, under a name that is not SQLAlchemy's."""

    __tablename__ = "session"
    __table_args__ = (
        ForeignKeyConstraint(["userId"], ["user.id"], "session_user_id_fkey", ondelete="CASCADE"),
    )

    id: str = Field(sa_column=Column(Text, primary_key=True))
    expires_at: datetime.datetime = Field(sa_column=Column("expiresAt", _TIME, nullable=False))
    token: str = Field(repr=False, sa_column=Column(Text, nullable=False))
    created_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("createdAt"),
    )
    updated_at: datetime.datetime = Field(sa_column=Column("updatedAt", _TIME, nullable=False))
    ip_address: str | None = Field(default=None, sa_column=Column("ipAddress", Text))
    user_agent: str | None = Field(default=None, sa_column=Column("userAgent", Text))
    user_id: str = Field(sa_column=Column("userId", Text, nullable=False))


class Account(_Mirror, table=True):
    """A way to sign in: a password, or a user's account at another provider."""

    __tablename__ = "account"
    __table_args__ = (
        ForeignKeyConstraint(["userId"], ["user.id"], "account_user_id_fkey", ondelete="CASCADE"),
    )

    id: str = Field(sa_column=Column(Text, primary_key=True))
    account_id: str = Field(sa_column=Column("accountId", Text, nullable=False))
    provider_id: str = Field(sa_column=Column("providerId", Text, nullable=False))
    user_id: str = Field(sa_column=Column("userId", Text, nullable=False))
    access_token: str | None = Field(
        default=None, repr=False, sa_column=Column("accessToken", Text)
    )
    refresh_token: str | None = Field(
        default=None, repr=False, sa_column=Column("refreshToken", Text)
    )
    id_token: str | None = Field(default=None, repr=False, sa_column=Column("idToken", Text))
    access_token_expires_at: datetime.datetime | None = Field(
        default=None, sa_column=Column("accessTokenExpiresAt", _TIME)
    )
    refresh_token_expires_at: datetime.datetime | None = Field(
        default=None, sa_column=Column("refreshTokenExpiresAt", _TIME)
    )
    scope: str | None = Field(default=None, sa_column=Column(Text))
    password: str | None = Field(default=None, repr=False, sa_column=Column(Text))
    created_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("createdAt"),
    )
    updated_at: datetime.datetime = Field(sa_column=Column("updatedAt", _TIME, nullable=False))


class Verification(_Mirror, table=True):
    """A one-time secret: a reset link, a mail confirmation, an OAuth state."""

    __tablename__ = "verification"

    id: str = Field(sa_column=Column(Text, primary_key=True))
    identifier: str = Field(sa_column=Column(Text, nullable=False))
    value: str = Field(repr=False, sa_column=Column(Text, nullable=False))
    expires_at: datetime.datetime = Field(sa_column=Column("expiresAt", _TIME, nullable=False))
    created_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("createdAt"),
    )
    updated_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("updatedAt"),
    )


class Jwk(_Mirror, table=True):
    """A key pair that signs JSON web tokens: a row of `jwks`."""

    __tablename__ = "jwks"

    id: str = Field(sa_column=Column(Text, primary_key=True))
    public_key: str = Field(sa_column=Column("publicKey", Text, nullable=False))
    private_key: str = Field(repr=False, sa_column=Column("privateKey", Text, nullable=False))
    created_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("createdAt"),
    )
    expires_at: datetime.datetime | None = Field(default=None, sa_column=Column("expiresAt", _TIME))
    alg: str | None = Field(default=None, sa_column=Column(Text))
    crv: str | None = Field(default=None, sa_column=Column(Text))


class Task(_Mirror, table=True):
    """What a user has to do. Write `status`; `completed` and `priority_rank` follow from others."""

    __tablename__ = "tasks"
    __table_args__ = (
        ForeignKeyConstraint(["user_id"], ["user.id"], "tasks_user_id_fkey", ondelete="CASCADE"),
    )

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    id: int = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True)
    )
    title: str = Field(sa_column=Column(Text, nullable=False))
    description: str | None = Field(default=None, sa_column=Column(Text))
    status: Status = Field(
        default="pending", sa_column=Column(Text, nullable=False, server_default="pending")
    )
    completed: bool = Field(
        default=None,
        sa_column=Column(Boolean, Computed("status = 'completed'", persisted=True), nullable=False),
    )
    priority: Priority = Field(
        default="medium", sa_column=Column(Text, nullable=False, server_default="medium")
    )
    priority_rank: int = Field(
        default=None,
        sa_column=Column(
            SmallInteger,
            Computed(
                "case priority when 'high' then 3 when 'medium' then 2 else 1 end", persisted=True
            ),
            nullable=False,
        ),
    )
    due_date: datetime.date | None = Field(default=None, sa_column=Column(Date))
    # Assign a new list: SQLAlchemy does not notice a change in place.
    tags: list[str] = Field(
        default_factory=list,
        sa_column=Column(ARRAY(Text), nullable=False, server_default="{}"),
    )
    created_at: datetime.datetime = Field(default=None, sa_column=_now("created_at"))
    updated_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("updated_at", server_onupdate=FetchedValue()),
    )

    user: User = Relationship(back_populates="tasks", sa_relationship_kwargs=_OWNER)


class TaskSearch(_Mirror, table=True):
    """The search words of a task; written by the database's triggers alone."""

    __tablename__ = "task_search"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "task_id"],
            ["tasks.user_id", "tasks.id"],
            "task_search_task_id_fkey",
            ondelete="CASCADE",
        ),
    )

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    task_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    words: str = Field(sa_column=Column(Text, nullable=False))


class Conversation(_Mirror, table=True):
    """A thread of messages; a new message moves `updated_at`, which the object sees on refresh."""

    __tablename__ = "conversations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id"], ["user.id"], "conversations_user_id_fkey", ondelete="CASCADE"
        ),
    )

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    id: int = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True)
    )
    title: str | None = Field(default=None, sa_column=Column(Text))
    created_at: datetime.datetime = Field(default=None, sa_column=_now("created_at"))
    updated_at: datetime.datetime = Field(
        default=None,
        sa_column=_now("updated_at", server_onupdate=FetchedValue()),
    )

    user: User = Relationship(back_populates="conversations", sa_relationship_kwargs=_OWNER)
    messages: list["Message"] = Relationship(
        back_populates="conversation",
        sa_relationship_kwargs={**_OWNED, "order_by": "Message.id"},
    )


class Message(_Mirror, table=True):
    """What was said in a conversation, by its user or the assistant; never changed."""

    __tablename__ = "messages"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "conversation_id"],
            ["conversations.user_id", "conversations.id"],
            "messages_conversation_id_fkey",
            ondelete="CASCADE",
        ),
    )

    user_id: str = Field(sa_column=Column(Text, primary_key=True))
    id: int = Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True)
    )
    conversation_id: int = Field(default=None, sa_column=Column(BigInteger, nullable=False))
    role: Role = Field(sa_column=Column(Text, nullable=False))
    content: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime.datetime = Field(default=None, sa_column=_now("created_at"))

    conversation: Conversation = Relationship(
        back_populates="messages", sa_relationship_kwargs=_OWNER
    )
