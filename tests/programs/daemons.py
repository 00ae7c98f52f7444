# A supervisor of daemons: each has forked twice and made a session of its own, and came back to the supervisor because that
# is a subreaper. One fails now and then, and is started again.
import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36
NAMES, STEPS = ["one", "two", "three"], 400


def step(name, number):
    total = 0
    for i in range(9000):
        total = (total * 37 + i * number + len(name)) % 1000003
    return total


def daemon(name, ready):
    os.umask(0o022)
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log, 1)
    assert os.getsid(0) != os.getpid() and os.getpgrp() == os.getsid(0)
    os.write(ready, struct_pid(os.getpid()))
    os.close(ready)
    done = sum(1 for _ in open(f"{name}.log"))
    while done < STEPS:
        os.write(log, f"{done} {step(name, done)}\n".encode())
        done += 1
        if name == "two" and done % 150 == 0:
            os.kill(os.getpid(), signal.SIGTERM)
    os._exit(0)


def struct_pid(pid):
    return pid.to_bytes(4, "little")


def start(name):
    ends = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(ends[0])
        os.setsid()
        if os.fork() == 0:
            daemon(name, ends[1])
        os._exit(0)
    os.close(ends[1])
    assert os.waitpid(first, 0)[1] == 0
    pid = int.from_bytes(os.read(ends[0], 4), "little")
    os.close(ends[0])
    return pid


def main():
    assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    running = {start(name): name for name in NAMES}
    history = []
    while running:
        pid, status = os.wait()
        name = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        history.append((name, code))
        if code != 0:
            running[start(name)] = name
    print(sorted(history))


main()
