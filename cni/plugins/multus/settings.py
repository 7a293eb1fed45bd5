"""The configuration as verbs read it that must work although it is wrong, and what follows from it."""

from __future__ import annotations

from cni.plugins.multus.config import MultusConf
from cni.protocol.errors import CniError
from cni.protocol.notes import note
from cni.protocol.request import Request


def salvaged(request: Request) -> MultusConf:
    """Return the configuration without the keys that are wrong, each of which is noted."""
    try:
        return MultusConf.of(request.network)
    except CniError:
        good = {"name": request.network.name}
        for key, value in request.network.raw.items():
            try:
                MultusConf.parse({**good, key: value})
                good[key] = value
            except CniError as error:
                note(request.network.name, f"{error.msg}; the key is passed over. {error.why}")
        return MultusConf.parse(good)


def with_bin_dir(request: Request, conf: MultusConf) -> Request:
    """Return the call with `binDir` before the other directories where plugins are looked for."""
    return request.with_variables(CNI_PATH=f"{conf.bin_dir}:{request.variable('CNI_PATH')}")
