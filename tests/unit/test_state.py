"""The journal: a record answers for its own attachment, whole, and for no other."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cni.protocol.request import Request
from cni.state import AttachmentExists, Journal, Record


class LinkRecord(Record):
    """A record as a plugin has it."""

    mac: str = ""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def journal(state: Path, plugin: str = "macvlan") -> Journal[LinkRecord]:
    return Journal(LinkRecord, plugin, {"PODRAIL_STATE_DIR": str(state)})


def record(container: str = "pod-1", ifname: str = "net1", network: str = "rail", **keys: Any) -> LinkRecord:
    conf = {"cniVersion": "1.0.0", "name": network, "type": "macvlan"} | keys.pop("config", {})
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": ifname,
        "CNI_NETNS": "/run/netns/pod",
        "CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:01",
    }
    request = Request("ADD", environment, json.dumps(conf).encode())
    return LinkRecord.of(request, "macvlan", "cookie 17", **keys)


def place(state: Path) -> Path:
    return state / "attachments" / "macvlan" / "rail" / "pod-1@net1.json"


# -- one attachment --------------------------------------------------------------------------------


def test_a_record_is_found_as_it_was_written_until_it_is_removed(state: Path) -> None:
    own = journal(state)
    assert own.find("rail", "pod-1", "net1") is None
    own.begin(record())
    assert own.find("rail", "pod-1", "net1") == record().model_copy(
        update={"created": own.all()[0].created}  # to the second
    )
    own.update(record(mac="02:00:00:00:00:01"))
    found = own.find("rail", "pod-1", "net1")
    assert found
    assert found.mac == "02:00:00:00:00:01"
    own.remove("rail", "pod-1", "net1")
    assert own.find("rail", "pod-1", "net1") is None
    assert list(state.iterdir()) == []


def test_a_record_lies_where_an_administrator_looks_for_it_and_can_be_read(state: Path) -> None:
    journal(state).begin(record())
    assert [path for path in state.rglob("*") if path.is_file()] == [place(state)]
    told = json.loads(place(state).read_text())
    assert {key: told[key] for key in ("plugin", "network", "container_id", "ifname", "netns")} == {
        "plugin": "macvlan",
        "network": "rail",
        "container_id": "pod-1",
        "ifname": "net1",
        "netns": "/run/netns/pod",
    }


def test_an_attachment_has_one_record_and_the_first_stays(state: Path) -> None:
    journal(state).begin(record(mac="first"))
    with pytest.raises(AttachmentExists, match='container pod-1 has an attachment "net1"') as refusal:
        journal(state).begin(record(mac="second"))
    assert (refusal.value.code, str(place(state)) in refusal.value.why) == (101, True)
    found = journal(state).find("rail", "pod-1", "net1")
    assert found
    assert found.mac == "first"


def test_the_delete_that_a_record_stands_for_says_what_add_said(state: Path) -> None:
    prev = {"cniVersion": "1.0.0"}
    made = record(config={"ipam": {"type": "static", "\u00e4": "\U0001f600"}, "PrevResult": prev})
    journal(state).begin(made)
    found = journal(state).find("rail", "pod-1", "net1")
    assert found
    caller = Request("GC", {"CNI_PATH": "/opt/cni/bin", "CNI_IFNAME": ""}, b"{}", "/opt/cni/bin/macvlan")
    request = found.request(caller)
    assert request.command == "DEL"
    assert json.loads(request.stdin) == {
        "cniVersion": "1.0.0",
        "name": "rail",
        "type": "macvlan",
        "ipam": {"type": "static", "\u00e4": "\U0001f600"},
    }
    assert dict(request.environment) == {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "pod-1",
        "CNI_IFNAME": "net1",
        "CNI_NETNS": "/run/netns/pod",
        "CNI_ARGS": "IgnoreUnknown=1;MAC=02:00:00:00:00:01",
        "CNI_PATH": "/opt/cni/bin",
    }
    assert request.executable == "/opt/cni/bin/macvlan"


# -- several ---------------------------------------------------------------------------------------


def test_records_of_a_network_are_those_of_no_other_and_of_no_other_plugin(state: Path) -> None:
    journal(state).begin(record("pod-1"))
    journal(state).begin(record("pod-2"))
    journal(state).begin(record("pod-1", network="rail-2"))
    journal(state, "host-device").begin(record("pod-3"))
    assert [each.key for each in journal(state).all("rail")] == [("pod-1", "net1"), ("pod-2", "net1")]
    assert [each.network for each in journal(state).all()] == ["rail", "rail", "rail-2"]
    assert journal(state).all("rail-3") == []


LONG = "a" * 250
keys = st.tuples(
    st.sampled_from(["rail", "rail.2", LONG]),
    st.sampled_from(["pod", "pod-1", "pod.json", LONG + "1", LONG + "2"]),
    st.sampled_from(["net1", "net*", "net?", "net[1]", "a@b", "@", "...", "\u00e9", "a\\b"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.sets(keys, min_size=1, max_size=6))
def test_a_record_answers_for_no_other_attachment(
    state: Path, attachments: set[tuple[str, str, str]]
) -> None:
    """Whatever the names: what a shell or a file system would take for something else, and too long ones."""
    own = journal(state)
    for network, container, ifname in attachments:
        own.begin(record(container, ifname, network))
    assert {(each.network, *each.key) for each in own.all()} == attachments
    for network, container, ifname in sorted(attachments):
        found = own.find(network, container, ifname)
        assert found
        assert (found.network, *found.key) == (network, container, ifname)
        own.remove(network, container, ifname)
        attachments = attachments - {(network, container, ifname)}
        assert {(each.network, *each.key) for each in own.all()} == attachments
    assert list(state.iterdir()) == []


def test_a_record_under_anothers_name_answers_for_neither(state: Path) -> None:
    journal(state).begin(record("pod-1"))
    place(state).rename(place(state).with_name("pod-2@net1.json"))
    assert journal(state).find("rail", "pod-1", "net1") is None
    assert journal(state).find("rail", "pod-2", "net1") is None


# -- what others left ------------------------------------------------------------------------------


def test_foreign_files_are_no_records_and_stay(state: Path) -> None:
    own = journal(state)
    own.begin(record())
    folder = place(state).parent
    (folder / "README").write_text("by hand")
    (folder.parent / "notes.json").write_text("{}")
    (folder / "old.json.bak").write_text("{")
    assert [each.key for each in own.all()] == [("pod-1", "net1")]
    own.remove("rail", "pod-1", "net1")
    own.tidy("rail")
    left = sorted(path.name for path in state.rglob("*") if path.is_file())
    assert left == ["README", "notes.json", "old.json.bak"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="cut-short"),
        pytest.param(b"\xff\xfe", id="no-text"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"{}", id="without-anything"),
        pytest.param(b'{"format": 2}', id="of-a-later-format"),
    ],
)
def test_a_damaged_record_is_set_aside_and_told(
    state: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    own = journal(state)
    own.begin(record("pod-1"))
    own.begin(record("pod-2"))
    place(state).write_bytes(data)
    assert [each.key for each in own.all("rail")] == [("pod-2", "net1")]
    assert place(state).read_bytes() == data  # looking sets nothing aside
    capsys.readouterr()
    assert own.find("rail", "pod-1", "net1") is None
    aside = place(state).with_suffix(".corrupt")
    assert (aside.read_bytes(), place(state).exists()) == (data, False)
    assert capsys.readouterr().err.splitlines() == [
        f"podrail: macvlan: the record {place(state)} cannot be read",
        f"podrail: macvlan: it was set aside as {aside}",
    ]
    own.begin(record("pod-1"))
    assert len(own.all("rail")) == 2


def test_an_empty_record_is_what_a_loss_of_power_left_and_goes(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = journal(state)
    own.begin(record("pod-1"))
    place(state).write_bytes(b"")
    assert own.find("rail", "pod-1", "net1") is None
    assert [path for path in state.rglob("*") if path.is_file()] == []
    assert "it was empty, and is removed" in capsys.readouterr().err
    own.begin(record("pod-1"))
    assert len(own.all("rail")) == 1


def test_what_a_later_release_added_to_a_record_is_no_damage(state: Path) -> None:
    journal(state).begin(record())
    told = json.loads(place(state).read_text())
    place(state).write_text(json.dumps(told | {"something": "new"}))
    assert journal(state).find("rail", "pod-1", "net1")


# -- at once ---------------------------------------------------------------------------------------


def _update_again_and_again(state: Path) -> None:
    for number in range(100):
        journal(state).update(record(mac=str(number) * 20_000))


def test_a_reader_sees_a_record_as_it_was_or_as_it_is(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal(state).begin(record())
    writer = multiprocessing.get_context("fork").Process(target=_update_again_and_again, args=(state,))
    writer.start()
    seen = 0
    while writer.is_alive():
        found = journal(state).find("rail", "pod-1", "net1")
        assert found
        assert len(set(found.mac)) <= 2  # the digits of one number
        assert len(found.mac) in (0, 20_000, 40_000)
        seen += 1
    writer.join()
    assert (writer.exitcode, seen > 1, capsys.readouterr().err) == (0, True, "")
