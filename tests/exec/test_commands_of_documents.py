"""The commands that the documents tell people to type are typed, page by page, on a machine of their own.

podrail, the plugins and the shell are real. STAND-INS for what needs a cluster, an image builder, a package
archive or systemd (kubectl, helm, docker, apt-get, systemctl) take their arguments apart: a file that is
named must be there, a patch must be JSON, what is executed in a pod is executed. The Debian package is that
of tests/packaging.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.examples import ROOT
from tests.support.machine import Machine, overlay
from tests.support.packages import WHEELS, debian_package
from tests.support.world import Namespace

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Commands whose exit status tells what they found.
_FINDING = re.compile(r"^podrail (doctor|verify|show|lint)\b")

_STAND_IN = r"""#!/bin/sh
set -eu
name=$(basename "$0")
fail() { echo "$name stand-in: $*" >&2; exit 1; }
before=
for argument; do
    case $before in
    --filename | --file | -[fk]) [ -e "$argument" ] || fail "there is no $argument" ;;
    --patch) echo "$argument" | python3 -m json.tool >/dev/null || fail "no JSON: $argument" ;;
    esac
    case $argument in packaging/* | /tmp/*) [ -e "$argument" ] || fail "there is no $argument" ;; esac
    before=$argument
done
case "$name $*" in
"apt-get install "*) shift && exec dpkg --install "$@" ;;
"kubectl get net-attach-def"*) cat conf-examples/multus-rails.yaml ;;
"kubectl "*" get pods "*"--output name") echo pod/podrail-x7v2k ;;
"kubectl "*" exec "*)
    while [ "$1" != -- ]; do shift; done
    shift
    exec "$@"
    ;;
esac
"""

# What must be there before the first command of a page.
BEFORE = {
    "install.md": "cp /usr/lib/podrail/client podrail-client; cp conf-examples/rail 10-rail.conflist",
    "lint.md": "cp conf-examples/sriov/*.yaml . && mv pods.yaml pod.yaml",
    "doctor.md": "mkdir -p /mnt/node",
    "migration.md": "cp /usr/lib/cni/macvlan /usr/lib/cni/host-device /usr/lib/cni/static /opt/cni/bin",
}
NOT_TYPED = {
    "protocol.md": "it installs compilers; tests/support/client.py builds the client with them",
    "whereabouts.md": "tests/exec/test_podrail_ipam.py has addresses to look at",
}


def commands(page: Path) -> str:
    """The lines of a page's sh blocks; what only tells what it found may tell that it found something."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [
        f"{{ {line.partition('  #')[0]}; }} || [ $? = 1 ]" if _FINDING.match(line) else line
        for line in "".join(blocks).splitlines()
    ]
    return "\n".join(lines)


TYPED = [page for page in PAGES if commands(page) and page.name not in NOT_TYPED]


_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "/sources/wheels",
}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a machine has beyond this one: podrail, the stand-ins, and a copy of the sources."""
    package = debian_package()
    host = Namespace("host")
    folder = tmp_path_factory.mktemp("furnished")
    with overlay(folder) as root:
        furnish(root, package)
        with Machine(root, host, _ENVIRONMENT) as machine:
            machine.told("dpkg", "--install", "/podrail.deb")
        host.delete()
        yield folder / "changes"


@pytest.fixture
def machine(host: Namespace, furnished: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine of one page, which begins in the copy of the sources."""
    host.add_veth("eth0")
    with (
        overlay(tmp_path / "machine", furnished) as root,
        Machine(root, host, _ENVIRONMENT) as machine,
    ):
        yield machine


def furnish(root: Path, package: Path) -> None:
    """Put the package, the stand-ins and the sources there, and take away what says where plugins are."""
    for name in ("kubectl", "helm", "docker", "apt-get", "systemctl"):
        stand_in = root / "usr/local/sbin" / name
        stand_in.write_text(_STAND_IN)
        stand_in.chmod(0o755)
    sources = root / "sources"
    for name in ("packaging", "conf-examples", "cni", "ipam"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    shutil.copytree(WHEELS, sources / "wheels")
    (sources / "dev").symlink_to("/bin/true")  # tests/exec/test_demo.py runs the demo, and it runs the tests
    (sources / "packaging/debian/build").write_text(f'#!/bin/sh\ncp /podrail.deb "$1/{package.name}"\n')
    (sources / "conf-examples/rail").write_text(
        '{"cniVersion": "1.1.0", "name": "rail", "plugins": [{"type": "macvlan", "master": "eth0"}]}'
    )
    (root / "podrail.deb").write_bytes(package.read_bytes())
    shutil.rmtree(root / "etc/containerd", ignore_errors=True)
    (root / "opt/cni/bin").mkdir(parents=True, exist_ok=True)
    (root / "etc/cni/net.d").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in TYPED])
def test_every_command_of_a_page_works(machine: Machine, page: Path) -> None:
    script = f"set -eux; cd /sources; {BEFORE.get(page.name, ':')}\n{commands(page)}\n"
    answer = machine.run("sh", "-c", script)
    assert answer.status == 0, f"{answer.stdout}\n{answer.stderr}"


def test_what_is_not_typed_exists_and_has_commands() -> None:
    by_name = {page.name: page for page in PAGES}
    assert all(commands(by_name[name]) for name in NOT_TYPED)
