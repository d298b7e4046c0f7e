"""What the environment says of Neon: key, project, database and owner."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scripts.address import LOCAL_HOSTS
from scripts.errors import refuse
from scripts.settings import environment

API = "https://console.neon.tech/api/v2"
KEY = re.compile(r"[!-~]+")
PROJECT = re.compile(r"[a-z0-9-]{1,60}")


@dataclass(frozen=True)
class NeonSettings:
    """Which project at Neon, and how to get in.

    Parameters
    ----------
    key : of the API; `repr` hides it
    project : the project's id
    database, role : on each of its branches, the owner's
    url : of the API
    """

    key: str = field(repr=False)
    project: str
    database: str
    role: str
    url: str

    @property
    def is_local(self) -> bool:
        """Whether the API is on this machine."""
        return _host(self.url) in LOCAL_HOSTS


def neon_settings() -> NeonSettings:
    """Read the settings of the `neon` commands.

    Raises
    ------
    ToolError : one is missing or malformed (code `settings`, status 2)
    """
    key = environment("NEON_API_KEY") or ""
    if not KEY.fullmatch(key):
        word = "holds what no key has: a space or a line's end" if key else "is not set"
        fix = "make one in Neon's console: account settings, API keys"
        raise refuse("settings", f"NEON_API_KEY {word}", fix=fix, status=2)
    project = environment("NEON_PROJECT_ID") or ""
    if not PROJECT.fullmatch(project):
        word = "is no project's id" if project else "is not set"
        fix = "it stands in Neon's console: project settings"
        raise refuse("settings", f"NEON_PROJECT_ID {word}", fix=fix, status=2)
    settings = NeonSettings(
        key,
        project,
        environment("NEON_DATABASE") or "neondb",
        environment("NEON_ROLE") or "neondb_owner",
        (environment("NEON_API_URL") or API).rstrip("/"),
    )
    schemes = ("https", "http") if settings.is_local else ("https",)
    if not _host(settings.url) or settings.url.partition("://")[0] not in schemes:
        message = "NEON_API_URL is not https://…; the key would go over the network in clear"
        raise refuse("settings", message, fix="unset it", status=2)
    return settings


def _host(url: str) -> str | None:
    """Return a URL's host; None where it has none, or a password."""
    try:
        parts = urlsplit(url)
        is_plain = "@" not in parts.netloc and parts.port != 0  # a port that is none raises
    except ValueError:
        return None
    return parts.hostname if is_plain else None
