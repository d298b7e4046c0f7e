"""Migration files: found, named, read, and their directives."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import Finding, ToolError
from scripts.settings import project

NAME = re.compile(r"(?P<number>\d{4})\.[a-z0-9]+(-[a-z0-9]+)*")
KEYS = "transactional|depends|data-loss"
DIRECTIVE = re.compile(rf"--\s*(?P<key>{KEYS})\s*:\s*(?P<value>.*?)\s*", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Script:
    """A file of SQL, and the directives in the comments at its top."""

    path: Path
    text: str
    checksum: str
    directives: dict[str, str]

    def finding(
        self, code: str, message: str, offset: int | None = None, fix: str | None = None
    ) -> Finding:
        """Return a finding about this file; with an offset it names and shows line and column."""
        file = project().relative(self.path)
        if offset is None:
            return Finding(code, message, file=file, fix=fix)
        line = self.text.count("\n", 0, offset) + 1
        start = self.text.rfind("\n", 0, offset) + 1
        shown = self.text[start:].partition("\n")[0].replace("\t", " ")
        column = offset - start + 1
        message = f"column {column}: {message}\n    {shown}\n    {' ' * (column - 1)}^"
        return Finding(code, message, file=file, line=line, fix=fix)


@dataclass(frozen=True)
class Migration:
    """One numbered pair of files; `rollback` is None where there is no such file."""

    id: str
    forward: Script
    rollback: Script | None

    @property
    def number(self) -> str:
        """The four digits at the start of the id."""
        return self.id[:4]

    @property
    def transactional(self) -> bool:
        """Whether its statements run in one transaction; the forward file says it for both."""
        return self.forward.directives.get("transactional", "true") == "true"

    def as_dict(self) -> dict[str, Any]:
        """Return what is pending as the JSON object that scripts/README.md documents."""
        return {
            "id": self.id,
            "file": project().relative(self.forward.path),
            "transactional": self.transactional,
            "sql": self.forward.text,
        }


def read_migrations(folder: Path) -> list[Migration]:
    """Read the folder's migrations, in order. Statements are split later, when they are needed.

    Raises
    ------
    ToolError : a finding for each file that is no migration, cannot be read, or misuses a directive
    """
    if not folder.is_dir():
        raise ToolError(Finding("bad-file", "there is no such folder", file=str(folder)))
    findings: list[Finding] = []
    scripts: dict[str, Script] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".sql", ".py"):
            continue
        try:
            scripts[path.name] = _read(path)
        except ToolError as error:
            findings += error.findings
    migrations: list[Migration] = []
    for name, script in scripts.items():
        if name.endswith(".rollback.sql"):
            if name.removesuffix(".rollback.sql") + ".sql" not in scripts:
                findings.append(script.finding("bad-name", "a rollback without its forward file"))
            continue
        id_ = name.removesuffix(".sql")
        migration = Migration(id_, script, scripts.get(f"{id_}.rollback.sql"))
        if migrations and migrations[-1].number == migration.number:
            findings.append(
                script.finding(
                    "bad-name",
                    f"has the number of {migrations[-1].id}",
                    fix="give it the next free number",
                )
            )
        findings += _check_directives(migration, {earlier.id for earlier in migrations})
        migrations.append(migration)
    if findings:
        raise ToolError(*findings)
    return migrations


def _read(path: Path) -> Script:
    name = path.name.removesuffix(".sql").removesuffix(".rollback")
    script = Script(path, "", "", {})
    if path.suffix != ".sql" or not NAME.fullmatch(name):
        message = "is not named NNNN.verb-object.sql"
        raise ToolError(script.finding("bad-name", message, fix="rename it, or move it elsewhere"))
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(script.finding("bad-file", f"cannot be read as UTF-8: {error}")) from None
    for character, word in (("\0", "a NUL byte"), ("\ufeff", "a byte-order mark")):
        if character in text:
            raise ToolError(script.finding("bad-file", f"contains {word}", fix="remove it"))
    return Script(path, text, hashlib.sha256(content).hexdigest(), _directives(text))


def _directives(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("--"):
            break
        if match := DIRECTIVE.fullmatch(line.strip()):
            earlier = found.get(match["key"])
            found[match["key"]] = f"{earlier} {match['value']}" if earlier else match["value"]
    return found


def _check_directives(migration: Migration, earlier: set[str]) -> list[Finding]:
    directives = migration.forward.directives
    findings = [
        migration.forward.finding(
            "bad-directive", f"depends on {name}, which is no earlier migration"
        )
        for name in directives.get("depends", "").split()
        if name not in earlier
    ]
    scripts = [script for script in (migration.forward, migration.rollback) if script]
    findings += [
        script.finding("bad-directive", f"{key}: directives are written in lowercase")
        for script in scripts
        for key in script.directives
        if key != key.lower()
    ]
    value = directives.get("transactional", "true")
    if value not in ("true", "false"):
        findings.append(
            migration.forward.finding(
                "bad-directive", f"transactional: {value} is neither true nor false"
            )
        )
    return findings
