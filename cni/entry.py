"""The executables, one line each; a plugin is imported only to act.

Exactly one JSON document reaches stdout, whatever happens: signals are answered from before the imports
on that a verb needs. VERSION, which runtimes ask often, is answered without those 20 ms.
"""

from __future__ import annotations

import os
import signal
import sys

from cni.protocol import versions
from cni.protocol.errors import Terminated
from cni.protocol.notes import note

TYPE_CHECKING = False  # not typing's, whose import takes 2 ms of the 28 of VERSION
if TYPE_CHECKING:
    from typing import NoReturn

    from cni.protocol.request import Request

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def macvlan() -> NoReturn:
    _main("macvlan")


def host_device() -> NoReturn:
    _main("host-device")


def rdma() -> NoReturn:
    _main("rdma")


def sriov() -> NoReturn:
    _main("sriov")


def static() -> NoReturn:
    _main("static")


def multus() -> NoReturn:
    _main("multus")


def whereabouts() -> NoReturn:
    _main("whereabouts")


def podrail() -> NoReturn:
    _open_standard_streams()
    from cni.cli.main import main

    sys.exit(main())


def _main(plugin_type: str) -> NoReturn:
    environment = dict(os.environ)
    command = environment.get("CNI_COMMAND", "")
    if sys.argv[1:] and sys.argv[1].lstrip("-") in ("v", "version"):
        from importlib.metadata import version  # 40 ms that no call pays

        # As Multus does, which people ask so.
        sys.stdout.write(f"{plugin_type}: version:{version('podrail')} commit:none date:none\n")
        sys.exit(0)
    if not command:
        sys.stderr.write(f"CNI {plugin_type} plugin of podrail\n")
        sys.stderr.write(f"CNI protocol versions supported: {', '.join(versions.SUPPORTED)}\n")
        if sys.argv[1:]:  # meant for another program, such as the rdma of iproute2
            sys.exit(f"It takes no arguments. Is another {plugin_type} meant? This one is {sys.argv[0]}.")
        sys.exit(0)
    stdout_is_open = _open_standard_streams()
    if command == "VERSION":
        try:
            _write_all(versions.answer())
        except OSError as error:
            _exit_undelivered(str(error))
        os._exit(0)
    if not stdout_is_open and command == "ADD":
        _exit_undelivered("stdout is closed, so nothing was done")
    try:
        _catch_signals()
        _act(plugin_type, command, environment)
    except Terminated as error:
        _answer_stopped(command, environment, error)
    except BaseException as error:  # before `run`, which answers for all else: modules, stdin
        if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:  # a module made it of what a signal raised
            _answer_stopped(command, environment, Terminated("a signal"))
        _answer_by_hand(command, error)


def _act(plugin_type: str, command: str, environment: dict[str, str]) -> NoReturn:
    from cni.protocol.gojson import MAX_BYTES
    from cni.protocol.plugin import run
    from cni.protocol.request import Request

    _keep_pydantic_from_plugins()
    # One byte more than allowed, so that too much is told from just enough.
    stdin = _read_all(MAX_BYTES + 1)
    request = Request(command, environment, stdin, executable=sys.argv[0])
    reply = run(plugin_type, request, precondition=_refuse_own_namespace)
    _ignore_signals()
    try:
        _write_all(reply.stdout)
    except OSError as error:
        if command == "ADD" and reply.exit_status == 0:
            # An attachment that nobody heard of is taken back.
            request = request.with_variables(CNI_COMMAND="DEL")
            run(plugin_type, request, precondition=_refuse_own_namespace)
        _exit_undelivered(str(error))
    # No interpreter shutdown: there is nothing left to do, and it costs 3 ms.
    os._exit(reply.exit_status)


def _answer_stopped(command: str, environment: dict[str, str], error: Terminated) -> NoReturn:
    from cni.protocol.plugin import stopped
    from cni.protocol.request import Request

    try:
        _write_all(stopped(Request(command, environment, b""), error).stdout)
    except OSError as failure:
        _exit_undelivered(str(failure))
    os._exit(1)


def _answer_by_hand(command: str, error: BaseException) -> NoReturn:
    """Say what failed where not even what is needed to say so could be loaded."""
    _ignore_signals()
    is_the_systems = isinstance(error, (OSError, MemoryError))
    text = f"{command} failed before it began: {error or 'out of memory'}"[:500]
    fix = "Look at stdin, and at the limits and the installation that this names. Nothing was done."
    escaped = "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\u{min(ord(char), 0xFFFD):04x}"
        for char in text
    )
    answer = f'"cniVersion": "{versions.NEWEST}", "code": {5 if is_the_systems else 999}'
    try:
        _write_all(f'{{{answer}, "msg": "{escaped}", "details": "{fix}"}}'.encode())
    except OSError as failure:
        _exit_undelivered(str(failure))
    os._exit(1)


def _open_standard_streams() -> bool:
    """Put /dev/null where 0, 1 or 2 is closed, lest a socket becomes stdout; tell if stdout was open."""
    stdout_is_open = True
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            stdout_is_open &= number != 1
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    return stdout_is_open


def _exit_undelivered(reason: str) -> NoReturn:
    note("", f"the answer could not be given: {reason}")
    os._exit(1)


def _keep_pydantic_from_plugins() -> None:
    """Let pydantic find no plugins of its own: code of others has no business in a process of root's.

    Its switch for that comes after the import of importlib.metadata, a tenth of an ADD's CPU. Where a
    release of pydantic looks elsewhere for them, this does nothing.
    """
    loader = type(sys)("pydantic.plugin._loader")
    vars(loader)["get_plugins"] = tuple
    sys.modules.setdefault(loader.__name__, loader)


def _refuse_own_namespace(request: Request) -> None:
    from cni.host.netns import refuse_own_namespace

    refuse_own_namespace(request)


def _terminate(number: int, _frame: object) -> NoReturn:
    _ignore_signals()  # undoing must not be undone
    raise Terminated(signal.Signals(number).name)


def _catch_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, _terminate)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # what a caller blocks is inherited too
    # Who ignores it has no exit status of delegates, and a caller's choice is inherited.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _read_all(limit: int) -> bytes:
    chunks, size = [], 0
    while size < limit:
        try:
            chunk = os.read(0, min(1 << 20, limit - size))
        except BlockingIOError:
            _wait(0)
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, "stdin") from error
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(1, view) :]
        except BlockingIOError:
            _wait(1)


def _wait(number: int) -> None:
    """Wait until a stream that does not block, since a caller shares it with others, can be used."""
    import select  # callers' streams block, as a rule

    select.select([0] if number == 0 else [], [1] if number == 1 else [], [])
