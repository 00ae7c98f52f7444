# A server of the kind that forks its workers beforehand: they take requests from one pipe, one at a time under a lock, and
# answer through another. Each ends after so many requests, and the master replaces it.
import fcntl
import os
import struct
import sys

WORKERS, REQUESTS, EACH = 4, 1500, 60
ANSWER = struct.Struct("<iqi")


def serve(requests, answers, lock, number):
    for _ in range(EACH):
        fcntl.flock(lock, fcntl.LOCK_EX)
        request = os.read(requests, 4)
        fcntl.flock(lock, fcntl.LOCK_UN)
        if not request:
            os._exit(0)
        (value,) = struct.unpack("<i", request)
        total = 0
        for i in range(9000):
            total = (total * 33 + i * value) % 1000000007
        os.write(answers, ANSWER.pack(value, total, number))
    os._exit(3)


def start(pipes, number):
    worker = os.fork()
    if worker == 0:
        # A lock of flock() belongs to the description, so each has one of its own.
        lock = os.open("lock", os.O_RDWR)
        os.close(pipes["feed"])
        os.close(pipes["take"])
        serve(pipes["requests"], pipes["answers"], lock, number)
    return worker


def main():
    os.close(os.open("lock", os.O_RDWR | os.O_CREAT, 0o666))
    pipes = {}
    pipes["requests"], pipes["feed"] = os.pipe()
    pipes["take"], pipes["answers"] = os.pipe()
    workers = {start(pipes, number) for number in range(WORKERS)}
    started, replaced, results, fed, pending = WORKERS, 0, {}, 0, b""
    while len(results) < REQUESTS:
        while fed < REQUESTS and fed - len(results) < 32:
            os.write(pipes["feed"], struct.pack("<i", fed))
            fed += 1
        pending += os.read(pipes["take"], 4096)
        while len(pending) >= ANSWER.size:
            value, total, _ = ANSWER.unpack(pending[: ANSWER.size])
            pending = pending[ANSWER.size :]
            assert value not in results, value
            results[value] = total
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            assert os.waitstatus_to_exitcode(status) == 3, status
            workers.remove(ended)
            workers.add(start(pipes, started))
            started, replaced = started + 1, replaced + 1
    os.close(pipes["feed"])
    os.close(pipes["requests"])
    while workers:
        ended, status = os.wait()
        assert os.waitstatus_to_exitcode(status) in (0, 3), status
        workers.remove(ended)
    with open("results", "w") as out:
        out.writelines(f"{value} {results[value]}\n" for value in sorted(results))
    print("served", len(results), "and replaced at least", (REQUESTS - WORKERS * EACH) // EACH <= replaced)
    sys.stdout.flush()


main()
