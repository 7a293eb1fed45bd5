"""The head that the parsers of all commands share: a description, the exit statuses, examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


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
