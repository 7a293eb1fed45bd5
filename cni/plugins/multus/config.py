"""What multus is told: the keys of Multus' thin plugin, and those of its daemon that may stand beside.

Source: `pkg/types` of the original, and its documents; where this differs is in docs/compatibility.md.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cni.protocol.chain import Chain
from cni.protocol.config import Count, Flag, PluginConf, Section, Text
from cni.protocol.errors import InvalidConfig
from cni.protocol.gojson import JsonObject

_DEFAULTS = {
    "conf_dir": "/etc/cni/multus/net.d",
    "cni_dir": "/var/lib/cni/multus",
    "bin_dir": "/opt/cni/bin",
    "namespace": "kube-system",
    "kubelet_dir": "/var/lib/kubelet",
}
READINESS_SECONDS = 45.0


def _or(default: str) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value == "" else value)


class LogOptions(Section):
    """When a log file is put aside: `maxSize` in megabytes, `maxAge` in days."""

    max_age: Count = Field(default=5, alias="maxAge")
    max_size: Count = Field(default=100, alias="maxSize")
    max_backups: Count = Field(default=5, alias="maxBackups")
    compress: Flag = True


class MultusConf(PluginConf):
    """The configuration; delegates stay the raw objects that the administrator wrote."""

    conf_dir: Annotated[str, _or(_DEFAULTS["conf_dir"])] = Field(
        default=_DEFAULTS["conf_dir"], alias="confDir"
    )
    cni_dir: Annotated[str, _or(_DEFAULTS["cni_dir"])] = Field(default=_DEFAULTS["cni_dir"], alias="cniDir")
    bin_dir: Annotated[str, _or(_DEFAULTS["bin_dir"])] = Field(default=_DEFAULTS["bin_dir"], alias="binDir")
    delegates: tuple[JsonObject, ...] = ()
    cluster_network: Text = Field(default=None, alias="clusterNetwork")
    default_networks: tuple[str, ...] = Field(default=(), alias="defaultNetworks")
    system_namespaces: tuple[str, ...] = Field(default=("kube-system",), alias="systemNamespaces")
    multus_namespace: Annotated[str, _or(_DEFAULTS["namespace"])] = Field(
        default=_DEFAULTS["namespace"], alias="multusNamespace"
    )
    kubeconfig: Text = None
    namespace_isolation: Flag = Field(default=False, alias="namespaceIsolation")
    global_namespaces: Annotated[str, _or("default")] = Field(default="default", alias="globalNamespaces")
    readiness_file: Text = Field(default=None, alias="readinessindicatorfile")
    auxiliary_chain: Text = Field(default=None, alias="auxiliaryCNIChainName")
    # Ours: where distributions such as k0s keep the kubelet's state.
    kubelet_dir: Annotated[str, _or(_DEFAULTS["kubelet_dir"])] = Field(
        default=_DEFAULTS["kubelet_dir"], alias="kubeletDir"
    )
    # Ours: whether a pod may start with its default network alone when no cluster tells of others.
    cluster_is_optional: Flag = Field(default=False, alias="clusterIsOptional")
    log_to_stderr: Flag = Field(default=True, alias="logToStderr")
    log_file: Text = Field(default=None, alias="logFile")
    log_level: Text = Field(default=None, alias="logLevel")
    log_options: LogOptions = Field(default=LogOptions(), alias="logOptions")
    # Without effect here, and no mistake: what a failed DEL still owes is never forgotten, and there is
    # no shim that would look for a socket.
    retry_delete_on_error: Any = Field(default=None, alias="retryDeleteOnError")
    cni_conf: Any = Field(default=None, alias="cniConf")
    daemon_socket_dir: Any = Field(default=None, alias="daemonSocketDir")
    socket_dir: Any = Field(default=None, alias="socketDir")
    chroot_dir: Any = Field(default=None, alias="chrootDir")
    cni_config_dir: Any = Field(default=None, alias="cniConfigDir")
    multus_autoconfig_dir: Any = Field(default=None, alias="multusAutoconfigDir")
    multus_config_file: Any = Field(default=None, alias="multusConfigFile")
    multus_master_cni: Any = Field(default=None, alias="multusMasterCNI")
    force_cni_version: Any = Field(default=None, alias="forceCNIVersion")
    override_network_name: Any = Field(default=None, alias="overrideNetworkName")
    metrics_port: Any = Field(default=None, alias="metricsPort")
    enable_pprof: Any = Field(default=None, alias="enablePprof")
    connection_limit: Any = Field(default=None, alias="connectionLimit")
    per_node_certificate: Any = Field(default=None, alias="perNodeCertificate")

    @property
    def globals(self) -> frozenset[str]:
        """The namespaces whose networks every pod may use."""
        return frozenset(name.strip() for name in self.global_namespaces.split(",")) - {""}

    @property
    def attached_delegates(self) -> tuple[JsonObject, ...]:
        """The `delegates` that count: none beside `clusterNetwork`, which wins, as in the original."""
        return () if self.cluster_network else self.delegates

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """The networks of the `delegates` that count.

        Raises:
            InvalidConfig: code 7, one is malformed.
        """
        return tuple(
            Chain.parse(raw, f"delegates[{position}]", name=self.name)
            for position, raw in enumerate(self.attached_delegates)
        )

    @property
    def ignored(self) -> str:
        """Say which networks of the configuration pods do not get, empty if all of them count."""
        if self.delegates and self.cluster_network:
            return '"delegates" are not attached beside "clusterNetwork", which names the default network'
        if self.delegates and self.default_networks:
            return '"defaultNetworks" are for "clusterNetwork"; beside "delegates" they are not attached'
        return ""

    def check_networks(self) -> None:
        """Refuse a configuration that names no network.

        Raises:
            InvalidConfig: code 7.
        """
        if not self.delegates and not self.cluster_network:
            raise InvalidConfig(
                "at least one delegate/clusterNetwork must be specified",
                why="Nothing says which network is the default one.",
                fix='List networks in "delegates", or name one in "clusterNetwork".',
            )
