"""What all commands of podrail share: the head of their parsers, how failures and progress are told."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import fill
from typing import Any

from cni.protocol.errors import CniError

_WIDTH = 88  # characters; examples and exit statuses are kept as they are written
STATUSES = "0 done, 1 it failed, 2 called wrongly"


def head(about: str, *, statuses: str = STATUSES, examples: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a parser is made with: a sentence, the exit statuses, examples as lines of shell."""
    epilog = f"exit status: {statuses}\n"
    if examples:
        epilog += "\nexamples:\n" + "".join(f"  {line}\n" for line in examples)
    return {
        "description": fill(about, _WIDTH),
        "epilog": epilog,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,  # what is short for one option today may be so for two tomorrow
    }


def parser_of(
    name: str, about: str, *, statuses: str = STATUSES, examples: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Return the parser of `podrail NAME`."""
    made = head(about, statuses=statuses, examples=examples)
    return argparse.ArgumentParser(prog=f"podrail {name}", **made)


@contextmanager
def told(name: str) -> Iterator[list[str]]:
    """Say on stderr what kept the block from ending, and keep it in the list that is yielded."""
    failed: list[str] = []
    try:
        yield failed
    except CniError as error:
        failed.append(f"{error.msg}. {error.details}".rstrip())
    except OSError as error:
        failed.append(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    for sentence in failed:
        sys.stderr.write(f"podrail {name}: {sentence}\n")


def printable(text: str) -> str:
    """Return a text that a terminal only shows: logs and bundles may come from anywhere."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """Say on a terminal what is being done, until it is; a pipe or a file hears nothing of it."""
    is_shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if is_shown:
        sys.stderr.write(f"\r\x1b[K{doing} …")
        sys.stderr.flush()
    try:
        yield
    finally:
        if is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
