"""200 MB of data, worked on by threads that lock, wait and sleep; an open output file. Its output depends on no timing."""

import hashlib
import queue
import random
import threading
import time

BLOCKS = 50
BLOCK_BYTES = 4 << 20
ROUNDS = 4
WORKERS = 4

blocks = [bytearray(random.Random(number).randbytes(BLOCK_BYTES)) for number in range(BLOCKS)]
to_do = queue.Queue(maxsize=8)
done = {}
lock = threading.RLock()
changed = threading.Condition(lock)


def work():
    while (job := to_do.get()) is not None:
        turn, number = job
        block = blocks[number]
        digest = hashlib.sha256(block)
        for byte in digest.digest():
            block[byte * 4099 + turn] ^= byte
        with lock:
            with changed:  # a second time: the owner of a recursive lock is a thread id
                done[job] = digest.hexdigest()
                changed.notify_all()


def feed():
    for turn in range(ROUNDS):
        for number in range(BLOCKS):
            to_do.put((turn, number))
        with changed:
            changed.wait_for(lambda: all((turn, number) in done for number in range(BLOCKS)))
        time.sleep(0.05)
    for _ in range(WORKERS):
        to_do.put(None)


threads = [threading.Thread(target=work) for _ in range(WORKERS)] + [threading.Thread(target=feed)]
with open("report", "w") as report:
    for thread in threads:
        thread.start()
    for turn in range(ROUNDS):
        for number in range(BLOCKS):
            with changed:
                while (turn, number) not in done:
                    changed.wait(timeout=0.01)
            print(turn, number, done[turn, number], file=report)
    for thread in threads:
        thread.join()
    whole = hashlib.sha256()
    for block in blocks:
        whole.update(block)
    print(whole.hexdigest(), file=report)
print("done")
