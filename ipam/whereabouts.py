"""whereabouts: addresses that are unique on this node or in the cluster, and never lost.

ADD writes a record before its first claim, so that DEL and GC need nothing but that: no ranges, no pod name
and no valid configuration. What an attachment holds already, also with an earlier sandbox of the same pod,
it gets again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cni.protocol import gojson
from cni.protocol.errors import CniError, Code, InvalidConfig, InvalidEnvironment, all_of
from cni.protocol.failures import collected
from cni.protocol.notes import note
from cni.protocol.plugin import Plugin
from cni.protocol.request import AttachmentKey, Request
from cni.protocol.result import IpConfig, Result, required_prev_result
from cni.state import AttachmentExists, Journal
from cni.undo import too_late, undo_on_error, uninterrupted
from ipam.asked import Asked, owner_of
from ipam.config import WhereaboutsConf
from ipam.holding import Holding, Patience, Place, claim_of, journal_of, noted
from ipam.log import Log
from ipam.pool import Claim, Owner
from ipam.ranges import Ip
from ipam.store import PoolExhausted, Store, Wish
from ipam.stores import block_source, opened, place_of, pools_of, wishes_of

if TYPE_CHECKING:
    from ipam.kube_blocks import BlockSource


def add(request: Request, conf: WhereaboutsConf) -> Result:
    log = Log.of(request, {"log_file": conf.ipam.log_file, "log_level": conf.ipam.log_level})
    with log.failures():
        asked = Asked.of(request, conf)
        _warn(request, conf, asked)
        given = _claimed(request, conf, asked) if asked.wishes else []
    claims = [claim for _, claim in given]
    log.write(
        "verbose", f"gave {', '.join(f'{claim.address} of {claim.pool}' for claim in claims) or 'none'}"
    )
    ips = tuple(ip_config(wish, claim.address, conf) for wish, claim in given)
    return Result(ips=ips + asked.static, routes=conf.ipam.routes, dns=conf.ipam.dns)


def _claimed(request: Request, conf: WhereaboutsConf, asked: Asked) -> list[tuple[Wish, Claim]]:
    """Claim an address of each range, or none at all."""
    journal = journal_of(request.environment)
    earlier = journal.find(request.network.name, *request.key)
    place = place_of(request, conf)
    check_pod_is_named(place, asked)
    if earlier and earlier.place != place:
        note(request.attachment, f"gives back what it held in {earlier.place.path}")
        _give_back(request, journal, earlier)
        earlier = None
    # The record of this very call proves nothing of an entry that cannot be read.
    unproven = None if earlier else request.key
    source = source_of(request, conf, place)
    store = opened(
        place,
        request.environment,
        journal,
        patience_of(conf),
        source,
        unproven=unproven,
        memory=request.memory,
    )
    wishes = wishes_of(request, conf, asked.wishes, store)
    asked = replace(asked, wishes=wishes)
    claims: list[Claim] = []
    with undo_on_error() as undo:
        with uninterrupted():
            holding, is_new = _recorded(request, journal, earlier, place, asked, patience_of(conf))
            undo.callback(_take_back, journal, store, holding, claims, is_new=is_new)
        for wish in wishes:
            # An attachment does not get an address twice, whichever of its ranges overlap.
            beside = replace(wish, taken=frozenset(claim.address for claim in claims)) if claims else wish
            claims.append(_claim(store, beside, asked.owner))
        if store.wants_notes:
            noting = {"claims": tuple(map(noted, claims))}
            journal.update(holding.model_copy(update=noting), is_lasting=place.is_elsewhere)
        too_late()
    return list(zip(wishes, claims, strict=True))


def _claim(store: Store, wish: Wish, owner: Owner) -> Claim:
    with emptiness_explained(wish):
        return store.claim(wish, owner)


@contextmanager
def emptiness_explained(wish: Wish) -> Iterator[None]:
    """Say of a range that has no address at all that the configuration leaves none."""
    try:
        yield
    except PoolExhausted as error:
        range_ = wish.range
        if range_.size:
            raise
        raise InvalidConfig(
            f'the network configuration is not valid: "{range_.path}.exclude" leaves nothing',
            why=f"All of {range_.address(range_.first)} to {range_.address(range_.last)} is excluded.",
            fix="Exclude less, or make the range larger.",
        ) from error


def source_of(request: Request, conf: WhereaboutsConf, place: Place) -> Callable[[Wish], BlockSource] | None:
    return block_source(request, conf) if place.kind == "blocks" else None


def check_pod_is_named(place: Place, asked: Asked) -> None:
    if place.kind != "file" and not asked.owner.podref:
        raise InvalidEnvironment(
            "CNI_ARGS names no pod: K8S_POD_NAME is missing",
            why="In a cluster an address is recorded for a pod, by which it is found again.",
            fix='Let the runtime pass K8S_POD_NAME and K8S_POD_NAMESPACE in CNI_ARGS; or set "datastore" '
            'to "file" for addresses of this node alone.',
        )


def patience_of(conf: WhereaboutsConf) -> Patience:
    return Patience(request_timeout=conf.ipam.request_timeout, total_timeout=conf.ipam.total_timeout)


def _recorded(
    request: Request,
    journal: Journal[Holding],
    earlier: Holding | None,
    place: Place,
    asked: Asked,
    patience: Patience,
) -> tuple[Holding, bool]:
    """Record which pools are asked; what an earlier call asked stays owed.

    A claim in a cluster outlives this machine's loss of power, so what leads to it must do so too.

    Tell too whether there was no record before.
    """
    pools = [wish.pool.to_json() for wish in asked.wishes]
    rest = asked.wishes[0].rest
    taken: dict[str, Any] = {"podref": asked.owner.podref, "rest": rest, "patience": patience}
    if earlier is None:
        holding = Holding.of(request, "whereabouts", "", place=place, pools=tuple(pools), **taken)
        try:
            journal.begin(holding, is_lasting=place.is_elsewhere)
            return holding, True
        except AttachmentExists:  # another call for the same attachment, just now
            earlier = journal.find(holding.network, *holding.key) or holding
    added = tuple(pool for pool in pools if pool not in earlier.pools)
    if not added and all(getattr(earlier, name) == value for name, value in taken.items()):
        return earlier, False
    holding = earlier.model_copy(update={**taken, "pools": earlier.pools + added})
    journal.update(holding, is_lasting=place.is_elsewhere)
    return holding, False


def _take_back(
    journal: Journal[Holding], store: Store, holding: Holding, claims: list[Claim], *, is_new: bool
) -> None:
    """Give back what a failed ADD has claimed, and its record; what was there before stays."""
    store.release(holding.owner, (), [claim for claim in claims if claim.is_new])
    if is_new and not _holds_anything(store, holding):
        journal.remove(holding.network, *holding.key)


def _holds_anything(store: Store, holding: Holding) -> bool:
    """Tell whether the attachment has an address after all, of another call at the same time."""
    if store.wants_notes:
        return False  # that call has written down what it claimed; no more is asked of a cluster
    found = [store.find(key, holding.owner) for key in holding.pool_keys()]
    return any(each and each.owner and each.owner.has_sandbox(*holding.key) for each in found)


def delete(request: Request) -> None:
    """Give back all that the attachment holds; success only if nothing is left."""
    journal = journal_of(request.environment)
    holding = journal.find(request.network.name, *request.key)
    log = Log.of(request, gojson.get(holding.config if holding else request.network.raw, "ipam"))
    with log.failures():
        if holding:
            _give_back(request, journal, holding)
        else:
            _give_back_unrecorded(request)
            journal.remove(request.network.name, *request.key)  # one that cannot be read
    log.write("verbose", "everything is given back")


def _give_back(request: Request, journal: Journal[Holding], holding: Holding) -> None:
    store = opened(holding.place, request.environment, journal, holding.patience, memory=request.memory)
    claims = [claim_of(raw) for raw in holding.claims]
    store.release(holding.owner, holding.pool_keys(), claims, rest=holding.rest, is_recorded=True)
    journal.remove(holding.network, *holding.key)


def _give_back_unrecorded(request: Request) -> None:
    """Look in the configured pools: the entry may be of Whereabouts, or the record be lost."""
    try:
        conf = WhereaboutsConf.parse(request.network.raw)
        is_any = bool(conf.ranges())
        place = place_of(request, conf)
    except (CniError, OSError) as error:
        note(request.attachment, f"nothing is recorded, and the configuration names no pool: {error}")
        return
    if is_any:
        store = opened(place, request.environment, patience=patience_of(conf), memory=request.memory)
        store.release(owner_of(request), pools_of(request, conf, store), rest=conf.ipam.rest_time)


def check(request: Request, conf: WhereaboutsConf) -> None:
    """Every address that the attachment holds must be in prevResult, and every range must have one."""
    result = required_prev_result(conf.prev_result, request.network.version, "store")
    asked = Asked.of(request, conf)
    held = _held(request, conf, asked) if asked.wishes else []
    answered = {ip.address.ip for ip in result.ips}
    for address in (*held, *(ip.address.ip for ip in asked.static)):
        if address not in answered:
            raise _differs(f"it has {address}, which is not in prevResult")


def _held(request: Request, conf: WhereaboutsConf, asked: Asked) -> list[Ip]:
    """Return what the attachment holds of each range."""
    place = place_of(request, conf)
    store = opened(place, request.environment, patience=patience_of(conf), memory=request.memory)
    holding = journal_of(request.environment).find(request.network.name, *request.key)
    addresses: list[Ip] = []
    for wish in wishes_of(request, conf, asked.wishes, store):
        found = store.find(wish.pool, holding.owner if holding else asked.owner, frozenset(addresses))
        if not found or not found.owner:
            raise _differs(f"it holds no address of {wish.pool} ({wish.range.path})")
        if not found.owner.has_sandbox(*request.key):
            raise _differs(f"{found.address} of {wish.pool} is held by {found.owner}")
        addresses.append(found.address)
    return addresses


def status(request: Request, conf: WhereaboutsConf) -> None:
    """An ADD must find its store and a free address of each range."""
    asked = Asked.of(request, conf)
    if not asked.wishes:
        return
    complaints: list[str] = []
    failures: list[CniError] = []
    with collected(failures):
        place = place_of(request, conf)
        source = source_of(request, conf, place)
        store = opened(
            place, request.environment, patience=patience_of(conf), source=source, memory=request.memory
        )
        complaints = store.complaints(wishes_of(request, conf, asked.wishes, store))
    for failure in failures:
        failure.code = Code.NOT_AVAILABLE
        raise failure
    if complaints:
        raise CniError(
            f"whereabouts cannot give an address: {complaints[0]}",
            why=" ".join(f"{text}." for text in complaints[1:10]),
            fix="`podrail ipam show` lists who holds what.",
            code=Code.NOT_AVAILABLE,
        )


def gc(request: Request, keep: frozenset[AttachmentKey]) -> None:
    """Give back what attachments of this network and node hold that are not to be kept."""
    journal = journal_of(request.environment)
    failures: list[CniError] = []
    for holding in journal.all(request.network.name):
        if holding.key not in keep:
            note(request.network.name, f"gives back {holding.attachment}: it is no longer valid")
            with collected(failures):
                _give_back(request, journal, holding)
    with collected(failures):
        _give_back_leftovers(request, keep)
    if failures:
        raise all_of(failures)
    journal.tidy(request.network.name)


def _give_back_leftovers(request: Request, keep: frozenset[AttachmentKey]) -> None:
    """Free what files of this node say of the network without a record, such as what was imported."""
    try:
        place = place_of(request, WhereaboutsConf.parse(request.network.raw))
    except CniError as error:
        if error.code == Code.IO_FAILURE:
            raise
        return
    if place.kind != "file":
        return  # an entry in a cluster does not say which node it is on
    store = opened(place, request.environment)
    for pool in store.pools():
        for each in store.allocations(pool):
            owner = each.owner
            if owner and owner.network == request.network.name and owner.key not in keep:
                store.release(owner, (), [Claim(pool, each.address)])


def ip_config(wish: Wish, address: Ip, conf: WhereaboutsConf) -> IpConfig:
    """Return what a wish's address is on the pod's interface."""
    gateway = conf.ipam.gateway
    if gateway and gateway.version != address.version:
        gateway = None  # no kernel takes a gateway of the other family
    return IpConfig(address=wish.range.interface(address), gateway=gateway)


def _warn(request: Request, conf: WhereaboutsConf, asked: Asked) -> None:
    ignored = conf.ipam.ignored()
    if ignored:
        note(request.attachment, f"of no effect here, and needed no more: {', '.join(ignored)}")
    for text in (text for wish in asked.wishes for text in wish.range.warnings):
        note(request.attachment, text)


def _differs(difference: str) -> CniError:
    return CniError(
        f"the addresses are not as ADD left them: {difference}", fix="Recreate the pod.", code=Code.DIFFERS
    )


PLUGIN = Plugin(conf=WhereaboutsConf, add=add, delete=delete, check=check, status=status, gc=gc)
