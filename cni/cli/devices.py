"""Network cards and GPUs of a node, and how near they are to each other, as sysfs tells.

Distances are called as `nvidia-smi topo` calls them: PIX, at most one bridge between; PXB, several bridges;
PHB, the same host bridge; NODE, the same NUMA node; SYS, across sockets.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_NETWORK, _DISPLAY = "0x02", "0x03"
_ACCELERATOR = "0x12"
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x15b3": "Mellanox"}
_GPU_VENDORS = ("0x10de", "0x1002")


@dataclass(frozen=True)
class Card:
    """A network interface of the host, or a function of a card that has none here."""

    address: str  # on the PCI bus; empty for one without a device
    name: str = ""
    mac: str = ""
    mtu: int = 0
    speed: int = 0  # Mbit/s; 0: not told
    state: str = ""  # operstate
    driver: str = ""
    vendor: str = ""
    numa: int = -1
    pf: str = ""  # of a virtual function: its PF's address
    vfs: tuple[str, ...] = ()
    total_vfs: int = 0
    rdma: tuple[str, ...] = ()
    distances: dict[str, str] = field(default_factory=dict)  # GPU's address: PIX, PXB, …


@dataclass(frozen=True)
class Gpu:
    address: str
    vendor: str
    numa: int = -1


@dataclass(frozen=True)
class Devices:
    cards: tuple[Card, ...]
    gpus: tuple[Gpu, ...]


def devices(sys: Path = Path("/sys")) -> Devices:
    """Return what a sysfs tree has, by address."""
    folders = {path.name: path.resolve() for path in _listed(sys / "bus/pci/devices")}
    gpus = {
        address: Gpu(address, _vendor(folder), _number(folder / "numa_node", -1))
        for address, folder in folders.items()
        if _is_gpu(folder)
    }
    near = {address: folders[address] for address in gpus}
    cards = [
        card
        for address, folder in folders.items()
        if _text(folder / "class").startswith(_NETWORK) or (folder / "net").is_dir()
        for card in _cards(address, folder, near)
    ]
    cards += [
        _card("", path, path, {})
        for path in _listed(sys / "class/net")
        if not (path / "device").exists() and _text(path / "type") == "1"
    ]
    return Devices(tuple(cards), tuple(gpus.values()))


def distance(one: Path, other: Path) -> str:
    """Return how far two devices are apart, by their real folders below /sys/devices."""
    ours, theirs = _ladder(one), _ladder(other)
    shared = 0
    while shared < min(len(ours), len(theirs)) and ours[shared] == theirs[shared]:
        shared += 1
    if shared == 0:
        numas = _number(one / "numa_node", -1), _number(other / "numa_node", -1)
        return "NODE" if numas[0] == numas[1] and numas[0] >= 0 else "SYS"
    if shared == 1:
        return "PHB"
    bridges = len(ours[shared:-1]) + len(theirs[shared:-1]) + 1
    return "PIX" if bridges <= 2 else "PXB"


def _ladder(folder: Path) -> tuple[str, ...]:
    """Return the host bridge, such as `pci0000:00`, the bridges below it, and the device."""
    parts = folder.parts
    first = next((index for index, part in enumerate(parts) if part.startswith("pci")), len(parts))
    return parts[first:]


def _cards(address: str, folder: Path, gpus: dict[str, Path]) -> list[Card]:
    interfaces = _listed(folder / "net") or _listed(folder / "virtio0" / "net")
    if not interfaces:
        return [_card(address, folder, None, gpus)]
    return [_card(address, folder, interface, gpus) for interface in interfaces]


def _card(address: str, folder: Path, interface: Path | None, gpus: dict[str, Path]) -> Card:
    numbered = sorted(folder.glob("virtfn*"), key=lambda path: int(path.name.removeprefix("virtfn") or 0))
    physical = folder / "physfn"
    return Card(
        address=address,
        name=interface.name if interface else "",
        mac=_text(interface / "address") if interface else "",
        mtu=_number(interface / "mtu", 0) if interface else 0,
        speed=max(0, _number(interface / "speed", 0)) if interface else 0,
        state=_text(interface / "operstate") if interface else "",
        driver=_link(folder / "driver"),
        vendor=_vendor(folder) if address else "",
        numa=_number(folder / "numa_node", -1),
        pf=physical.resolve().name if physical.exists() else "",
        vfs=tuple(path.resolve().name for path in numbered),
        total_vfs=_number(folder / "sriov_totalvfs", 0),
        rdma=tuple(path.name for path in _listed(folder / "infiniband")),
        distances={name: distance(folder, gpu) for name, gpu in gpus.items()},
    )


def _is_gpu(folder: Path) -> bool:
    kind = _text(folder / "class")
    return kind.startswith((_DISPLAY, _ACCELERATOR)) and _text(folder / "vendor") in _GPU_VENDORS


def _vendor(folder: Path) -> str:
    told = _text(folder / "vendor")
    return _VENDORS.get(told, told)


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def _number(path: Path, otherwise: int) -> int:
    with suppress(ValueError):
        return int(_text(path), 0)
    return otherwise


def _link(path: Path) -> str:
    with suppress(OSError):
        return path.readlink().name
    return ""
