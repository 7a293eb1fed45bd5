"""What all commands share: the head of their parsers, and how a failure is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cni.protocol.errors import CniError


def parser_of(
    name: str,
    about: str,
    *,
    statuses: str = "0 done, 1 it failed, 2 called wrongly",
    examples: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Return the parser of `podrail NAME`; `about` is a sentence, `examples` are lines of shell."""
    epilog = f"exit status: {statuses}\n"
    if examples:
        epilog += "\nexamples:\n" + "".join(f"  {line}\n" for line in examples)
    return argparse.ArgumentParser(
        prog=f"podrail {name}",
        description=about,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


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
