"""Where a benchmark has its files: on a disk of its own, which is as a node's is.

A machine for tests may have an ext4 without a journal. There, whoever makes a file first passes by every
file of the last minute that is gone, and a benchmark makes and removes thousands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.disk import mounted

_CACHE = Path(__file__).parents[1] / ".cache"
_BYTES = 1 << 30  # as many as are written to, of a sparse file


@contextmanager
def workshop(state: Path | None = None) -> Iterator[Path]:
    """Make a directory on a new disk, or below `state`; it goes with the block."""
    _CACHE.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=state or _CACHE)))
        if state:
            yield folder
            return
        try:
            disk = stack.enter_context(mounted(folder, _BYTES))
        except pytest.skip.Exception as missing:
            raise SystemExit(str(missing)) from None
        yield disk.place
