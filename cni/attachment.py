"""What plugins that attach an interface do alike: the record, IPAM, giving back, DEL and GC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from cni.host.links import Links
from cni.host.netns import Netns, opened_if_present
from cni.protocol import delegate, gojson
from cni.protocol.addresses import parse_unicast_mac
from cni.protocol.config import Flag, PluginConf
from cni.protocol.errors import CniError, Code, InvalidConfig, InvalidEnvironment, all_of
from cni.protocol.failures import collected
from cni.protocol.notes import note
from cni.protocol.request import AttachmentKey, Request, parse_cni_args
from cni.protocol.result import Interface, Result, prev_result, required_prev_result
from cni.state import Journal, Record
from cni.undo import too_late, undo_on_error, uninterrupted

R = TypeVar("R", bound=Record)

# The same CNI_ARGS reach the IPAM plugin, so its keys are no mistake here.
_CNI_ARGS = frozenset({"MAC", "IP", "GATEWAY"})


class AttachmentConf(PluginConf):
    """The keys that plugins with an interface in the sandbox share; ours, not the originals'."""

    announce: Flag = True  # tell peers by gratuitous ARP and unsolicited NA where the addresses are
    probe: Flag = False  # ask by ARP whether somebody has the IPv4 addresses already
    dad: Literal["wait", "optimistic", "off"] = "wait"  # IPv6 duplicate address detection


class Attaching(Generic[R]):
    """An ADD on its way: its record as far as it has come, and IPAM."""

    def __init__(self, journal: Journal[R], request: Request, record: R) -> None:
        self._journal = journal
        self._request = request
        self.record = record

    def made(self, **taken: Any) -> None:
        """Record what was made, and that the IPAM plugin's DEL is owed from now on.

        The spec wants that DEL even if the IPAM's own ADD fails.
        """
        ipam = self._request.network.ipam_type
        self.record = self.record.model_copy(update={**taken, "delegates": (ipam,) if ipam else ()})
        self._journal.update(self.record)

    def done(self, result: Result) -> Result:
        """Return ADD's result; from now on a signal stops nothing."""
        too_late()
        return result

    def addresses(self) -> Result | None:
        """Call the IPAM plugin; None if there is none, which means an attachment without addresses.

        Raises:
            CniError: the IPAM plugin's, or code 7 if it gave no address.
        """
        ipam = self._request.network.ipam_type
        if not ipam:
            return None
        result = delegate.add(ipam, self._request)
        if not result.ips:
            raise missing_addresses(ipam)
        return result


