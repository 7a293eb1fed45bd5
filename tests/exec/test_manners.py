"""How the command behaves at a prompt: help, examples, completion, manual, colours, pipes."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cni.cli.completion import script
from cni.cli.main import parser as top
from cni.cli.tree import Command, commands
from tests.support.world import BIN

PODRAIL = BIN / "podrail"
COMMANDS = list(commands())


def examples(command: Command) -> list[list[str]]:
    """The words of each example of a command's own help, without what the shell does with them."""
    _, _, listed = (command.parser.epilog or "").partition("examples:\n")
    found = []
    for line in listed.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|><&")
        lexer.commenters, lexer.whitespace_split = "#", True
        words: list[str] = []
        for word in [*lexer, "|"]:
            if word[0] in "|>&<":
                if words[:1] == ["podrail"]:
                    found.append(words[1:])
                words = ["", ""] if word[0] in "><" else []
            elif words[:1] != [""]:
                words.append(word)
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command.words))
def test_help_has_exit_statuses_and_examples_that_are_right(command: Command) -> None:
    text = command.parser.format_help()
    assert "exit status: 0 " in text
    assert re.search(r"\n\n\w(?:.+\n)*.*[.]\n\n", text), "a sentence says what it does"
    shown = examples(command)
    assert shown, "it has no example"
    for words in shown:
        own = words[: len(command.words)] == list(command.words)
        assert own or words[-1] in ("--help",) or words[0] in {each.words[0] for each in COMMANDS}
        if own and "COMMAND" not in words:
            command.parser.parse_args(words[len(command.words) :])
    for action in command.actions:
        assert action.help, f"{action.dest} is not explained"


def test_every_command_is_listed_with_what_it_is_for() -> None:
    text = top().format_help()
    for command in COMMANDS:
        if len(command.words) == 1:
            assert f"\n    {command.words[0]}" in text
            assert command.help


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["show", "--frob"], ["ipam"], ["plan"]])
def test_a_wrong_call_says_so_and_exits_with_2(arguments: list[str]) -> None:
    done = subprocess.run([PODRAIL, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: podrail")


def test_help_and_version_load_nothing_that_a_command_needs() -> None:
    code = (
        "import sys; from cni.cli.main import main\n"
        "try: main(['--version'])\n"
        "finally: print(sorted({'pydantic', 'yaml', 'h11'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1] == "[]", done


# -- completion ------------------------------------------------------------------------------------


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    quoted = " ".join(shlex.quote(word) for word in words)
    code = f"{script('bash', COMMANDS)}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _podrail\n"
    done = subprocess.run(
        ["bash", "-c", f'{code}printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(("podrail", "ver"), ["verify"], id="a-command"),
        pytest.param(("podrail", "plan", "--cap"), ["--capabilities"], id="an-option"),
        pytest.param(("podrail", "lint", "--format", ""), ["json", "sarif", "text"], id="an-options-values"),
        pytest.param(("podrail", "schemas", "mac"), ["macvlan"], id="an-arguments-values"),
        pytest.param(("podrail", "ipam", "ex"), ["explain"], id="a-command-of-a-command"),
        pytest.param(("podrail", "ipam", "release", "--y"), ["--yes"], id="an-option-of-that"),
        pytest.param(("podrail", "plan", "--json", "--netn"), ["--netns"], id="behind-another-option"),
        pytest.param(("podrail", "show", "--frob"), [], id="nothing"),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_bash_completes_every_command() -> None:
    assert set(completed("podrail", "")) == {
        *(command.words[0] for command in COMMANDS),
        "--help",
        "--version",
    }


def test_bash_completes_files_where_files_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "10-rail.conflist").touch()
    monkeypatch.chdir(tmp_path)
    assert completed("podrail", "plan", "10-") == ["10-rail.conflist"]
    assert completed("podrail", "report", "--bundle", "10-") == ["10-rail.conflist"]
    assert completed("podrail", "show", "10-") == []


@pytest.mark.skipif(not shutil.which("zsh"), reason="needs zsh: apt-get install zsh")
def test_zsh_reads_its_completion() -> None:
    done = subprocess.run(["zsh", "-n"], input=script("zsh", COMMANDS), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# -- the manual ------------------------------------------------------------------------------------


def manual() -> str:
    return subprocess.run([PODRAIL, "man"], capture_output=True, text=True, check=True).stdout


def test_the_manual_has_every_command_and_option() -> None:
    text = manual().replace(r"\-", "-")
    for command in COMMANDS:
        _, _, section = text.partition(f'.SS "podrail {" ".join(command.words)}"\n')
        section = section.partition("\n.S")[0]
        assert section, command.words
        for option in command.options:
            assert all(rf"\fB{name}\fR" in section for name in option.option_strings), option


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff: apt-get install groff-base")
def test_the_manual_is_typeset_without_a_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou"],
        input=manual(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "podrail plan" in done.stdout


# -- terminals and pipes ---------------------------------------------------------------------------


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """Run the command with a terminal for stdout, and return what came there."""
    mine, its = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", **variables}
    subprocess.run([PODRAIL, *arguments], stdout=its, stderr=subprocess.DEVNULL, env=environment, check=False)
    os.close(its)
    told = b""
    while True:
        try:
            told += os.read(mine, 1 << 16)
        except OSError:  # as a terminal says that nobody is there any more
            os.close(mine)
            return told.decode()


def test_colours_are_for_terminals_whose_owner_wants_them(tmp_path: Path) -> None:
    arguments = ("doctor", "--root", str(tmp_path), "--bin-dir", "/nowhere")
    assert "\x1b[31merror" in on_a_terminal(*arguments)
    assert "\x1b" not in on_a_terminal(*arguments, NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(*arguments, TERM="dumb")
    piped = subprocess.run([PODRAIL, *arguments], capture_output=True, text=True, check=False)
    assert "\x1b" not in piped.stdout + piped.stderr


def test_a_pipe_that_is_closed_is_no_traceback() -> None:
    command = f"{PODRAIL} man | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(".TH PODRAIL")
    assert done.stderr == ""
