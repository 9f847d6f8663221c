"""The command `oms`: see `trading.oms.cli.program`."""

import contextlib
import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from trading.oms.cli.program import oms

        code = oms()
    except KeyboardInterrupt:  # Ctrl-C while the program was still being loaded.
        sys.stderr.write("error: stopped\n")
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    # A plain exit of a program that used the Temporal SDK sometimes aborts in its shutdown.
    os._exit(code)
