"""The manifest: what an installation has put where, so that uninstall takes that away and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from cni import durable
from cni.protocol.errors import CniError, Code


class Manifest(BaseModel):
    """The files of an installation."""

    model_config = ConfigDict(frozen=True)

    format: int = 1
    executables: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    kubeconfigs: tuple[str, ...] = ()

    def having(
        self,
        executables: Iterable[Path] = (),
        networks: Iterable[Path] = (),
        kubeconfigs: Iterable[Path] = (),
    ) -> Manifest:
        return Manifest(
            executables=tuple(sorted({*self.executables, *map(str, executables)})),
            networks=tuple(sorted({*self.networks, *map(str, networks)})),
            kubeconfigs=tuple(sorted({*self.kubeconfigs, *map(str, kubeconfigs)})),
        )

    def without_networks(self, networks: Iterable[Path]) -> Manifest:
        gone = set(map(str, networks))
        return self.model_copy(update={"networks": tuple(each for each in self.networks if each not in gone)})


def _state() -> Path:
    return durable.state_directory(os.environ)


def load() -> Manifest:
    """Return what is installed; nothing if there is no manifest.

    Raises:
        CniError: code 5, it cannot be read.
    """
    path = _state() / "install.json"
    data = durable.read(path)
    if data is None:
        return Manifest()
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise CniError(
            f"{path} cannot be read",
            fix="Move it away; then name by --bin-dir what is to be uninstalled.",
            code=Code.IO_FAILURE,
        ) from error


def save(manifest: Manifest) -> None:
    path = _state() / "install.json"
    if manifest != Manifest():
        data = json.dumps(manifest.model_dump(), indent=2).encode() + b"\n"
        durable.replace(path, data, _state(), is_lasting=True)
    else:
        durable.remove(path, _state())
