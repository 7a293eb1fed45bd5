"""Steps that are all tried although an earlier one failed, as DEL and GC must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cni.protocol.errors import CniError, Code


@contextmanager
def collected(failures: list[CniError]) -> Iterator[None]:
    """Put a failure of the block on a list instead of raising it."""
    try:
        yield
    except CniError as error:
        failures.append(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        failures.append(CniError(f"{where}{error.strerror}", fix="Call again.", code=Code.IO_FAILURE))
