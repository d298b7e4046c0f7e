"""Users from Better Auth's JSON web tokens, checked with the public keys that it publishes."""

# No `from __future__ import annotations`: FastAPI reads those of a function made in a function.
import time
from collections.abc import Callable
from typing import Annotated, Any

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tests.example_app.shared import Settings

_LEEWAY = 10
"""Seconds by which the clocks of Better Auth and of this service may differ."""


class Keys(jwt.PyJWKClient):
    """Better Auth's public keys: kept for five minutes, fetched again for a key id not among them.

    PyJWKClientConnectionError means that they cannot be had now, whatever the reason.
    """

    pause = 1.0
    """Seconds without another try after a failure: requests would wait for each one's timeout."""

    _failed_until = 0.0

    def fetch_data(self) -> Any:
        if time.monotonic() < self._failed_until:
            raise jwt.PyJWKClientConnectionError("The keys could not be fetched just now")
        try:
            return super().fetch_data()
        except (jwt.PyJWTError, OSError, ValueError) as error:
            self._failed_until = time.monotonic() + self.pause
            raise jwt.PyJWKClientConnectionError("The keys cannot be fetched") from error


def user_of_token(settings: Settings) -> Callable[..., str]:
    """Return a dependency: the id of the user whose token came with the request.

    Whether the user still exists is for the session to find out.
    """
    keys = Keys(
        settings.jwks_url,
        timeout=settings.jwks_timeout,
        cooldown_duration=settings.jwks_cooldown,
    )
    bearer = HTTPBearer(auto_error=False, bearerFormat="JWT")

    # Not `async def`: fetching the keys blocks, and FastAPI runs this in a thread.
    def current_user(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> str:
        if credentials is None:
            raise HTTPException(401, "Sign in first.", {"WWW-Authenticate": "Bearer"})
        token = credentials.credentials
        try:
            header = jwt.get_unverified_header(token)
            # Before the key is looked for: only a token of the right kind may cause a fetch.
            if header.get("alg") != "EdDSA" or not header.get("kid"):
                raise jwt.InvalidTokenError("Another algorithm, or no key id")
            claims = jwt.decode(
                token,
                keys.get_signing_key(header["kid"]),
                algorithms=["EdDSA"],
                issuer=settings.issuer,
                audience=settings.audience,
                leeway=_LEEWAY,
                options={"require": ["exp", "sub"]},
            )
            if not claims["sub"]:
                raise jwt.InvalidTokenError("Nobody's")
        except jwt.PyJWKClientConnectionError as error:
            detail = "Nobody can be signed in now; try again."
            raise HTTPException(503, detail, {"Retry-After": "1"}) from error
        # RecursionError: brackets by the thousand instead of a header.
        except (jwt.PyJWTError, RecursionError) as error:
            detail = "The token is not valid; sign in again."
            headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise HTTPException(401, detail, headers) from error
        return str(claims["sub"])

    return current_user
