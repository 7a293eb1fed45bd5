"""Containers of which nothing is left, for an hour: runtimes call DEL again, and need not wait for answers.

An empty file each in `/run`, which a reboot clears. Losing one costs a question to the cluster, no more.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cni import durable
from cni.plugins.multus.config import MultusConf
from cni.protocol.request import Request

_SECONDS = 3600.0
_MANY = 512  # files, from which on old ones are looked for


@dataclass(frozen=True)
class Deleted:
    """Whether a container's DEL is complete, or its ADD left nothing."""

    path: Path

    @classmethod
    def of(cls, request: Request, conf: MultusConf) -> Deleted:
        # Of this state alone: another knows of other attachments.
        state = durable.state_directory(request.environment)
        name = "\0".join((str(state), conf.cni_dir, request.network.name, request.container_id))
        folder = durable.run_directory(request.environment) / "deleted" / "multus"
        return cls(folder / hashlib.sha256(os.fsencode(name)).hexdigest()[:32])

    @property
    def is_so(self) -> bool:
        with suppress(OSError):
            return time.time() - self.path.stat().st_mtime < _SECONDS
        return False

    def note(self) -> None:
        with suppress(OSError):  # as without it
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self._tidy()

    def forget(self) -> None:
        with suppress(OSError):
            self.path.unlink()

    def _tidy(self) -> None:
        entries = list(os.scandir(self.path.parent))
        if len(entries) > _MANY:
            oldest = time.time() - _SECONDS
            for entry in entries:
                with suppress(OSError):  # another call was faster
                    if entry.stat().st_mtime < oldest:
                        Path(entry.path).unlink()
