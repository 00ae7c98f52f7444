# Worker processes of a pool, which get their work through pipes and hand back results; locks and shared memory between them.
import ctypes
import multiprocessing
import time


def work(number):
    total = 0
    for i in range(30000):
        total = (total * 31 + i * number) % 1000003
    with counter.get_lock():
        counter.value += 1
    return number, total


def start(shared):
    global counter
    counter = shared


def main():
    context = multiprocessing.get_context("fork")
    counter = context.Value(ctypes.c_long, 0)
    results = []
    with context.Pool(3, start, (counter,), maxtasksperchild=40) as pool:
        for number, total in pool.imap_unordered(work, range(300), chunksize=2):
            results.append((number, total))
    queue, done = context.Queue(), context.Event()
    child = context.Process(target=lambda: [queue.put(i * i) for i in range(2000)] and done.wait())
    child.start()
    squares = [queue.get() for _ in range(2000)]
    done.set()
    child.join()
    results.sort()
    with open("results", "w") as out:
        out.writelines(f"{number} {total}\n" for number, total in results)
    print(counter.value, sum(squares), child.exitcode)


main()
