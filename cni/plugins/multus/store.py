"""What multus keeps of its containers on disk: the journal, and Multus' cache beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cni import durable
from cni.host import netns
from cni.host.netns import Netns
from cni.locks import locked
from cni.plugins.multus import device_info
from cni.plugins.multus.args import PodArgs
from cni.plugins.multus.cache import Cache
from cni.plugins.multus.config import MultusConf
from cni.plugins.multus.log import Log
from cni.plugins.multus.plan import Planned
from cni.plugins.multus.record import Called, MultusRecord, call_of
from cni.protocol.errors import CniError, all_of
from cni.protocol.failures import collected
from cni.protocol.gojson import JsonObject
from cni.protocol.notes import note
from cni.protocol.request import Request
from cni.protocol.result import Result
from cni.protocol.versions import UNSTATED
from cni.state import Journal
from cni.undo import undo_on_error, uninterrupted

PLUGIN = "multus"


@dataclass(frozen=True)
class Store:
    """The state of one call's network."""

    request: Request
    conf: MultusConf

    @cached_property
    def log(self) -> Log:
        return Log.of(self.request, self.conf)

    @cached_property
    def journal(self) -> Journal[MultusRecord]:
        return Journal(MultusRecord, PLUGIN, self.request.environment)

    @cached_property
    def cache(self) -> Cache:
        return Cache(Path(self.conf.cni_dir))

    def find(self) -> MultusRecord | None:
        return self.journal.find(self.request.network.name, *self.request.key)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other call for the container run during the block, such as DEL while ADD is stuck.

        Raises:
            CniError: code 11, another one runs for too long.
        """
        folder = durable.run_directory(self.request.environment) / "locks" / PLUGIN
        path = folder / durable.component(f"{self.request.network.name}@{self.request.container_id}")
        with locked(path):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def attaching(self, sandbox: Netns, plan: Sequence[Planned], pod: PodArgs) -> Iterator[Attaching]:
        """Write what is about to be called; if the block fails, give back what was by then.

        An earlier record whose sandbox is gone is given back first; that of a live one is an error.

        Raises:
            AttachmentExists: code 101.
        """
        with self.alone():
            yield from self._attaching(sandbox, plan, pod)

    def _attaching(self, sandbox: Netns, plan: Sequence[Planned], pod: PodArgs) -> Iterator[Attaching]:
        container = self.request.container_id
        called = tuple(each.called(self.request, pod, device_info.path_for(each, container)) for each in plan)
        record = MultusRecord.of(
            self.request, PLUGIN, sandbox.identity(), attachments=called, begun=len(called)
        )
        earlier = self.find()
        if earlier and earlier.sandbox != record.sandbox:
            note(self.request.attachment, f"gives back what an earlier sandbox left: {earlier.attachment}")
            self.give_back(earlier)
        attaching = Attaching(self, plan, record)
        with undo_on_error() as undo:
            with uninterrupted():
                self.journal.begin(record)
                undo.callback(lambda: self.give_back(attaching.record))
                self.cache.write(self.request.container_id, [each.cache_entry for each in plan])
            yield attaching

    def give_back(self, record: MultusRecord) -> None:
        """Call the DELs that a record owes, in reverse, and remove what is known of it.

        Raises:
            CniError: what could not be given back; it stays on record, and nothing else of it.
        """
        path = sandbox_path(record, self.request)
        left: list[Called] = []
        failures: list[CniError] = []
        for called in reversed(record.owed):
            found: list[CniError] = []
            with collected(found):
                call = call_of(self.request, record, called, path)
                called.chain.delete(call, called.capability_args, self._result_of(record, called))
                self.cache.remove_result(record.container_id, called)
                device_info.remove(called)
                self.log.deleted(called)
            if found:
                left.insert(0, called)
                failures += [named(error, called) for error in found]
        if failures:
            self.journal.update(record.model_copy(update={"attachments": tuple(left), "begun": len(left)}))
            raise all_of(failures)
        self.cache.remove(record.container_id)
        self.journal.remove(record.network, *record.key)

    def _result_of(self, record: MultusRecord, called: Called) -> JsonObject | None:
        """Return a delegate's result; one that came just before a crash is in the cache alone."""
        if called.result:
            return called.result
        kept = self.cache.result(called.chain.name, record.container_id, called.ifname)
        return kept.result if kept else None


class Attaching:
    """An ADD on its way: its record as far as it has come."""

    def __init__(self, store: Store, plan: Sequence[Planned], record: MultusRecord) -> None:
        self._store = store
        self.plan = plan
        self.record = record.model_copy(update={"begun": 0})

    def begins(self, position: int) -> None:
        """Note that a delegate is called now: its DEL is owed even if its ADD fails."""
        self.record = self.record.model_copy(update={"begun": position + 1})

    def answered(self, position: int, result: Result) -> None:
        """Remember what a delegate answered; a killed ADD's is found in the cache."""
        version = self.record.attachments[position].chain.version or UNSTATED
        self.record = self.record.with_result(position, result.render(version))
        called = self.record.attachments[position]
        self._store.cache.write_result(self.record.container_id, self.record.netns, called)

    def done(self, answers: Sequence[Result], settled: Sequence[Result]) -> None:
        """Remember all results as they are in the end, where they are not what was answered."""
        for position, (answer, result) in enumerate(zip(answers, settled, strict=True)):
            if result != answer:
                self.answered(position, result)
        self._store.journal.update(self.record)
        for called in self.record.attachments:
            self._store.log.added(called)


def sandbox_path(record: MultusRecord, request: Request) -> str:
    """Return the sandbox's path for DEL: as the runtime says, else as recorded if it is the same still."""
    if request.netns and request.container_id == record.container_id:
        return request.netns
    with netns.opened_if_present(record.netns) as found:
        return record.netns if found and found.identity() == record.sandbox else ""


def named(error: CniError, called: Called) -> CniError:
    """Say in a delegate's error whose it is; its code and its words stay."""
    where = f'{called.ifname} on network "{called.name}"'
    if where not in error.msg:
        error.msg = f"{where}: {error.msg}"
    return error
