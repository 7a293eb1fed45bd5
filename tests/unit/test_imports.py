"""The direction of imports: each part knows only what stands below it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from cni.protocol.registry import TYPES

ROOT = Path(__file__).parents[2]

# What each part may import of podrail, beside itself. The longest prefix counts.
ALLOWED = {
    "cni.protocol": set(),
    "cni.frames": set(),
    "cni.boot": set(),
    "cni.host": {"cni.protocol", "cni.boot", "cni.frames"},
    "cni.kube": {"cni.protocol"},
    "cni.durable": set(),
    "cni.locks": {"cni.protocol", "cni.durable"},
    "cni.log_file": set(),
    "cni.command": {"cni.protocol"},
    "cni.undo": {"cni.protocol"},
    "cni.state": {"cni.protocol", "cni.durable"},
    "cni.attachment": {"cni.protocol", "cni.host", "cni.state", "cni.undo"},
    "cni.activation": {"cni.protocol", "cni.host", "cni.attachment"},
    "cni.device": {"cni.protocol", "cni.host", "cni.state"},
    "cni.plugins.macvlan": {
        "cni.protocol",
        "cni.host",
        "cni.state",
        "cni.attachment",
        "cni.activation",
        "cni.undo",
    },
    "cni.plugins.host_device": {
        "cni.protocol",
        "cni.host",
        "cni.state",
        "cni.attachment",
        "cni.activation",
        "cni.undo",
        "cni.device",
    },
    "cni.plugins.rdma": {
        "cni.protocol",
        "cni.host",
        "cni.state",
        "cni.attachment",
        "cni.device",
        "cni.durable",
    },
    "cni.plugins.sriov": {
        "cni.protocol",
        "cni.boot",
        "cni.host",
        "cni.state",
        "cni.attachment",
        "cni.activation",
        "cni.undo",
        "cni.device",
        "cni.durable",
        "cni.locks",
        "cni.log_file",
    },
    "cni.plugins.multus": {
        "cni.protocol",
        "cni.host",
        "cni.state",
        "cni.durable",
        "cni.attachment",
        "cni.undo",
        "cni.kube",
        "cni.locks",
        "cni.log_file",
    },
    "cni.daemon": {"cni.protocol", "cni.boot", "cni.host", "cni.state", "cni.durable", "cni.command"},
    "cni.cli": {
        "cni.protocol",
        "cni.host",
        "cni.state",
        "cni.locks",
        "cni.durable",
        "cni.kube",
        "cni.command",
    },
    "cni.entry": {"cni.protocol", "cni.host", "cni.cli"},
    "ipam": {
        "cni.protocol",
        "cni.boot",
        "cni.kube",
        "cni.frames",
        "cni.durable",
        "cni.locks",
        "cni.state",
        "cni.undo",
        "cni.command",
        "ipam.looking",
    },
    # What people look with, and no call: it sees whether sandboxes live.
    "ipam.looking": {"cni.protocol", "cni.host", "cni.durable", "cni.state", "ipam"},
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for top in ("cni", "ipam")
    for path in sorted((ROOT / top).rglob("*.py"))
}


def part_of(module: str) -> str | None:
    """Return the part that a module belongs to: the longest of ALLOWED that begins its name."""
    fitting = [part for part in ALLOWED if module == part or module.startswith(f"{part}.")]
    return max(fitting, key=len, default=None)


def imports_of(path: Path) -> set[str]:
    """Return the modules of podrail that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            names |= {name for name in inner if name in MODULES} or {module}
    return {name for name in names if name.split(".")[0] in ("cni", "ipam")}


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module)])
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    part = part_of(module)
    assert part is not None
    for imported in imports_of(MODULES[module]):
        assert part_of(imported) in ALLOWED[part] | {part}, f"{module} imports {imported}"


def test_every_module_belongs_to_a_part() -> None:
    packages = {"cni", "cni.plugins"}  # nothing but a name
    assert {module for module in MODULES if part_of(module) is None} == packages


def test_plugins_are_named_in_the_registry_only() -> None:
    named = re.compile(r"cni\.plugins\.\w+|ipam\.\w+:")
    naming = {
        module
        for module, path in MODULES.items()
        if not module.startswith(("cni.plugins", "ipam")) and named.search(path.read_text())
    }
    assert naming == {"cni.protocol.registry"}


def test_every_plugin_has_an_executable() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {name: scripts.get(name) for name in TYPES} == {
        name: f"cni.entry:{name.replace('-', '_')}" for name in TYPES
    }


def test_only_netlink_users_open_netlink_sockets() -> None:
    users = {module for module, path in MODULES.items() if "AF_NETLINK" in path.read_text()}
    assert users == {"cni.host.links", "cni.host.rdma"}
