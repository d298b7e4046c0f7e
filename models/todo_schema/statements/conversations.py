"""Conversations and their messages: every statement, and the operations that send them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from todo_schema.errors import NotFoundError, UnknownUserError
from todo_schema.operation import Mode, Namespace, Query, Row, operation
from todo_schema.schemas import (
    ConversationCreate,
    ConversationRead,
    ConversationUpdate,
    MessageCreate,
    MessageRead,
    Order,
    Slice,
    UserRead,
)
from todo_schema.statements.common import (
    by_id,
    checked_choice,
    checked_id,
    checked_limit,
    one,
    reader,
    sliced,
)
from todo_schema.statements.cursor import decode
from todo_schema.statements.listing import Ordering, ranges, statement

COLUMNS, read = reader(ConversationRead)
MESSAGE_COLUMNS, read_message = reader(MessageRead)
_WIDTH = len(ConversationRead.model_fields)

_THIS = "where user_id = %(user_id)s and id = %(id)s::bigint"

GET = f"select {COLUMNS}\nfrom conversations\n{_THIS}"

CREATE = f"""\
insert into conversations (user_id, title)
values (%(user_id)s, %(title)s)
returning {COLUMNS}"""

UPDATE = f"update conversations\nset title = %(title)s\n{_THIS}\nreturning {COLUMNS}"

DELETE = f"delete from conversations\n{_THIS}\nreturning id"

# From the conversation, so that one of another user's is no row instead of an error, which would
# end the transaction.
CREATE_MESSAGE = f"""\
insert into messages (user_id, conversation_id, role, content)
select user_id, id, %(role)s, %(content)s
from conversations
where user_id = %(user_id)s and id = %(conversation_id)s::bigint
returning {MESSAGE_COLUMNS}"""

GET_MESSAGE = f"select {MESSAGE_COLUMNS}\nfrom messages\n{_THIS}"

DELETE_MESSAGE = f"delete from messages\n{_THIS}\nreturning id"

_, _read_user = reader(UserRead)

USER = """\
select id, name, email, "emailVerified", image, "createdAt", "updatedAt"
from "user"
where id = %(user_id)s"""

EXISTS = 'select from "user" where id = %(user_id)s'
"""What a session that requires its user sends with the begin of its transaction."""

_BY_ACTIVITY = Ordering("updated_at", "timestamptz", True)
_BY_ID = Ordering(None, "bigint", False)


def listing(*, later: bool) -> str:
    """Return the list of conversations, last activity first; `later` for what follows a cursor."""
    conditions = ["user_id = %(user_id)s", *([_BY_ACTIVITY.before] if later else [])]
    return ranges("conversations", COLUMNS, _BY_ACTIVITY, [conditions])


def message_listing(*, descending: bool, later: bool) -> str:
    """Return the list of a conversation's messages, with whether there is such a conversation."""
    ordering = replace(_BY_ID, descending=descending)
    conditions = [
        "user_id = %(user_id)s",
        "conversation_id = %(conversation_id)s::bigint",
        *([ordering.before] if later else []),
    ]
    head = {
        "found": (
            "exists (select from conversations"
            " where user_id = %(user_id)s and id = %(conversation_id)s::bigint)"
        )
    }
    return statement(
        ranges("messages", MESSAGE_COLUMNS, ordering, [conditions]), ordering, head=head
    )