@dataclass(frozen=True)
class Attachments(Generic[R]):
    """The attachments of one plugin type.

    `release` gives back what a record names, in the sandbox that is given, or without one if that
    is gone; `adopt` does what can be done for an attachment without a record. Both are content if
    there is nothing to do.
    """

    plugin: str
    record: type[R]
    release: Callable[[R, Netns | None], None]
    adopt: Callable[[Request], None]

    def journal(self, request: Request) -> Journal[R]:
        return Journal(self.record, self.plugin, request.environment)

    @contextmanager
    def attaching(self, request: Request, sandbox: Netns, **taken: Any) -> Iterator[Attaching[R]]:
        """Write the record of a new attachment; if the block fails, give back what it names by then.

        An earlier record whose sandbox is gone is given back first; that of a live one is an error
        and stays untouched.

        Raises:
            AttachmentExists: code 101.
            InvalidConfig: code 7, the IPAM plugin is none, or is not installed, so that nobody could undo
                its part later.
        """
        if ipam := self._ipam(request):
            delegate.find(ipam, request)
        journal = self.journal(request)
        record = self.record.of(request, self.plugin, sandbox.identity(), **taken)
        earlier = journal.find(record.network, *record.key)
        if earlier and earlier.sandbox != record.sandbox:
            note(request.attachment, f"gives back what an earlier sandbox left: {earlier.attachment}")
            self.give_back(request, earlier)
        attaching = Attaching(journal, request, record)
        with undo_on_error() as undo:
            with uninterrupted():
                journal.begin(record)
                undo.callback(lambda: self.give_back(request, attaching.record))
            yield attaching

    def give_back(self, request: Request, record: R) -> None:
        """Give back all that a record names, whatever fails, and remove it last.

        Raises:
            CniError: what could not be given back; the record stays.
        """
        failures: list[CniError] = []
        with collected(failures), _sandbox_of(record, request) as sandbox:
            self.release(record, sandbox)
        for plugin_type in record.delegates:
            with collected(failures):
                delegate.delete(plugin_type, _request_for_delegate(request, record))
        if failures:
            raise all_of(failures)
        self.journal(request).remove(record.network, *record.key)

    def delete(self, request: Request) -> None:
        """DEL: by the record, or else by what the call tells."""
        network = request.network
        journal = self.journal(request)
        record = journal.find(network.name, *request.key)
        if record:
            self.give_back(request, record)
            return
        failures: list[CniError] = []
        with collected(failures):
            self.adopt(request)
        if network.ipam_type not in ("", self.plugin):
            with collected(failures):
                delegate.delete(network.ipam_type, request)
        journal.remove(network.name, *request.key)
        if failures:
            raise all_of(failures)

    def gc(self, request: Request, keep: frozenset[AttachmentKey]) -> None:
        """GC: give back the network's attachments that are not among those to keep."""
        failures: list[CniError] = []
        for record in self.journal(request).all(request.network.name):
            if record.key not in keep:
                note(request.network.name, f"gives back {record.attachment}: it is no longer valid")
                with collected(failures):
                    self.give_back(record.request(request), record)
        self.journal(request).tidy(request.network.name)  # the spec lets no ADD or DEL run meanwhile
        ipam = request.network.ipam_type
        if ipam not in ("", self.plugin):
            with collected(failures):
                delegate.gc(ipam, request)
        if failures:
            raise all_of(failures)

    def check_ipam(self, request: Request) -> None:
        """Forward CHECK to the IPAM plugin, if there is one."""
        if ipam := self._ipam(request):
            delegate.check(ipam, request)

    def status_ipam(self, request: Request) -> None:
        """Forward STATUS to the IPAM plugin, if there is one."""
        if ipam := self._ipam(request):
            delegate.status(ipam, request)

    def _ipam(self, request: Request) -> str:
        """Return the IPAM plugin's type, or nothing.

        Raises:
            InvalidConfig: code 7, it is this plugin itself, which would call itself without end.
        """
        ipam = request.network.ipam_type
        refuse_own_ipam(ipam, self.plugin)
        return ipam


def refuse_own_ipam(ipam: str, plugin: str) -> None:
    """Refuse a plugin as its own IPAM plugin.

    Raises:
        InvalidConfig: code 7.
    """
    if ipam == plugin:
        raise InvalidConfig(
            f'"{ipam}" cannot be its own IPAM plugin',
            why='"ipam.type" names a plugin that attaches interfaces; it gives no addresses.',
            fix='Set "ipam.type" to an IPAM plugin such as "static", or leave "ipam" out.',
        )


def missing_addresses(ipam: str) -> CniError:
    return InvalidConfig(
        "IPAM plugin returned missing IP config",
        why=f'The IPAM plugin "{ipam}" gave no address.',
        fix='Configure addresses in "ipam", or leave "ipam" out for an interface without any.',
    )


def attached(request: Request, conf: AttachmentConf, link: Interface, ipam: Result | None) -> Result:
    """Return the result of an ADD: what came before in the chain, the link, and its addresses."""
    own = Result(interfaces=(link,), dns=conf.dns)
    if ipam:
        ips = tuple(ip.model_copy(update={"interface": 0}) for ip in ipam.ips)
        dns = conf.dns if conf.dns.to_json() else ipam.dns
        own = Result(interfaces=(link,), ips=ips, routes=ipam.routes, dns=dns)
    return own.merged_into(prev_result(conf.prev_result, request.network.version))


def previous(request: Request, conf: PluginConf) -> Result:
    """Return CHECK's prevResult.

    Raises:
        CniError: code 7, it is missing or malformed.
    """
    return required_prev_result(conf.prev_result, request.network.version, "sandbox")


