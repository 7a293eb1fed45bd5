"""All commands with their options, from their parsers: what completion and the manual are made of."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from cni.protocol import registry


@dataclass(frozen=True)
class Command:
    """A command, or a command of a command: `words` are `("ipam", "show")`."""

    words: tuple[str, ...]
    help: str
    parser: argparse.ArgumentParser

    @property
    def actions(self) -> list[argparse.Action]:
        """Its options and arguments; `--help` is everyone's."""
        skipped = (argparse._HelpAction, argparse._SubParsersAction)
        return [each for each in self.parser._actions if not isinstance(each, skipped)]

    @property
    def options(self) -> list[argparse.Action]:
        return [each for each in self.actions if each.option_strings]

    @property
    def arguments(self) -> list[argparse.Action]:
        return [each for each in self.actions if not each.option_strings]

    @property
    def below(self) -> Iterator[Command]:
        for action in self.parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                told = {each.dest: each.help or "" for each in action._choices_actions}
                for name, parser in action.choices.items():
                    yield Command((*self.words, name), told.get(name, ""), parser)


def commands() -> Iterator[Command]:
    """Yield every command, those of others after them."""
    for name, help_text in registry.COMMANDS.items():
        made = Command((name,), help_text, registry.load_parser(name))
        yield made
        yield from made.below
