"""podrail bundle: what a bug report needs is in it, and no secret is, wherever one lay."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import yaml

from tests.support.world import WarmWorld, World, rail

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
SECRETS = {
    name: f"{name}-Zx81-secret-value"
    for name in (
        "bearer",
        "password",
        "client-key",
        "exec",
        "args",
        "log",
        "message",
        "cut-off",
        "stored",
    )
}


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file, f"{member.name} is no file"
            assert member.mode == 0o600
            found[member.name.partition("/")[2]] = file.read()
        return found


def furnished(world: World, folder: Path) -> None:
    """Hide a secret in every place that a bundle takes something from."""
    world.host.add_veth("eth0")
    world.add(rail(args={"cni": {"password": SECRETS["args"]}}))
    networks = folder / "net.d"
    (networks / "multus.d").mkdir(parents=True)
    kubeconfig = {
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"}}],
        "users": [
            {"name": "a", "user": {"token": SECRETS["bearer"], "password": SECRETS["password"]}},
            {
                "name": "b",
                "user": {"client-key-data": SECRETS["client-key"], "exec": {"env": [SECRETS["exec"]]}},
            },
        ],
    }
    (networks / "multus.d" / "multus.kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    (networks / "whereabouts.kubeconfig").write_text(f"users: [{{token: {SECRETS['cut-off']}")
    (networks / "10-rail.conf").write_text(json.dumps(rail(token=TOKEN)))
    (networks / "binary").write_bytes(b"\xff\xfe\x00" + SECRETS["stored"].encode())
    (networks / "link").symlink_to("/etc/shadow")
    log = [
        json.dumps({"event": "call", "token": SECRETS["log"], "attachment": "jobs/web net1"}),
        f"asked with password={SECRETS['message']} and got {TOKEN}",
    ]
    (folder / "daemon.log").write_text("\n".join(log))


def test_no_secret_is_in_a_bundle_and_what_is_needed_is(world: World, tmp_path: Path) -> None:
    world = WarmWorld(world.host, world.sandbox, world.state)
    furnished(world, tmp_path)
    path = tmp_path / "bundle.tar.gz"
    command = ["nsenter", f"--net={world.host.path}", world.bin / "podrail", "bundle", "--output", path]
    options = ["--conf-dir", tmp_path / "net.d", "--log", tmp_path / "daemon.log", "--no-journal"]
    done = subprocess.run(
        [*command, *options], env=world.environment("", NODENAME="node-a"), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "Secrets were taken out; names and addresses were not." in done.stdout
    found = contents(path)
    whole = b"\n".join(found.values())
    for secret in (*SECRETS.values(), TOKEN):
        assert secret.encode() not in whole, secret
    assert "networks/link" not in found, "what a link leads to is not the network's"
    conf = json.loads(found["networks/10-rail.conf"])
    assert (conf["master"], conf["token"]) == ("eth0", "REDACTED")
    assert yaml.safe_load(found["networks/multus.d/multus.kubeconfig"])["clusters"][0]["name"] == "c"
    (record,) = (
        json.loads(data) for name, data in found.items() if name.startswith("state/attachments/macvlan")
    )
    assert (record["master"], record["config"]["args"]) == ("eth0", {"cni": {"password": "REDACTED"}})
    assert b'"attachment": "jobs/web net1"' in found["log/daemon.log"]
    snapshot = json.loads(found["snapshot.json"])
    assert [each["ifname"] for each in snapshot["attachments"]] == ["net1"]


def test_a_bundle_goes_to_stdout_where_that_is_wanted(world: World, tmp_path: Path) -> None:
    command = [world.bin / "podrail", "bundle", "--output", "-", "--no-journal", "--conf-dir", tmp_path]
    done = subprocess.run(command, env=world.environment(""), capture_output=True)
    (tmp_path / "bundle").write_bytes(done.stdout)
    assert {"README", "snapshot.json"} <= set(contents(tmp_path / "bundle"))
