"""Cursors: where a list goes on, opaque to clients and good for that list only."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import json
from dataclasses import dataclass

from todo_schema.errors import CursorError

_FORMAT = b"1"  # signed too: another format is a stale cursor
_DIGEST = 16


@dataclass(frozen=True)
class Position:
    """The last row of a part of a list.

    Parameters
    ----------
    key : its value in the order of the list; None where the id alone is the order, and for a row
        of the second segment, of those without a value
    id : its id, which decides between equal values
    undated : whether it is in the second segment
    """

    key: int | float | str | datetime.date | None
    id: int
    undated: bool = False


def encode(secret: bytes, user_id: str, listing: str, position: Position) -> str:
    """Return a cursor.

    Parameters
    ----------
    secret : signs it
    user_id : who may use it
    listing : the list with its sort, order and filter, as text
    position : the last row that was seen
    """
    key = position.key
    text = key.isoformat() if isinstance(key, datetime.date) else key
    payload = json.dumps([_digest(listing), text, position.id, position.undated]).encode()
    return base64.urlsafe_b64encode(_sign(secret, user_id, payload) + payload).decode().rstrip("=")


def decode(secret: bytes, user_id: str, listing: str, cursor: str) -> Position:
    """Return the position that a cursor of this user's tells for this list.

    Parameters
    ----------
    secret, user_id, listing : as they were when it was made
    cursor : what `encode` returned; text of dates and times stays text

    Raises
    ------
    CursorError : it is malformed, not signed for this user, or made for another list
    """
    try:
        raw = base64.b64decode(
            (cursor + "=" * (-len(cursor) % 4)).encode("ascii"), altchars=b"-_", validate=True
        )
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise CursorError("This is no cursor") from None
    signature, payload = raw[:_DIGEST], raw[_DIGEST:]
    if not payload or not hmac.compare_digest(signature, _sign(secret, user_id, payload)):
        raise CursorError("The cursor is stale, or not this user's")
    try:  # without a password the signature can be made by anybody
        made_for, key, id_, undated = json.loads(payload)
        position = Position(key, int(id_), bool(undated))
    except (TypeError, ValueError):
        raise CursorError("This is no cursor") from None
    if made_for != _digest(listing):
        raise CursorError("The cursor is of another list, sort, order or filter")
    return position


def _sign(secret: bytes, user_id: str, payload: bytes) -> bytes:
    message = b"\0".join([_FORMAT, user_id.encode(), payload])
    return hmac.digest(secret, message, "sha256")[:_DIGEST]


def _digest(listing: str) -> str:
    return hashlib.sha256(listing.encode()).hexdigest()[:16]
