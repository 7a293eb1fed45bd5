"""NetworkAttachmentDefinition: a network as an object of the cluster.

Source: the NPWG's multi-network specification, section 3; the original's `pkg/k8sclient`.
"""

from __future__ import annotations

from pathlib import Path

from cni.plugins.multus import confdir
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.selection import Selection
from cni.protocol import gojson
from cni.protocol.chain import Chain, put
from cni.protocol.errors import CniError, InvalidConfig
from cni.protocol.gojson import JsonObject

_RESOURCE = "k8s.v1.cni.cncf.io/resourceName"


def chain_of(definition: JsonObject, selection: Selection, conf: MultusConf) -> Chain:
    """Return the network's plugins: of `spec.config`, else of the file in `confDir` with its name.

    The arguments that the pod asks for are in it already.

    Raises:
        InvalidConfig: code 7, it is malformed, or there is no such file.
    """
    what = f'network "{selection.network}"'
    spec = definition.get("spec")
    text = spec.get("config") if isinstance(spec, dict) else None
    if text:
        raw = _parsed(text, what)
    else:
        found = confdir.find(Path(conf.conf_dir), selection.name)
        if found is None:
            raise InvalidConfig(
                f"{what} has no configuration",
                why=f'Its "spec.config" is empty, and no file in {conf.conf_dir} has that "name".',
                fix='Give "spec.config", or put the file there.',
            )
        raw = found
    chain = Chain.parse(raw, what, name=selection.name)
    return chain.with_each(lambda plugin: _with_args(plugin, selection)) if selection.cni_args else chain


def resource_of(definition: JsonObject) -> str:
    """Return of which resource the network wants a device, empty if it wants none."""
    annotations = definition.get("metadata", {}).get("annotations") or {}
    return str(annotations.get(_RESOURCE) or "")


def with_device(chain: Chain, device: str) -> Chain:
    """Return the chain with every plugin told of a device, in both of the ways that plugins look for it."""
    return chain.with_each(lambda plugin: put(plugin, {"deviceID": device, "pciBusID": device}))


def _parsed(text: object, what: str) -> JsonObject:
    if not isinstance(text, str):
        raise InvalidConfig(f'"spec.config" of {what} is no string', fix="Write the JSON as a string.")
    try:
        return gojson.loads_object(text.encode("utf-8", "surrogatepass"), f'"spec.config" of {what}')
    except CniError as error:
        raise InvalidConfig(error.msg, why=error.why, fix=error.fix) from error


def _with_args(plugin: JsonObject, selection: Selection) -> JsonObject:
    """Merge the pod's `cni-args` into a plugin's `args.cni`; the pod's count."""
    args = gojson.get(plugin, "args")
    args = args if isinstance(args, dict) else {}
    before = gojson.get(args, "cni")
    merged = (before if isinstance(before, dict) else {}) | selection.cni_args
    return put(plugin, {"args": put(args, {"cni": merged})})
