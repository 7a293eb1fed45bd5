"""Which boot of the machine this is: what sandboxes do not survive, and what is told from leftovers by it."""

from __future__ import annotations

from functools import cache

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@cache
def boot_id() -> str:
    """Return the text that this boot has and no other (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()
