"""The commands: the arguments of each, and the function that runs it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from agentsession._cli.demo import demo
from agentsession._cli.migrate import migrate_sessions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agentsession", description="Persistent LLM agent sessions."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "demo",
        help="hold a conversation across four processes, one of which is killed",
        description="Runs offline with the echo provider. AGENTSESSION_CLIENT=anthropic:claude-… asks a real "
        "model with the key from its usual environment variable.",
    ).set_defaults(run=lambda _: demo())
    migrate = commands.add_parser(
        "migrate",
        help="move the sessions of a model from documents to rows, or back",
        description='The model is declared with messages="rows" and has its @agent_message, also to move '
        "back. Each session is moved in a transaction of its own: stop it and run it again as you like, also "
        "beside running turns.",
    )
    migrate.add_argument("model", metavar="module:Model", help="the session model, as app.models:ChatAgent")
    migrate.add_argument(
        "--to", choices=("document", "rows"), default="rows", help="the layout to move to (rows)"
    )
    migrate.add_argument(
        "--batch", type=int, default=100, metavar="N", help="ids that are read at once (100)"
    )
    migrate.add_argument("--dry-run", action="store_true", help="write nothing, tell what would be moved")
    migrate.set_defaults(run=_migrate)
    return parser


def _migrate(options: argparse.Namespace) -> int:
    return migrate_sessions(options.model, options.to, options.batch, dry_run=options.dry_run)
