"""Settings of a VF on its way into a pod and back: told to the PF, under the PF's lock."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping

from cni import locks
from cni.boot import boot_id
from cni.host.link_messages import RTNLGRP_LINK
from cni.host.links import KernelRefused, Link, Links, PhysicalFunction
from cni.host.sysfs import BusDevice
from cni.host.vf import VfSettings
from cni.plugins.sriov import discovery
from cni.plugins.sriov.discovery import Pf, Vf
from cni.plugins.sriov.record import SriovRecord
from cni.protocol.errors import CniError, Code, InvalidConfig

# Intel's i40e and ice refuse while a VF resets, which takes them some hundred milliseconds.
_RESET_SECONDS = 3.0
_RESET_LOOK_SECONDS = 0.1
_IN_RESET = (errno.EAGAIN, errno.EBUSY)

_START_SECONDS = 5.0  # how long a driver may take to make its interface

KEYS = {"rates": "max_tx_rate", "mac": "mac", "guid": "guid"}  # the keys that name a setting, if others


def held(pf: Pf, host: Links) -> PhysicalFunction:
    """Look at a PF and its VFs, once."""
    found = host.find_pf(pf.port.name)
    if found is None:
        raise CniError(
            f"{pf} is not on the host",
            why="It was there a moment ago, and may have been renamed.",
            fix="Call again; the PF's interface must stay on the host.",
            code=Code.TRY_AGAIN_LATER,
        )
    return found


def apply(
    vf: Vf, pf: PhysicalFunction, settings: VfSettings, host: Links, environment: Mapping[str, str]
) -> None:
    """Tell a PF the settings, all in one round trip.

    Raises:
        CniError: one was refused; the others hold.
    """
    if not settings.names or vf.pf is None:
        return
    deadline = time.monotonic() + _RESET_SECONDS
    with locks.held(f"pf-{vf.pf.device.address}", environment):
        while True:
            try:
                host.set_vf(pf.link, vf.index, settings)
                return
            except KernelRefused as error:
                if error.errno not in _IN_RESET or time.monotonic() > deadline:
                    raise _explained(error, vf, vf.pf, settings) from error
            time.sleep(_RESET_LOOK_SECONDS)


def restarted(vf: BusDevice, host: Links) -> Link:
    """Let a VF's driver start anew, for it reads the GUID only then; return its interface.

    Raises:
        CniError: code 106, it did not start again; code 11, its interface is not there yet.
    """
    try:
        with host.events(RTNLGRP_LINK) as listener:
            discovery.SYSFS.rebind(vf)
            deadline = time.monotonic() + _START_SECONDS
            while time.monotonic() < deadline:
                link = next((link for link in host.all() if link.parent == vf.address), None)
                if link:
                    return link
                listener.events(deadline - time.monotonic())
    except OSError as error:
        raise CniError(
            f"the driver of VF {vf.address} did not start again: {error.strerror}",
            why="It must, to take over a new GUID.",
            fix="Bind the VF to its driver, then call again.",
            code=Code.KERNEL_REFUSED,
        ) from error
    raise CniError(
        f"the interface of VF {vf.address} did not come back in {_START_SECONDS:g} s",
        why="Its driver was started anew, to take over a new GUID.",
        fix="Call again; if it stays so, look at the kernel's log.",
        code=Code.TRY_AGAIN_LATER,
    )


def give_back(record: SriovRecord, host: Links, environment: Mapping[str, str]) -> VfSettings:
    """Make a VF for its PF what it was before ADD, if it is still there; return what that took.

    Raises:
        CniError: something was refused, or the PF has no interface on the host now.
    """
    device = discovery.SYSFS.device(record.vf)
    if not record.wanted.names or device is None or discovery.SYSFS.pf(device) is None:
        return VfSettings()
    vf = discovery.identify(record.vf)
    pf = held(vf.pf, host) if vf.pf else None
    present = pf.vfs.get(vf.index) if pf else None
    if pf is None or present is None:
        return VfSettings()
    owed = record.owed(present, is_same=is_same_vf(record))
    apply(vf, pf, owed, host, environment)
    return owed


def is_same_vf(record: SriovRecord) -> bool:
    """Tell whether the VF is the one that ADD found, and not one made anew at its address."""
    boot = record.sandbox.partition("/")[0]
    return boot == boot_id() and record.incarnation == discovery.SYSFS.incarnation(record.bus_device)


def _explained(error: KernelRefused, vf: Vf, pf: Pf, settings: VfSettings) -> CniError:
    """Say which setting the card does not have, where it can be seen."""
    if error.errno in _IN_RESET:
        return error
    name = settings.names[error.position]
    driver = discovery.SYSFS.driver(pf.device) or "none"
    why, fix = _reason(error.errno, name, settings, pf, driver)
    if not why:
        return error
    return InvalidConfig(error.msg, why=f"{why} {error.why}", fix=fix)


def _reason(number: int, name: str, settings: VfSettings, pf: Pf, driver: str) -> tuple[str, str]:
    key = KEYS.get(name, name)
    if name == "vlan" and number == errno.EPROTONOSUPPORT:
        return f"The driver {driver} of {pf} has no 802.1ad.", 'Set "vlanProto" to "802.1q".'
    if number == errno.EOPNOTSUPP:
        return f'The driver {driver} of {pf} has no "{key}" for its VFs.', f'Remove "{key}".'
    if name == "rates" and settings.rates and number == errno.EINVAL:
        least, _ = settings.rates
        if least:
            return (
                f"The driver {driver} of {pf} may have no least rate, or not this one.",
                'Remove "min_tx_rate", or set it to 0.',
            )
        return (
            f"{pf} may have no carrier, or its link be slower than that.",
            'Set the PF up, or lower "max_tx_rate".',
        )
    if number in (errno.EINVAL, errno.EPERM, errno.ERANGE):
        return f'The driver {driver} of {pf} refused "{key}".', f'Correct or remove "{key}".'
    return "", ""
