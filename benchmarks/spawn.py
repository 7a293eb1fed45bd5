"""Start programs one by one and measure each, on behalf of `measure.Spawner`.

A process of its own, with as few imports as can be, because forking a small one costs little.
"""

import marshal
import posix
import sys
import time


def measure(argv: list[str], environment: dict[str, str], stdin: bytes) -> tuple[int | bytes | float, ...]:
    """Run a program to its end; return status, stdout, stderr, wall and CPU seconds."""
    files = [posix.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    posix.write(files[0], stdin)
    posix.lseek(files[0], 0, 0)
    began = time.perf_counter()
    child = posix.fork()
    if child == 0:
        for number, file in enumerate(files):
            posix.dup2(file, number)
        try:
            posix.execve(argv[0], argv, environment)
        finally:
            posix._exit(127)
    _, status, usage = posix.wait4(child, 0)
    wall = time.perf_counter() - began
    outputs = [posix.pread(file, 1 << 20, 0) for file in files[1:]]
    for file in files:
        posix.close(file)
    cpu = usage.ru_utime + usage.ru_stime
    return (posix.waitstatus_to_exitcode(status), *outputs, wall, cpu)


def serve() -> None:
    while True:
        try:
            job = marshal.load(sys.stdin.buffer)  # from `measure.Spawner`, nobody else
        except EOFError:
            return
        marshal.dump(measure(*job), sys.stdout.buffer)
        sys.stdout.buffer.flush()


serve()
