"""The documents are true: every command they show is run, and prints what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scripts.__main__ import GROUPS, application
from scripts.settings import ROOT
from tests.support.commands import run


@pytest.fixture(scope="module")
def clone(module_folder: Path) -> Iterator[Path]:
    """A copy of the files that git knows, with this checkout's .venv and a server of its own."""
    folder = module_folder / "clone"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "requirements.lock"):
        os.utime(folder / name, (0, 0))  # else make would install the copy into this .venv
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "copy"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True)
    try:
        yield folder
    finally:
        shell("make clean", folder)


def shell(command: str, folder: Path) -> str:
    """Run a command as in a terminal where .venv is active, and return all it prints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SCHEMA_", "MAKE", "MFLAGS")) and "DATABASE_URL" not in name
    }
    environment["PATH"] = f"{folder}/.venv/bin:{environment['PATH']}"
    environment["PYTHONPATH"] = str(folder / "models")  # .venv's own path names the checkout
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def sessions(document: str) -> list[tuple[str, str]]:
    """Return the commands of a document's console blocks, each with the output shown for it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", document, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, rest = part.partition("\n")
            if here := re.search(r"<<'(\w+)'$", line):
                text, _, rest = rest.partition(f"\n{here[1]}\n")
                line = f"{line}\n{text}\n{here[1]}\n"
            found.append((line, rest))
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """Return what matches the output: numbers may differ, and `…` stands for any lines."""
    text = re.escape(shown.rstrip("\n"))
    text = re.sub(r"(\\?[\d,.:-])*\d(\\?[\d,.:-])*", r"[\\d,.:-]+", text)
    text = re.sub(r"(\\ )+", r"\\s+", text)
    text = text.replace("…\\\n", r"([\s\S]*\n)?").replace("…", r"[\s\S]*")
    return re.compile(text)


@pytest.mark.row("R26")
@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_command_that_is_shown_prints_what_is_shown(clone: Path, name: str) -> None:
    shell("git checkout -q . && git clean -fdq", clone)
    # The README begins with `make up`; the others find the server that it has left.
    shell("make clean" if name == "README.md" else "make up", clone)
    commands = sessions((ROOT / name).read_text("utf-8"))
    assert len(commands) >= 8
    for command, shown in commands:
        printed = shell(command, clone)
        assert pattern(shown).fullmatch(printed.rstrip("\n")), (
            f"$ {command}\n{printed}\n-- is shown as --\n{shown}"
        )


def test_every_command_is_in_the_contract_and_helps() -> None:
    contract = (ROOT / "scripts" / "README.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([a-z]+)[ `]", contract, re.MULTILINE))
    commands = {command for group in GROUPS.values() for command in group}
    assert commands <= listed
    app = application("")
    for group in GROUPS.values():
        for command in group:
            done = CliRunner().invoke(app, [command, "--help"])
            assert done.exit_code == 0
            (row,) = re.findall(rf"^\| `{command}[ `].*", contract, re.MULTILINE)[:1]
            for option in set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help", "--json"}:
                assert option in row, f"{command} {option} is not in scripts/README.md"


def test_every_code_of_a_finding_is_in_the_contract() -> None:
    contract = (ROOT / "scripts" / "README.md").read_text("utf-8")
    table = contract.partition("### Codes of findings")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", table))
    source = "\n".join(path.read_text() for path in (ROOT / "scripts").rglob("*.py"))
    used = set(re.findall(r'(?:refuse|Finding|finding)\(\s*"([a-z]+(?:-[a-z]+)*)"', source))
    assert len(used) > 15
    assert used <= documented


def test_help_lists_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for group in GROUPS.values():
        for command in group:
            assert re.search(rf"\b{command}\b", done.stdout)


OURS = [
    path
    for path in ROOT.glob("**/*.md")
    if not {"node_modules", ".venv", ".pytest_cache"} & set(path.parts)
]


@pytest.mark.parametrize("path", sorted(OURS), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target
