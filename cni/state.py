"""The journal: what ADD must remember for DEL, one small file per attachment.

A record is written before the first change and completed as ADD goes on; DEL and GC give back what
it names and remove it last. It lies at
`<state>/attachments/<plugin>/<network>/<container ID>@<interface>.json`, readable with `cat`, and
says itself what it belongs to, so that it never answers for another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cni import durable
from cni.protocol.errors import CniError, Code
from cni.protocol.notes import note
from cni.protocol.request import Request


class Record(BaseModel):
    """What every attachment must remember; plugins add what they took."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    format: Literal[1] = 1
    plugin: str
    network: str
    container_id: str
    ifname: str
    netns: str  # the sandbox's path as ADD got it
    sandbox: str  # its identity, see Netns.identity; the path may be another's later
    created: str  # UTC, ISO 8601
    cni_args: str
    config: dict[str, Any]  # ADD's configuration without prevResult: delegates' DEL gets it again
    delegates: tuple[str, ...] = ()  # plugin types whose DEL is owed

    @classmethod
    def of(cls, request: Request, plugin: str, sandbox: str, **taken: Any) -> Self:
        """Return the record that ADD begins with."""
        raw = {key: value for key, value in request.network.raw.items() if key.casefold() != "prevresult"}
        return cls(
            plugin=plugin,
            network=request.network.name,
            container_id=request.container_id,
            ifname=request.ifname,
            netns=request.netns,
            sandbox=sandbox,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            cni_args=request.variable("CNI_ARGS"),
            config=raw,
            **taken,
        )

    @property
    def key(self) -> tuple[str, str]:
        return self.container_id, self.ifname

    @property
    def attachment(self) -> str:
        return f"{self.ifname} of container {self.container_id} on network {self.network}"

    def request(self, caller: Request) -> Request:
        """Return the DEL that would undo this attachment, made from the record alone."""
        return caller.with_variables(
            CNI_COMMAND="DEL",
            CNI_CONTAINERID=self.container_id,
            CNI_IFNAME=self.ifname,
            CNI_NETNS=self.netns,
            CNI_ARGS=self.cni_args,
        ).with_stdin(json.dumps(self.config).encode())


class AttachmentExists(CniError):
    """The journal has a record of this attachment already."""

    code = Code.NAME_TAKEN


R = TypeVar("R", bound=Record)


class Journal(Generic[R]):
    """The records of one plugin."""

    def __init__(self, record: type[R], plugin: str, environment: Mapping[str, str]) -> None:
        self._record = record
        self._plugin = plugin
        self._state = durable.state_directory(environment)
        self._root = self._state.joinpath("attachments", plugin)

    def begin(self, record: R, *, is_lasting: bool = False) -> None:
        """Write the record of a new attachment, whole and only if there is none.

        A lasting one is on the disk by then: what it leads to survives this machine's loss of power.

        Raises:
            AttachmentExists: it has one.
        """
        path = self._path(record.network, *record.key)
        try:
            durable.create(path, _encoded(record), self._state, is_synced=is_lasting)
        except FileExistsError as error:
            raise AttachmentExists(
                f'container {record.container_id} has an attachment "{record.ifname}" '
                f'to network "{record.network}" already',
                why=f"Its record is {path}.",
                fix="Call DEL for it first, or use another CNI_IFNAME.",
            ) from error
        if is_lasting:
            durable.sync_directory(path.parent)

    def update(self, record: R, *, is_lasting: bool = False) -> None:
        """Replace the record of an attachment in one step; a lasting one is on the disk by then."""
        path = self._path(record.network, *record.key)
        durable.replace(path, _encoded(record), self._state, is_lasting=is_lasting)

    def find(self, network: str, container_id: str, ifname: str) -> R | None:
        """Return an attachment's record; one that cannot be read is set aside and noted."""
        path = self._path(network, container_id, ifname)
        data = durable.read(path)
        record = self._parsed(path, data)
        if record is None and data is not None:
            self._set_aside(path, data)
        if record and (record.network, *record.key) == (network, container_id, ifname):
            return record
        return None

    def _set_aside(self, path: Path, data: bytes) -> None:
        if not data:  # as a loss of power leaves what was just written
            path.unlink()
            note(self._plugin, "it was empty, and is removed")
            return
        aside = path.with_suffix(".corrupt")
        path.rename(aside)
        note(self._plugin, f"it was set aside as {aside}")

    def look(self, network: str, container_id: str, ifname: str) -> R | None:
        """Return an attachment's record as `find` does, and change nothing."""
        record = self._read(self._path(network, container_id, ifname))
        is_it = record and (record.network, *record.key) == (network, container_id, ifname)
        return record if is_it else None

    def all(self, network: str | None = None) -> list[R]:
        """Return the records of a network, or of all."""
        folders = [self._root / durable.component(network)] if network else durable.listed(self._root, "*")
        files = [file for folder in folders for file in durable.listed(folder, "[!.]*.json")]
        records = [record for file in files if (record := self._read(file))]
        return [record for record in records if network in (None, record.network)]

    def remove(self, network: str, container_id: str, ifname: str) -> None:
        """Remove an attachment's record, if any, and what a killed writer left of it."""
        durable.remove(self._path(network, container_id, ifname), self._state)

    def tidy(self, network: str) -> None:
        """Remove what killed writers left of a network's records; only while no ADD or DEL runs."""
        durable.tidy(self._root / durable.component(network), self._state)

    def _path(self, network: str, container_id: str, ifname: str) -> Path:
        file = f"{durable.component(f'{container_id}@{ifname}')}.json"
        return self._root.joinpath(durable.component(network), file)

    def _read(self, path: Path) -> R | None:
        return self._parsed(path, durable.read(path))

    def _parsed(self, path: Path, data: bytes | None) -> R | None:
        if data is None:
            return None
        try:
            return self._record.model_validate_json(data)
        except ValidationError:
            note(self._plugin, f"the record {path} cannot be read")
            return None


def _encoded(record: Record) -> bytes:
    return record.model_dump_json(indent=2).encode() + b"\n"
