"""The reference page of the command line, made from the help of its commands."""

import click

from trading.oms.cli.failures import MEANINGS
from trading.oms.cli.program import program

_WIDTH = 96
_SOURCES = (
    "Commands work with what the environment names (see `settings.md`), and without that with the "
    "stack that `oms up` has left running. Errors go to stderr in one line; `--json` prints one "
    "JSON document on stdout (`watch --json` one for each event), in which amounts are text with "
    "every digit and times are in UTC.\n"
)


def reference() -> str:
    """The page in Markdown."""
    top = click.Context(program, info_name="oms", terminal_width=_WIDTH, **program.context_settings)
    lines = ["# The command line\n", _SOURCES, _help(top)]
    for name in program.list_commands(top):
        command = program.commands[name]
        context = click.Context(command, info_name=name, parent=top)
        lines += [f"\n## oms {name}\n", _help(context)]
        if isinstance(command, click.Group):
            for part in command.list_commands(context):
                below = click.Context(command.commands[part], info_name=part, parent=context)
                lines += [f"\n### oms {name} {part}\n", _help(below)]
    lines += ["\n## Exit codes\n", "| code | meaning |", "|---|---|"]
    lines += [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(lines) + "\n"


def _help(context: click.Context) -> str:
    return f"```text\n{context.command.get_help(context).rstrip()}\n```"
