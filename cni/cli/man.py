"""podrail man: the manual page of this command, made of its parsers, as man(7) has it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import version

from cni.cli.tree import Command, commands
from cni.command import parser_of

_VARIABLES = {
    "PODRAIL_STATE_DIR": "where the journal and the file store are; default: /var/lib/cni/podrail",
    "PODRAIL_RUN_DIR": "where locks and the daemon's socket are; default: /run/podrail",
    "CNI_PATH, CNI_ARGS, CNI_NETNS, CNI_IFNAME, CNI_CONTAINERID": "count for plan, as a runtime sets them",
    "PODRAIL_HOST_PID": "the process that sees the paths of sandboxes, in a container; default: 1",
    "NODENAME": "the name of this node in its cluster",
    "NO_COLOR": "no colours, also on a terminal",
}


def parser() -> argparse.ArgumentParser:
    return parser_of(
        "man",
        "The manual page of this command, made of what --help tells.",
        statuses="0 done, 2 called wrongly",
        examples=("podrail man | man -l -", "podrail man >/usr/local/share/man/man1/podrail.1"),
    )


def main(arguments: list[str]) -> int:
    """Print the page."""
    parser().parse_args(arguments)
    sys.stdout.write("".join(f"{line}\n" for line in page(list(commands()))))
    return 0


def page(listed: list[Command]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield f'.TH PODRAIL 1 "" "podrail {version("podrail")}" "User Commands"'
    yield ".SH NAME"
    yield r"podrail \- CNI plugins for fast secondary networks in pods, and what looks after them"
    yield ".SH SYNOPSIS"
    yield r".B podrail"
    yield r"\fICOMMAND\fR [\fIOPTION\fR]..."
    yield ".SH COMMANDS"
    for command in listed:
        yield from _command(command)
    yield ".SH EXIT STATUS"
    yield "0 if all is well, 1 if it is not or it failed, 2 if the command was called wrongly;"
    yield "what that means for each stands with it."
    yield ".SH ENVIRONMENT"
    for name, meaning in _VARIABLES.items():
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(meaning))


def _command(command: Command) -> Iterator[str]:
    usage = [_usage(each) for each in command.options] + [_usage(each) for each in command.arguments]
    usage += [r"\fICOMMAND\fR"] if list(command.below) else []
    yield f'.SS "podrail {" ".join(command.words)}"'
    yield " ".join([rf"\fBpodrail {_text(' '.join(command.words))}\fR", *usage])
    yield ".PP"
    yield _text(" ".join((command.parser.description or command.help).split()))
    for each in command.actions:
        yield from (".TP", _heading(each), _text(" ".join((each.help or "").split())))
    status, _, examples = (command.parser.epilog or "").partition("\n\nexamples:\n")
    yield ".PP"
    yield _text(" ".join(status.split())) + "."
    if examples:
        yield ".PP"
        yield ".EX"
        for line in examples.splitlines():
            yield _text(line)
        yield ".EE"


def _usage(action: argparse.Action) -> str:
    told = _heading(action).split(r"\fR, ")[0]
    optional = bool(action.option_strings) or action.nargs in ("?", "*")
    return f"[{told}]" if optional else told


def _heading(action: argparse.Action) -> str:
    value = _text(str(action.metavar or action.dest.upper()))
    if not action.option_strings:
        return rf"\fI{value}\fR"
    taken = "" if action.nargs == 0 else rf" \fI{value}\fR"
    return ", ".join(rf"\fB{_text(name)}\fR" for name in action.option_strings) + taken


def _text(text: str) -> str:
    """Return a text in which nothing is a request or an escape."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...").replace("'", r"\(aq")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
