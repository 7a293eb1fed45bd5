"""Give back what a failed ADD took, newest first, also if a signal ends it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cni.protocol.signals import too_late as too_late  # parts of undoing to those who undo
from cni.protocol.signals import uninterrupted as uninterrupted

_RESERVE = 2 << 20  # bytes for undoing; only addresses: no page of a mapping is there until it is touched


@contextmanager
def undo_on_error() -> Iterator[ExitStack]:
    """If the block fails, run the registered callbacks, newest first, and re-raise.

    A callback that fails too becomes a note on the first error.
    """
    undo = ExitStack()
    with mmap.mmap(-1, _RESERVE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as reserve:
        try:
            yield undo
        except BaseException as error:
            reserve.close()  # what failed may have failed for lack of memory
            try:
                undo.close()
            except Exception as second:
                error.add_note(f"While undoing: {second}.")
            raise
