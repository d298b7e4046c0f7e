"""The workflows: what they may do, and what their scripts do when bash runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from scripts.__main__ import application
from scripts.settings import ROOT
from tests.support.workflows import CONTEXT, FILES, FLOWS, HOSTILE, JOBS, RUNS, Runner, step_of

pytestmark = pytest.mark.row("R27")

OURS = "github.event.pull_request.head.repo.full_name == github.repository"


def test_the_four_workflows_are_those_that_are_documented() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.partition("## What CI does with a pull request\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z-]+)\.yml`", section)) == set(FILES)
    used = {
        n for p in FILES.values() for n in re.findall(r"(?:secrets|vars)\.(\w+)", p.read_text())
    }
    used |= {job["environment"] for job in JOBS.values() if "environment" in job}
    assert {name for name in used if f"`{name}`" not in section} == set()


@pytest.mark.parametrize("linter", ["actionlint", "zizmor --offline --persona=pedantic"])
def test_the_linters_find_nothing_and_would(linter: str, tmp_path: Path) -> None:
    program, *options = linter.split()
    command = [str(Path(sys.executable).with_name(program)), *options]

    def lint(*files: Path) -> int:
        return subprocess.run(
            [*command, *map(str, files)], capture_output=True, check=False
        ).returncode

    assert lint(*FILES.values()) == 0
    wrong = tmp_path / "ci.yml"
    wrong.write_text(
        FILES["ci"].read_text().replace("run: .ci/run", "run: echo ${{ github.head_ref }}")
    )
    assert lint(wrong) != 0


@pytest.mark.parametrize("name", FLOWS)
def test_a_workflow_has_no_rights_of_its_own(name: str) -> None:
    flow, text = FLOWS[name], FILES[name].read_text()
    triggers = flow[True]  # YAML 1.1 takes `on` for a boolean
    assert "pull_request_target" not in triggers
    assert "workflow_run" not in triggers
    assert flow["permissions"] == {}
    assert flow["defaults"]["run"]["shell"] == "bash"
    uses = re.findall(r"uses: (.*)", text)
    assert [
        use for use in uses if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)
    ] == []
    # A secret is for one step: no job and no workflow has it in its environment.
    assert "env" not in flow


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_bounded_and_has_what_it_needs(name: str) -> None:
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 360
    assert "env" not in job
    written = [what for what, right in job["permissions"].items() if right != "read"]
    assert written == (["pull-requests"] if name == "neon-branch comment" else [])
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    # The key is an environment's, and a fork's pull request does not get as far.
    trusted = "secrets." in json.dumps(job)
    assert trusted == ("environment" in job)
    if name.startswith("neon-branch") and trusted:
        assert f"&& {OURS}" in job["if"]
    if written:
        assert not trusted
        assert not [s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout")]


@pytest.mark.parametrize(("name", "step"), RUNS, ids=[f"{n}: {s['run'][:20]}" for n, s in RUNS])
def test_no_value_is_written_into_a_script(name: str, step: dict[str, Any]) -> None:
    assert "${{" not in step["run"], name
    used = "secrets." in json.dumps(step)
    assert used == ("python -m scripts neon" in step["run"])


# What bash does.

PAGE = f"# Neon check\n\n```sql\nselect '$HOME', \"${{GH_TOKEN}}\", {HOSTILE!r};\n```\n"
MARKED = "<!-- neon-check -->\n"
RUN = "https://github.example/our/todo/actions/runs/12"


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    folder = tmp_path / "work"
    folder.mkdir()
    return Runner(folder)


COMMENT = step_of("neon-branch comment", "gh api")
PRUNE = step_of("prune prune", "gh api")
DEPLOY = step_of("deploy deploy", "neon deploy")


def comment(id_: int, login: str, body: str) -> dict[str, Any]:
    return {"id": id_, "user": {"login": login}, "body": body}


def test_the_page_becomes_one_comment_that_later_pages_replace(runner: Runner) -> None:
    bot = "github-actions[bot]"
    # Ours is on the second page of the list; others only look like it.
    others = [comment(n, "somebody", f"{MARKED}mine") for n in range(120)]
    others.append(comment(500, bot, f"another workflow's, which quotes {MARKED}"))
    runner.write(comments=others)
    report = runner.folder / "neon-check.md"
    foot = f"\nChecked: {CONTEXT['github.event.pull_request.head.sha']}, {RUN}\n"
    for page in (PAGE, PAGE + "\nagain\n", "é" * 60_000 + "\n"):
        report.write_text(page, "utf-8")
        done = runner.run(COMMENT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        *left, ours = runner.github["comments"]
        assert left == others
        assert ours == comment(900, bot, MARKED + page + foot)
    methods = [call[call.index("--method") + 1] for call in runner.github["calls"][1::2]]
    assert methods == ["POST", "PATCH", "PATCH"]
    assert {p.name for p in runner.folder.iterdir()} == {
        *("bin", ".venv", "github.json", "neon-check.md", "comment.md")
    }


def test_of_two_comments_the_first_is_replaced(runner: Runner) -> None:
    bot = "github-actions[bot]"
    runner.write(comments=[comment(n, bot, f"{MARKED}{n}") for n in (1, 2)])
    (runner.folder / "neon-check.md").write_text(PAGE)
    assert runner.run(COMMENT).returncode == 0
    first, second = runner.github["comments"]
    assert PAGE in first["body"]
    assert second["body"] == f"{MARKED}2"


def test_a_list_of_comments_that_fails_makes_no_second_comment(runner: Runner) -> None:
    there = [comment(n, "somebody", "x") for n in range(101)]
    runner.write(comments=there, fails=1)
    (runner.folder / "neon-check.md").write_text(PAGE)
    assert runner.run(COMMENT).returncode != 0
    assert runner.github["comments"] == there


@pytest.mark.parametrize("count", [0, 1, 250])
def test_branches_of_open_pull_requests_are_named(runner: Runner, count: int) -> None:
    numbers = list(range(1, count + 1))
    pulls = [{"number": n, "title": HOSTILE, "head": {"ref": HOSTILE}} for n in numbers]
    runner.write(pulls=pulls)
    done = runner.run(PRUNE)
    assert (done.returncode, done.stderr) == (0, "")
    opened = [word for n in (0, *numbers) for word in ("--open", str(n))]
    assert runner.called == [["-m", "scripts", "neon", "branch", "prune", *opened]]
    assert not (runner.folder / "pwned").exists()


@pytest.mark.parametrize("page", [0, 1])
def test_nothing_is_pruned_where_the_list_is_not_whole(runner: Runner, page: int) -> None:
    runner.write(pulls=[{"number": n} for n in range(150)], fails=page)
    done = runner.run(PRUNE)
    assert done.returncode != 0
    assert "HTTP 502" in done.stderr
    assert runner.called == []


@pytest.mark.parametrize("to", ["", "0017", "0017.add-tasks-estimate"])
def test_a_deployment_goes_to_the_migration_that_is_named(runner: Runner, to: str) -> None:
    assert runner.run(DEPLOY, **{"inputs.to": to}).returncode == 0
    wanted = ["--to", to] if to else []
    assert runner.called == [["-m", "scripts", "neon", "deploy", "--yes", *wanted]]


@pytest.mark.parametrize(
    "to", [HOSTILE, "--help", "17", "0017 --branch x", "0017\n", "$(touch pwned)"]
)
def test_what_is_no_migration_is_not_deployed(runner: Runner, to: str) -> None:
    done = runner.run(DEPLOY, **{"inputs.to": to})
    assert done.returncode == 2
    assert done.stdout.startswith("::error::")
    assert runner.called == []
    assert not (runner.folder / "pwned").exists()


SCRIPTS = [step for _, step in RUNS if "python -m scripts" in step["run"]]


@pytest.mark.parametrize(
    "step", SCRIPTS, ids=lambda step: re.search(r"scripts (.*)", step["run"])[1]
)
def test_each_command_is_one_of_the_tools(runner: Runner, step: dict[str, Any]) -> None:
    runner.write(pulls=[{"number": 1}, {"number": 7}])
    assert runner.run(step, **{"inputs.to": "0017"}).returncode == 0
    ((module, scripts, *words),) = runner.called
    assert (module, scripts) == ("-m", "scripts")
    command: Any = get_command(application(words[0]))
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("", words)  # a usage error where it has no such option or argument
