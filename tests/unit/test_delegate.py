"""Which executables are recognised as podrail's own, made like the one that was called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni.protocol.delegate import is_ours
from cni.protocol.request import Request

# What installers write around a function of ours: {python} and {function} differ.
PIP = """\
#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from cni.entry import {function}
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""
UV = """\
#!{python}
# -*- coding: utf-8 -*-
import sys
from cni.entry import {function}
if __name__ == "__main__":
    if sys.argv[0].endswith("-script.pyw"):
        sys.argv[0] = sys.argv[0][:-11]
    sys.exit({function}())
"""
INSTALLER = """\
#!{python}
import sys
from cni.entry import {function}
if __name__ == "__main__":
    sys.exit({function}())
"""
# Where the kernel would cut the first line, pip lets a shell start Python.
LONG_PATH = """\
#!/bin/sh
'''exec' {python} "$0" "$@"
' '''
import sys
from cni.entry import {function}
if __name__ == '__main__':
    sys.exit({function}())
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def called(executable: Path) -> Request:
    """Return the call of an executable."""
    return Request("ADD", {}, b"", executable=str(executable))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("script", [PIP, UV, INSTALLER, LONG_PATH], ids=["pip", "uv", "installer", "long"])
@pytest.mark.parametrize(
    "python",
    [
        pytest.param("/opt/podrail/bin/python", id="a-path-of-no-meaning"),
        pytest.param("/opt/static/bin/python", id="a-path-with-the-types-word"),
        pytest.param("/opt/macvlan/static/host_device/bin/python", id="a-path-with-everybodys-words"),
    ],
)
@pytest.mark.parametrize(
    ("plugin_type", "function"),
    [("static", "static"), ("host-device", "host_device"), ("macvlan", "macvlan")],
    ids=["static", "host-device", "macvlan"],
)
def test_a_sibling_is_ours(folder: Path, script: str, python: str, plugin_type: str, function: str) -> None:
    caller = written(folder, "caller-by-any-name", script.format(python=python, function="macvlan"))
    sibling = written(folder, plugin_type, script.format(python=python, function=function))
    assert is_ours(plugin_type, sibling, called(caller))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PIP.format(python="/opt/other/bin/python", function="static"), id="another-python"),
        pytest.param(PIP.format(python="/opt/podrail/bin/python -s", function="static"), id="other-options"),
        pytest.param(PIP.format(python="/opt/podrail/bin/python", function="macvlan"), id="another-plugin"),
        pytest.param(UV.format(python="/opt/podrail/bin/python", function="static"), id="another-installer"),
        pytest.param(
            PIP.format(python="/opt/podrail/bin/python", function="static").replace("cni.entry", "entry"),
            id="another-module",
        ),
        pytest.param(
            PIP.format(python="/opt/podrail/bin/python", function="static") + "print()\n", id="one-with-more"
        ),
        pytest.param(
            PIP.format(python="/opt/podrail/bin/python", function="static").replace(
                "(static()", "(macvlan()"
            ),
            id="one-that-imports-one-and-calls-another",
        ),
        pytest.param('#!/bin/sh\nexec /opt/podrail/bin/static "$@"\n', id="a-script-around-ours"),
        pytest.param("", id="an-empty-file"),
    ],
)
def test_a_file_of_another_make_is_not_ours(folder: Path, text: str) -> None:
    caller = written(folder, "macvlan", PIP.format(python="/opt/podrail/bin/python", function="macvlan"))
    assert not is_ours("static", written(folder, "static", text), called(caller))


def test_a_file_that_cannot_be_executed_is_not_ours(folder: Path) -> None:
    text = PIP.format(python="/opt/podrail/bin/python", function="static")
    sibling = written(folder, "static", text)
    sibling.chmod(0o644)
    assert not is_ours("static", sibling, called(written(folder, "macvlan", text)))


def test_an_executable_that_is_replaced_or_written_to_is_judged_anew(folder: Path) -> None:
    ours = PIP.format(python="/opt/podrail/bin/python", function="static")
    another = PIP.format(python="/opt/another/bin/python", function="static")  # as long
    call = called(
        written(folder, "macvlan", PIP.format(python="/opt/podrail/bin/python", function="macvlan"))
    )
    sibling = written(folder, "static", ours)
    assert is_ours("static", sibling, call)

    written(folder, "another", another).rename(sibling)
    assert not is_ours("static", sibling, call)

    sibling.write_text(ours)
    os.utime(sibling, ns=(0, 0))
    assert is_ours("static", sibling, call)

    sibling.write_text(another + "#")
    assert not is_ours("static", sibling, call)

    sibling.write_text(ours)
    assert is_ours("static", sibling, call)
    sibling.chmod(0o644)
    assert not is_ours("static", sibling, call)
