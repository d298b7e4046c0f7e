"""The tools of a migration-first schema repository: `python -m scripts`."""

TOOL_VERSION = "0.1.0"
