"""The log that `logFile`, `logLevel` and `logToStderr` ask for, in Multus' words, which people search for.

A line for each attachment and detachment at the level `verbose`, and each failure at `error`. A file
that has grown to `maxSize` is put aside under the time's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cni.log_file import Rotation, append
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.record import Called
from cni.protocol.errors import CniError
from cni.protocol.notes import note, say
from cni.protocol.request import Request

_LEVELS = ("panic", "error", "verbose", "debug")


@dataclass(frozen=True)
class Log:
    """Where the lines of one call go."""

    request: Request
    path: str
    level: str
    to_stderr: bool
    rotation: Rotation

    @classmethod
    def of(cls, request: Request, conf: MultusConf) -> Log:
        level = (conf.log_level or "panic").lower()
        if level not in _LEVELS:
            note(request.network.name, f'"logLevel" is "{level}", which is none of {", ".join(_LEVELS)}')
            level = "panic"
        options = conf.log_options
        rotation = Rotation(
            max_size=options.max_size or 0,
            max_age=options.max_age or 0,
            max_backups=options.max_backups or 0,
            compress=options.compress,
        )
        return cls(request, conf.log_file or "", level, conf.log_to_stderr, rotation)

    def added(self, called: Called) -> None:
        if self._wants("verbose"):
            self._write("verbose", f"Add: {self._named(called)} {json.dumps(called.result)}")

    def deleted(self, called: Called) -> None:
        if self._wants("verbose"):
            self._write("verbose", f"Del: {self._named(called)} {json.dumps(called.config)}")

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Write down why the block fails, if it does."""
        try:
            yield
        except CniError as error:
            if self._wants("error"):
                about = f"{self.request.command} of {self.request.attachment or self.request.network.name}"
                self._write("error", f"{about}: {error.msg}. {error.details}".rstrip())
            raise

    def _named(self, called: Called) -> str:
        """Return `namespace:pod:uid:network(configuration's name):interface`."""
        pairs = (pair.partition("=") for pair in called.cni_args.split(";"))
        args = {key: value for key, _, value in pairs}
        keys = ("K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID")
        pod = ":".join(args.get(key, "") for key in keys)
        return f"{pod}:{called.name}({called.chain.name}):{called.ifname}"

    def _wants(self, level: str) -> bool:
        return (self.to_stderr or bool(self.path)) and _LEVELS.index(level) <= _LEVELS.index(self.level)

    def _write(self, level: str, text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        line = f"{now} [{level}] {text}\n"
        if self.to_stderr:
            say(line)
        if self.path:
            try:
                append(Path(self.path), line.encode("utf-8", "backslashreplace"), self.rotation)
            except OSError as error:
                note(self.request.network.name, f'"logFile" {self.path}: {error.strerror}')
