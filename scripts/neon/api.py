"""Requests to Neon's API: bounded in time, and repeated only where that is safe.

https://api-docs.neon.tech describes the API; what may be repeated is `_may_repeat`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from scripts.errors import ToolError, refuse
from scripts.neon.settings import NeonSettings

ANSWER = 30.0
"""Seconds until a request counts as not answered, however the bytes of an answer trickle in."""

LARGEST = 64 * 2**20
"""Bytes of an answer at the most; a hundred branches take some 100 kB."""

LEAST = 1.0
"""Seconds that have to be left for asking again: what is begun later might lose its answer."""

TRIES = 6
"""How often a request without an answer is sent, where it may be repeated."""

BUSY = frozenset({423, 429, 503})
"""Answers that say nothing was done: locked by another operation, too many requests, no service."""

FIXES = {
    401: "check NEON_API_KEY",
    403: "check what the key may do: NEON_API_KEY",
    404: "check NEON_PROJECT_ID, NEON_DATABASE, NEON_ROLE; a kept branch has no compute",
}

_backoff = wait_random_exponential(multiplier=0.25, max=10)

Read = TypeVar("Read")


class Refusal(Exception):  # noqa: N818 - it never leaves this module
    """An answer that is an error."""

    def __init__(self, status: int, answer: Any, retry_after: float) -> None:
        known = answer if isinstance(answer, dict) else {}
        self.status = status
        self.message = str(known.get("message") or "without a message")
        self.code = str(known.get("code") or "without a code")
        self.request_id = str(known.get("request_id") or "without an id")
        self.retry_after = retry_after


class NoAnswer(Exception):  # noqa: N818 - it never leaves this module
    """No answer, or none that could be read: the request may have been carried out."""


class Api:
    """The API of one project.

    Parameters
    ----------
    settings : which project, and the key, which is in no message
    timeout : seconds for all that is asked together
    """

    def __init__(self, settings: NeonSettings, timeout: float) -> None:
        self._url = settings.url
        self._key = settings.key
        self._timeout = timeout
        self._left = timeout
        self._end = 0.0
        # A coroutine can be stopped wherever it waits; httpx alone bounds but each byte's time.
        self._runner = asyncio.Runner()
        try:
            self._http = httpx.AsyncClient(
                base_url=f"{settings.url}/projects/{settings.project}",
                headers={"Authorization": f"Bearer {settings.key}", "Accept": "application/json"},
                trust_env=not settings.is_local,  # a proxy of the environment is not for loopback
                timeout=ANSWER,
            )
        except (ImportError, OSError, ValueError) as error:
            message = f"the environment's proxy or certificates cannot be used: {error}"
            raise refuse(
                "settings", message, fix="mend HTTPS_PROXY or SSL_CERT_FILE", status=2
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._http.aclose())
        self._runner.close()

    def ask(
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], Read],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Read:
        """Send a request, again where that is safe.

        Parameters
        ----------
        method, path : the path below the project
        read : takes what is wanted from the answer, `{}` where that has no content
        query, body : the query's parameters, and the body that is sent as JSON

        Returns
        -------
        What `read` does.

        Raises
        ------
        ToolError : Neon refuses (`neon-api`), does not answer (`neon-unreachable`), or was busy
            until the time was used up (`neon-timeout`)
        """
        with self._counted():
            return self._ask(method, path, read, query, body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Let time run while something is asked of Neon, and nothing else."""
        begun = time.monotonic()
        self._end = begun + self._left
        try:
            yield
        finally:
            self._left -= time.monotonic() - begun

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], Read],
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
    ) -> Read:
        place = f"{method} {path}"

        def send() -> dict[str, Any]:
            if time.monotonic() >= self._end:
                raise self._too_late(place)
            return self._send(method, path, query, body)

        def is_last(state: RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            busy = isinstance(error, Refusal) and error.status in BUSY
            late = time.monotonic() + state.upcoming_sleep + LEAST >= self._end
            return late or (not busy and state.attempt_number >= TRIES)

        asking = Retrying(
            retry=retry_if_exception(lambda error: _may_repeat(method, error)),
            wait=_pause,
            stop=is_last,
            reraise=True,
        )
        try:
            answer = asking(send)
        except Refusal as error:
            message = self.plain(error.message)
            if error.status in BUSY:
                raise self._too_late(f"{place} is answered: {message}") from None
            about = (
                f"{error.status} {self.plain(error.code)}, request {self.plain(error.request_id)}"
            )
            fix = FIXES.get(error.status, "see the message; Neon's support takes the request's id")
            raise refuse(
                "neon-api", f"Neon refuses {place}: {message} ({about})", fix=fix
            ) from None
        except NoAnswer as error:
            unknown = "" if method == "GET" else "; whether it was done is unknown"
            message = f"no answer from {self._url} to {place}: {self.plain(str(error))}{unknown}"
            raise refuse("neon-unreachable", message, fix="run it again") from None
        try:
            return read(answer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"Neon's answer to {place} is not as described: {error!r}"
            raise refuse("neon-api", self.plain(message), fix="report it") from None

    def pause(self, seconds: float, what: str) -> None:
        """Sleep; ToolError `neon-timeout` where the time would be used up, which tells `what`."""
        if seconds + LEAST >= self._left:
            raise self._too_late(what)
        with self._counted():
            time.sleep(seconds)

    def plain(self, text: str) -> str:
        """Return what came from outside as one line of at most 500 characters, without the key."""
        seen = "".join(each if each.isprintable() else " " for each in text)
        return " ".join(seen.split()).replace(self._key, "…")[:500]

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        seconds = min(ANSWER, self._end - time.monotonic())
        try:
            exchange = self._exchange(seconds, method, path, params=query, json=body)
            response, content = self._runner.run(exchange)
        except httpx.RequestError as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        except TimeoutError:
            raise NoAnswer(f"none within {seconds:.0f} s") from None
        try:
            answer = json.loads(content) if content else {}
        except (ValueError, RecursionError):
            answer = None
        if not response.is_success:
            raise Refusal(response.status_code, answer, _retry_after(response))
        if not isinstance(answer, dict):
            raise NoAnswer("the answer is no JSON object")
        return answer

    async def _exchange(
        self, seconds: float, method: str, path: str, **request: Any
    ) -> tuple[httpx.Response, bytes]:
        content = bytearray()
        async with (
            asyncio.timeout(seconds),
            self._http.stream(method, path, **request) as response,
        ):
            async for part in response.aiter_bytes():
                content += part
                if len(content) > LARGEST:
                    raise NoAnswer("it does not end")
        return response, bytes(content)

    def _too_late(self, what: str) -> ToolError:
        message = f"Neon was not done within {self._timeout:g} s: {what}"
        return refuse("neon-timeout", message, fix="run it again, or raise --timeout")


def _may_repeat(method: str, error: BaseException) -> bool:
    """Whether a request may be sent again, by Neon's rules.

    An answer of BUSY says that nothing was done. Anything else may have been carried out, which is
    no harm to a GET alone.
    """
    if isinstance(error, Refusal):
        return error.status in BUSY or (method == "GET" and error.status >= 500)
    return isinstance(error, NoAnswer) and method == "GET"


def _pause(state: RetryCallState) -> float:
    """Return the seconds until the next try: what Retry-After asks for, at the least."""
    error = state.outcome.exception() if state.outcome else None
    return max(error.retry_after if isinstance(error, Refusal) else 0, _backoff(state))


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of Retry-After, a number or a date (RFC 9110, 10.2.3); 0 without one."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0
