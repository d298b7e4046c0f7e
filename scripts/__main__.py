"""`python -m scripts COMMAND`: finds the tools' Python, loads one group of commands, runs it."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

GROUPS = {
    "scripts.cli.local": ("up", "down", "url", "reset", "clean"),
    "scripts.cli.run": ("plan", "migrate", "rollback"),
    "scripts.cli.migrations": ("status", "history", "seal", "new"),
    "scripts.cli.proof": ("verify", "render"),
    "scripts.cli.plans": ("plans",),
    "scripts.cli.neon": ("neon",),
    "scripts.cli.backup": ("backup", "restore", "export"),
    "scripts.cli.workload": ("seed", "bench"),
}


def main() -> None:
    """Run the command line; `scripts.output.command` turns errors into lines and exit statuses."""
    _use_project_python()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal's
    try:
        application(sys.argv[1] if len(sys.argv) > 1 else "")()
    except KeyboardInterrupt:
        sys.exit(130)


def application(command: str):  # type: ignore[no-untyped-def]  # typer is not imported yet
    """Return the application with the group of that command, or with all where none has it."""
    import typer  # noqa: PLC0415 (may only be there after _use_project_python)

    app = typer.Typer(
        help="The tools of this schema repository; scripts/README.md has the whole contract.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # without it a single command would lose its name
    group = [module for module, commands in GROUPS.items() if command in commands]
    for module in group or GROUPS:
        app.add_typer(import_module(module).app)
    return app


def _use_project_python() -> None:
    """Hand over to .venv's Python where this one lacks the tools' libraries."""
    if find_spec("typer") and find_spec("pglast"):
        return
    python = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"
    if not python.exists() or Path(sys.prefix) == python.parents[1]:
        sys.exit("error: the tools are not installed\n  fix: make setup")
    os.execv(python, [str(python), "-m", "scripts", *sys.argv[1:]])


if __name__ == "__main__":
    main()
