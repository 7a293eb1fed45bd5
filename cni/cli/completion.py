"""podrail completion: what lets a shell complete this command, its options and their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from cni.cli.tree import Command, commands
from cni.command import parser_of

SHELLS = ("bash", "zsh")
_FILES = ("FILE", "DIR", "PATH")

# One function over a table; zsh runs it as well, by its own emulation of bash's completion.
_FUNCTION = r"""
_podrail() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words= at=1
    COMPREPLY=()
    while [ "$at" -lt "$COMP_CWORD" ]; do
        case "$words${words:+ }${COMP_WORDS[at]}" in
            @COMMANDS@) words="$words${words:+ }${COMP_WORDS[at]}" ;;
        esac
        at=$((at + 1))
    done
    case "$words:$previous" in
@VALUES@
    esac
    case "$words" in
@WORDS@
    esac
}
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def parser() -> argparse.ArgumentParser:
    made = parser_of(
        "completion",
        "Completion of this command for a shell: of commands, options and their values.",
        statuses="0 done, 2 called wrongly",
        examples=(
            "podrail completion bash >/etc/bash_completion.d/podrail",
            "podrail completion zsh >>~/.zshrc",
        ),
    )
    made.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    return made


def main(arguments: list[str]) -> int:
    """Print the script."""
    parsed = parser().parse_args(arguments)
    sys.stdout.write(script(parsed.shell, list(commands())))
    return 0


def script(shell: str, listed: list[Command]) -> str:
    """Return what the shell reads."""
    names = " | ".join(f'"{" ".join(each.words)}"' for each in listed)
    top = " ".join([*(each.words[0] for each in listed if len(each.words) == 1), "--help", "--version"])
    values = [line for each in listed for line in _values(each)]
    words = [_case("", top), *(_case(" ".join(each.words), _words(each), _files(each)) for each in listed)]
    function = (
        _FUNCTION.replace("@COMMANDS@", names)
        .replace("@VALUES@", "\n".join(values))
        .replace("@WORDS@", "\n".join(words))
    )
    return f"{_ZSH if shell == 'zsh' else ''}{function.lstrip()}complete -F _podrail podrail\n"


def _words(command: Command) -> str:
    """Return what may stand there: options, commands, arguments of which all values are known."""
    options = [name for each in command.options for name in each.option_strings if name.startswith("--")]
    values = [str(value) for each in command.arguments for value in each.choices or ()]
    return " ".join([*(each.words[-1] for each in command.below), *values, *options, "--help"])


def _files(command: Command) -> bool:
    return any(_is_file(each) for each in command.arguments)


def _values(command: Command) -> Iterable[str]:
    """Yield a case for each option that takes a value: known values, files, or nothing."""
    for each in command.options:
        if each.nargs == 0:
            continue
        patterns = " | ".join(f'"{" ".join(command.words)}:{name}"' for name in each.option_strings)
        known = " ".join(str(value) for value in each.choices or ())
        yield f"        {patterns}) {_reply(known, with_files=_is_file(each))}; return ;;"


def _case(words: str, known: str, with_files: bool = False) -> str:
    return f'        "{words}") {_reply(known, with_files=with_files)} ;;'


def _reply(known: str, *, with_files: bool) -> str:
    files = "-f " if with_files else ""
    return f"""COMPREPLY=($(compgen {files}-W '{known}' -- "$current"))"""


def _is_file(action: argparse.Action) -> bool:
    return str(action.metavar or "") in _FILES