def interface_in(result: Result, request: Request) -> int:
    """Return the place of this attachment's interface in CHECK's prevResult.

    Raises:
        InvalidConfig: code 7, it is not there.
    """
    index = result.interface_index(request.ifname, request.netns)
    if index is None:
        raise InvalidConfig(
            f'prevResult has no interface "{request.ifname}" in sandbox "{request.netns}"',
            why="CHECK compares that interface with the sandbox.",
            fix="Pass the result that ADD of this attachment gave.",
        )
    return index


def requested_mac(request: Request, runtimes: str | None, *configured: str | None) -> str | None:
    """Return the first MAC that is asked for: by runtimeConfig, by CNI_ARGS, by the configuration.

    Raises:
        InvalidEnvironment: code 4, that of CNI_ARGS would count and is none.
    """
    text = parse_cni_args(request.variable("CNI_ARGS"), _CNI_ARGS).get("MAC")
    if runtimes or not text:
        return next(filter(None, (runtimes, *configured)), None)
    try:
        return parse_unicast_mac(text)
    except ValueError as error:
        raise InvalidEnvironment(
            "CNI_ARGS: MAC is not valid", why=f"{error}.", fix="Give a unicast MAC of 6 bytes."
        ) from error


def told_mac(request: Request) -> str | None:
    """Return the MAC that ADD answered for this attachment, if the runtime passes the result to DEL."""
    raw = gojson.get(request.network.raw, "prevResult")
    if not isinstance(raw, dict):
        return None
    try:
        result = prev_result(raw, request.network.version)
    except CniError:
        return None  # DEL needs no valid prevResult
    index = result.interface_index(request.ifname, request.netns) if result else None
    mac = result.interfaces[index].mac if result and index is not None else None
    return mac.lower() if mac else None


def check_expressible(request: Request, conf: AttachmentConf) -> None:
    """Refuse an attachment without addresses where the result's version has no words for it."""
    if not request.network.ipam_type:
        attached(request, conf, Interface(), None).check_expressible(request.network.version)


def refuse_taken_name(sandbox: Links, ifname: str) -> None:
    """Refuse a name that is taken before anything is done, be it by our own earlier ADD.

    Raises:
        CniError: code 101.
    """
    present = sandbox.find(ifname)
    if present:
        known_as = f', which is called "{present.name}" too' if present.name != ifname else ""
        raise CniError(
            f'the sandbox already has an interface "{ifname}"',
            why=f"It is a {present.kind or 'physical'} link with MAC {present.mac}{known_as}; "
            "it stays as it is.",
            fix="Use another CNI_IFNAME, or detach that interface first.",
            code=Code.NAME_TAKEN,
        )


def differs(request: Request, differences: list[str]) -> CniError:
    """Return CHECK's error, a sentence for each difference."""
    return CniError(
        f'"{request.ifname}" is not as ADD left it: {"; ".join(differences)}',
        fix="Recreate the pod, or find out who changed it.",
        code=Code.DIFFERS,
    )


def is_alive(record: Record) -> bool:
    """Tell whether the sandbox of a record still exists, and is the same."""
    with opened_if_present(record.netns) as netns:
        return netns is not None and netns.identity() == record.sandbox


@contextmanager
def _sandbox_of(record: Record, request: Request) -> Iterator[Netns | None]:
    """Open a record's sandbox by the call's path or its own, if it is still the same namespace."""
    for path in dict.fromkeys((request.netns, record.netns)):
        with opened_if_present(path) as netns:
            if netns and netns.identity() == record.sandbox:
                yield netns
                return
    yield None


def _request_for_delegate(request: Request, record: Record) -> Request:
    """The call as it came if it says of IPAM what ADD said, in the same version, else the recorded one."""
    raw, recorded = request.network.raw, record.config
    is_the_same = all(raw.get(key) == recorded.get(key) for key in ("cniVersion", "ipam"))
    return request if is_the_same and request.key == record.key else record.request(request)
