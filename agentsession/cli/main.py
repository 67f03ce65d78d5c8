"""Which command was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agentsession.cli.demo import demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m agentsession", description="Persistent LLM agent sessions."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "demo",
        help="hold a conversation across four processes, one of which is killed",
        description="Runs offline with the echo provider. AGENTSESSION_CLIENT=anthropic:claude-… asks a real "
        "model with the key from its usual environment variable.",
    )
    parser.parse_args(arguments)
    return demo()
