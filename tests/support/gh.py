"""Stands for GitHub's `gh api`, which tests cannot have: pull requests and comments in a folder.

It takes the options that the workflows use and refuses others. `--jq` is jq's work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Who comments with a workflow's own token.
BOT = {"login": "github-actions[bot]"}


def main() -> None:
    parser = argparse.ArgumentParser("gh", allow_abbrev=False)
    parser.add_argument("api", choices=["api"])
    parser.add_argument("path")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--field", default="")
    parser.add_argument("--jq", default=".")
    parser.add_argument("--paginate", action="store_true")
    parser.add_argument("--silent", action="store_true")
    options = parser.parse_args()
    if not os.environ.get("GH_TOKEN"):
        sys.exit("gh: set the GH_TOKEN environment variable")
    place = Path(os.environ["GITHUB"])
    github = json.loads(place.read_text("utf-8"))
    github["calls"].append(sys.argv[1:])
    try:
        respond(github, options)
    finally:
        place.write_text(json.dumps(github), "utf-8")


def respond(github: dict[str, Any], options: argparse.Namespace) -> None:
    """Do what is asked, and print the answer, page by page."""
    address = urlsplit(options.path)
    match = re.fullmatch(r"repos/our/todo/(pulls|issues/(7/)?comments(/\d+)?)", address.path)
    if not match:
        sys.exit("gh: Not Found (HTTP 404)")
    what = (options.method, match[1])
    if options.method == "GET":
        found = github["pulls" if match[1] == "pulls" else "comments"]
        size = int(parse_qs(address.query)["per_page"][0])
        for start in range(0, max(len(found), 1), size):
            if start and not options.paginate:
                return
            if start // size == github["fails"]:
                sys.exit("gh: Bad Gateway (HTTP 502)")
            page = json.dumps(found[start : start + size])
            subprocess.run(["jq", "-r", options.jq], input=page, text=True, check=True)
    elif what == ("POST", "issues/7/comments"):
        github["comments"].append({"id": 900, "user": BOT, "body": body(options)})
    elif what[0] == "PATCH" and match[3]:
        (comment,) = (c for c in github["comments"] if c["id"] == int(match[3][1:]))
        comment["body"] = body(options)
    else:
        sys.exit("gh: Not Found (HTTP 404)")


def body(options: argparse.Namespace) -> str:
    """Return the field `body`, which is read from a file."""
    name, _, file = options.field.partition("=@")
    text = Path(file).read_text("utf-8")
    if name != "body" or len(text) > 65536:
        sys.exit("gh: Validation Failed (HTTP 422)")
    return text


if __name__ == "__main__":
    main()
