"""The log that `logFile`, `logLevel` and `logToStderr` ask for, in Multus' words, which people search for.

A line for each attachment and detachment at the level `verbose`, and each failure at `error`. A file
that has grown to `maxSize` is put aside under the time's name.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cni.plugins.multus.config import LogOptions, MultusConf
from cni.plugins.multus.record import Called
from cni.protocol.errors import CniError
from cni.protocol.notes import note, say
from cni.protocol.request import Request

_LEVELS = ("panic", "error", "verbose", "debug")
_MEGABYTE = 1024 * 1024
_DAY_SECONDS = 86400
_FILE_MODE = 0o600


@dataclass(frozen=True)
class Log:
    """Where the lines of one call go."""

    request: Request
    path: str
    level: str
    to_stderr: bool
    options: LogOptions

    @classmethod
    def of(cls, request: Request, conf: MultusConf) -> Log:
        level = (conf.log_level or "panic").lower()
        if level not in _LEVELS:
            note(request.network.name, f'"logLevel" is "{level}", which is none of {", ".join(_LEVELS)}')
            level = "panic"
        return cls(request, conf.log_file or "", level, conf.log_to_stderr, conf.log_options)

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
                _append(Path(self.path), line.encode("utf-8", "backslashreplace"), self.options)
            except OSError as error:
                note(self.request.network.name, f'"logFile" {self.path}: {error.strerror}')


def _append(path: Path, line: bytes, options: LogOptions) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _FILE_MODE), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever puts it aside is alone
        file.write(line)
        file.flush()
        is_in_place = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        if is_in_place and os.fstat(file.fileno()).st_size >= (options.max_size or 100) * _MEGABYTE:
            _put_aside(path, options)


def _put_aside(path: Path, options: LogOptions) -> None:
    """Rename a log that is full, and remove what is older or more than wanted."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")[:-3]
    aside = path.with_name(f"{path.stem}-{now}{path.suffix}")
    path.rename(aside)
    if options.compress:
        import gzip  # 10 ms once in a hundred megabytes

        compressed = aside.with_name(f"{aside.name}.gz")
        with open(aside, "rb") as source, gzip.open(compressed, "wb") as target:
            while chunk := source.read(_MEGABYTE):
                target.write(chunk)
        aside.unlink()
    backups = sorted(path.parent.glob(f"{path.stem}-*{path.suffix}*"), reverse=True)
    oldest = time.time() - (options.max_age or 0) * _DAY_SECONDS
    for number, backup in enumerate(backups):
        is_old = bool(options.max_age) and backup.stat().st_mtime < oldest
        if is_old or (options.max_backups and number >= options.max_backups):
            backup.unlink()
