"""What the kernel and its devices must have for the networks of this node; all read from /proc and /sys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cni.cli.doctor.configured import Configured
from cni.cli.doctor.root import Root
from cni.cli.finding import Finding

# Link types that a plugin makes, and the kernel module that brings each.
_MODULES = {"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "8021q", "bridge": "bridge", "bond": "bonding"}
_OLDEST_KERNEL = (5, 14)  # SO_NETNS_COOKIE
_UP = 0x1  # IFF_UP, linux/if.h
_USERSPACE = ("vfio-pci", "uio_pci_generic", "igb_uio")


def check(root: Root, configured: Configured) -> Iterator[Finding]:
    yield from _kernel(root)
    yield from _link_types(root, configured)
    yield from _masters(root, configured)
    yield from _sysctls(root, configured)
    yield from _virtual_functions(root, configured)
    yield from _rdma(root)
    yield from _gpus(root)


def _kernel(root: Root) -> Iterator[Finding]:
    release = root.text("proc/sys/kernel/osrelease") or ""
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match[1]), int(match[2])) < _OLDEST_KERNEL:
        yield Finding(
            "kernel",
            release,
            f"Linux {release} has no cookies of network namespaces",
            "Use Linux 5.14 or newer; until then a sandbox is told from a later one by inode and time.",
            "warning",
        )


def _link_types(root: Root, configured: Configured) -> Iterator[Finding]:
    release = root.text("proc/sys/kernel/osrelease") or ""
    modules = f"lib/modules/{release}"
    available = (root.text(f"{modules}/modules.dep") or "") + (root.text(f"{modules}/modules.builtin") or "")
    for kind, module in _MODULES.items():
        if kind not in {each.removeprefix("podrail-") for each in configured.types}:
            continue
        is_known = f"/{module}.ko" in available or not available
        if not root.exists(f"sys/module/{module}") and not is_known:
            yield Finding(
                "link-type",
                kind,
                f'this kernel has no module "{module}", which "{kind}" needs',
                f"Install the package of the kernel's further modules for {release}.",
            )


def _masters(root: Root, configured: Configured) -> Iterator[Finding]:
    for plugin in configured.of_type("macvlan", "ipvlan", "vlan"):
        master = plugin.text("master")
        if not master or plugin.raw.get("linkInContainer"):
            continue
        link = f"sys/class/net/{master}"
        about = f'{plugin.file}: master "{master}"'
        if not root.exists(link):
            present = ", ".join(root.names("sys/class/net"))
            yield Finding("master", about, f'"{master}" does not exist', f'Set "master" to one of {present}.')
            continue
        if not (root.number(f"{link}/flags") or 0) & _UP:
            yield Finding("master", about, f'"{master}" is down', f"Run: ip link set {master} up")
        elif root.text(f"{link}/carrier") == "0":
            yield Finding("master", about, f'"{master}" has no carrier', "Look at the cable and the switch.")
        if root.exists(f"{link}/master"):
            over = root.link(f"{link}/master")
            yield Finding(
                "master",
                about,
                f'"{master}" is a port of "{over}", and the kernel refuses to let others ride on it',
                f'Set "master" to "{over}".',
            )
        mtu = root.number(f"{link}/mtu")
        if mtu and plugin.number("mtu") > mtu:
            yield Finding(
                "mtu",
                about,
                f"the network wants an MTU of {plugin.number('mtu')}, its master has {mtu}",
                f'Run: ip link set {master} mtu {plugin.number("mtu")}, or set "mtu" to at most {mtu}.',
            )


def _sysctls(root: Root, configured: Configured) -> Iterator[Finding]:
    """Several rails in one node: replies must be able to leave by the interface that was asked."""
    masters = {plugin.text("master") for plugin in configured.of_type("macvlan", "ipvlan")} - {""}
    if len(masters) < 2:
        return
    ipv4 = "proc/sys/net/ipv4/conf"
    for name in sorted(masters):
        strict = max(root.number(f"{ipv4}/{each}/rp_filter") or 0 for each in ("all", name))
        if strict == 1 and root.exists(f"{ipv4}/{name}"):
            yield Finding(
                "rp_filter",
                name,
                f'"{name}" drops packets whose answer would leave elsewhere (rp_filter is 1)',
                f"Run: sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{name}.rp_filter=2",
                "warning",
            )
        if root.exists(f"{ipv4}/{name}") and not any(
            root.number(f"{ipv4}/{each}/arp_ignore") for each in ("all", name)
        ):
            yield Finding(
                "arp_ignore",
                name,
                f'"{name}" answers ARP for the addresses of other rails (arp_ignore is 0)',
                "Run: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2",
                "warning",
            )


def _virtual_functions(root: Root, configured: Configured) -> Iterator[Finding]:
    devices = "sys/bus/pci/devices"
    drivers: set[str] = set()
    total = 0
    for address in root.names(devices):
        device = f"{devices}/{address}"
        driver = root.link(f"{device}/driver")
        drivers.add(driver)
        wanted, made = root.number(f"{device}/sriov_totalvfs"), root.number(f"{device}/sriov_numvfs")
        total += made or 0
        if root.exists(f"{device}/physfn") and not driver:
            yield Finding(
                "vf-driver",
                address,
                "this virtual function has no driver, so it has no interface",
                "Load its driver, or bind it: echo ADDRESS >/sys/bus/pci/drivers/DRIVER/bind",
            )
        if configured.of_type("sriov") and wanted and made == 0:
            yield Finding(
                "sriov-numvfs",
                address,
                f"the card can have {wanted} virtual functions and has none",
                f"Run: echo {wanted} >/sys/bus/pci/devices/{address}/sriov_numvfs",
                "warning",
            )
    if configured.of_type("sriov") and not total:
        yield Finding(
            "sriov",
            "this node",
            "there is no virtual function, and a network wants some",
            "Switch SR-IOV on in the firmware of board and card, then set sriov_numvfs.",
        )
    if drivers & set(_USERSPACE) - {"uio_pci_generic", "igb_uio"} and not root.names(
        "sys/kernel/iommu_groups"
    ):
        yield Finding(
            "iommu",
            "this node",
            "devices are bound to vfio-pci, and there is no IOMMU",
            "Boot with intel_iommu=on or amd_iommu=on, and switch VT-d or AMD-Vi on in the firmware.",
        )


def _rdma(root: Root) -> Iterator[Finding]:
    cards = [
        name for name in root.names("sys/class/net") if root.names(f"sys/class/net/{name}/device/infiniband")
    ]
    if cards and not root.exists("sys/module/ib_uverbs"):
        yield Finding(
            "rdma-modules",
            ", ".join(cards),
            "these cards do RDMA, and programs cannot reach it: ib_uverbs is not loaded",
            "Run: modprobe ib_uverbs rdma_ucm",
        )
    if root.names("sys/class/infiniband") and root.text("sys/module/ib_core/parameters/netns_mode") == "Y":
        yield Finding(
            "rdma-mode",
            "this node",
            "RDMA devices are shared: every pod sees the cards of all others",
            "Run: rdma system set netns exclusive, where pods get RDMA devices of their own.",
            "warning",
        )


def _gpus(root: Root) -> Iterator[Finding]:
    devices = "sys/bus/pci/devices"
    gpus = {
        address: root.number(f"{devices}/{address}/numa_node")
        for address in root.names(devices)
        if root.text(f"{devices}/{address}/vendor") == "0x10de"
        and (root.text(f"{devices}/{address}/class") or "").startswith("0x03")
    }
    if not gpus:
        return
    cards = {
        root.link(f"sys/class/net/{name}/device"): root.number(f"sys/class/net/{name}/device/numa_node")
        for name in root.names("sys/class/net")
        if root.exists(f"sys/class/net/{name}/device")
    }
    for gpu, node in gpus.items():
        if cards and node not in (None, -1) and node not in cards.values():
            yield Finding(
                "gpu-distance",
                gpu,
                f"no network card is on NUMA node {node} of this GPU: its traffic crosses the sockets",
                "Move a card, or schedule its pods by topology.",
                "warning",
            )
    if root.exists("sys/module/nvidia") and root.names("sys/class/infiniband"):
        has_peermem = root.exists("sys/module/nvidia_peermem")
        if not has_peermem and not _has_dma_buf(root):
            yield Finding(
                "gpudirect",
                "this node",
                "cards cannot read the memory of GPUs: no nvidia_peermem, and no DMA-BUF of open modules",
                "Run: modprobe nvidia_peermem, or install the open kernel modules of the driver.",
            )


def _has_dma_buf(root: Root) -> bool:
    return "Open Kernel Module" in (root.text("proc/driver/nvidia/version") or "")