class Conversations(Namespace[Mode]):
    """A user's conversations."""

    @operation
    def create(self, conversation: ConversationCreate) -> Query[ConversationRead]:
        """Store a new conversation.

        Parameters
        ----------
        conversation : its values

        Raises
        ------
        UnknownUserError : the session's user does not exist
        """
        values = self._with(conversation.model_dump())
        return Query("conversations.create", CREATE, values, lambda rows: read(rows[0]))

    @operation
    def get(self, conversation_id: int) -> Query[ConversationRead]:
        """Return one conversation.

        Parameters
        ----------
        conversation_id : which conversation

        Raises
        ------
        NotFoundError : the user has no conversation with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "conversations.get", GET, conversation_id, read)

    @operation
    def update(self, conversation_id: int, changes: ConversationUpdate) -> Query[ConversationRead]:
        """Change the fields that are given; with none, return the conversation as it is.

        Parameters
        ----------
        conversation_id : which conversation
        changes : new values; None takes the title away

        Raises
        ------
        NotFoundError : the user has no conversation with this id
        InvalidError : the id is no integer
        """
        if not changes.given():
            return by_id(self, "conversations.get", GET, conversation_id, read)
        return by_id(
            self, "conversations.update", UPDATE, conversation_id, read, values=changes.given()
        )

    @operation
    def delete(self, conversation_id: int) -> Query[None]:
        """Delete a conversation with its messages.

        Parameters
        ----------
        conversation_id : which conversation

        Raises
        ------
        NotFoundError : the user has no conversation with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "conversations.delete", DELETE, conversation_id, lambda row: None)

    @operation
    def list(self, *, limit: int = 20, cursor: str | None = None) -> Query[Slice[ConversationRead]]:
        """Return conversations, last activity first, and the cursor of what follows.

        One that becomes active meanwhile moves to the front, where later slices do not show it.

        Parameters
        ----------
        limit : 1 to 100
        cursor : the last slice's `next_cursor`

        Raises
        ------
        InvalidError : the limit is out of its bounds
        CursorError : the cursor is not one of this user's for this list
        """
        values = self._with({"limit": checked_limit(limit) + 1})
        if cursor is not None:
            position = decode(self.secret, self.user_id, "conversations", cursor)
            values |= {"after_key": position.key, "after_id": position.id}
        start = "first" if cursor is None else "later"
        return Query(
            f"conversations.list {start}",
            listing(later=cursor is not None),
            values,
            sliced(self, Slice[ConversationRead], read, "conversations", limit, key=_WIDTH),
        )


class Messages(Namespace[Mode]):
    """The messages of a user's conversations."""

    @operation
    def create(self, conversation_id: int, message: MessageCreate) -> Query[MessageRead]:
        """Store a new message, and move its conversation to the front.

        Parameters
        ----------
        conversation_id : which conversation
        message : what is said, and by whom

        Raises
        ------
        NotFoundError : the user has no conversation with this id
        InvalidError : the id is no integer
        """
        id_ = checked_id("conversation", conversation_id)
        values = self._with({"conversation_id": id_, **message.model_dump()})
        found = one("conversation", id_, read_message)
        return Query("messages.create", CREATE_MESSAGE, values, found)

    @operation
    def get(self, message_id: int) -> Query[MessageRead]:
        """Return one message.

        Parameters
        ----------
        message_id : which message

        Raises
        ------
        NotFoundError : the user has no message with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "messages.get", GET_MESSAGE, message_id, read_message)

    @operation
    def delete(self, message_id: int) -> Query[None]:
        """Delete a message.

        Parameters
        ----------
        message_id : which message

        Raises
        ------
        NotFoundError : the user has no message with this id
        InvalidError : the id is no integer
        """
        return by_id(self, "messages.delete", DELETE_MESSAGE, message_id, lambda row: None)

    @operation
    def list(
        self,
        conversation_id: int,
        *,
        order: Order = "asc",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Query[Slice[MessageRead]]:
        """Return a conversation's messages in order, and the cursor of what follows.

        Parameters
        ----------
        conversation_id : which conversation
        order : `asc` from the first message on, `desc` from the last one back
        limit : 1 to 100
        cursor : the last slice's `next_cursor`, with the same arguments otherwise

        Raises
        ------
        NotFoundError : the user has no conversation with this id
        InvalidError : an argument is out of its bounds
        CursorError : the cursor is not one of this user's for this list
        """
        id_ = checked_id("conversation", conversation_id)
        checked_choice("order", order, get_args(Order))
        text = f"messages {id_} {order}"
        values = self._with({"conversation_id": id_, "limit": checked_limit(limit) + 1})
        if cursor is not None:
            values["after_id"] = decode(self.secret, self.user_id, text, cursor).id
        slice_ = sliced(self, Slice[MessageRead], read_message, text, limit)

        def decode_(rows: Sequence[Row]) -> Slice[MessageRead]:
            if not rows[0][-1]:
                raise NotFoundError("conversation", [id_])
            return slice_(rows)

        start = "first" if cursor is None else "later"
        sql = message_listing(descending=order == "desc", later=cursor is not None)
        return Query(f"messages.list {start} {order}", sql, values, decode_)


class Users(Namespace[Mode]):
    """The session's own user."""

    @operation
    def get(self) -> Query[UserRead]:
        """Return the account.

        Raises
        ------
        UnknownUserError : it does not exist, or no more
        """

        def decode(rows: Sequence[Row]) -> UserRead:
            if not rows:
                raise UnknownUserError
            return _read_user(rows[0])

        return Query("user", USER, self._with({}), decode)
