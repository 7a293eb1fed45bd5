"""podrail: find mistakes, look inside, install, and serve the static clients of a node.

Each command has a parser of its own, in its own module: only that of the one that is called is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version

from cni.command import head
from cni.protocol import registry

# Those that look at sandboxes, whose paths are the host's.
_LOOKING = ("show", "plan", "verify", "bundle", "report", "trace", "reclaim", "doctor", "ipam")


def parser() -> argparse.ArgumentParser:
    """Return the parser that knows the commands by name."""
    made = argparse.ArgumentParser(
        prog="podrail",
        **head(
            "Find mistakes in pods' networks, look at what a node's plugins hold, install them, serve them.",
            statuses="0 all is well, 1 it is not or it failed, 2 called wrongly",
            examples=(
                "podrail lint /etc/cni/net.d",
                "podrail doctor",
                "podrail plan 10-rail.conflist",
                "podrail show",
                "podrail COMMAND --help",
            ),
        ),
    )
    made.add_argument("--version", action="version", version=f"podrail {version('podrail')}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in registry.COMMANDS.items():
        commands.add_parser(name, help=help_text, add_help=False)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    told = sys.argv[1:] if arguments is None else arguments
    if not told or told[0] not in registry.COMMANDS:
        parser().parse_args(told)  # which says what is wrong, or helps, and exits
    try:
        command = registry.load_command(told[0])
        if told[0] not in _LOOKING:
            return command(told[1:])
        from cni.cli.host import sandboxes_of_the_host  # 10 ms that the others do without

        with sandboxes_of_the_host(os.environ):
            return command(told[1:])
    except KeyboardInterrupt:
        return 130  # as of a process that SIGINT ends
    except BrokenPipeError:  # such as `podrail show | head -1`
        sys.stdout = None  # the interpreter would flush it, and fail again
        return 141
