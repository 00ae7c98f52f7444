"""One thread: big numbers, generators, an interval timer and a growing file."""

import signal

ticks = 0


def tick(_number, _frame):
    global ticks
    ticks += 1


def primes():
    found = []
    number = 2
    while True:
        if all(number % prime for prime in found if prime * prime <= number):
            found.append(number)
            yield number
        number += 1


signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
product = 1
with open("report", "w") as report:
    for index, prime in zip(range(9000), primes()):
        product *= prime
        report.write(f"{index} {prime} {product % 1000000007}\n")
        if index % 100 == 0:
            report.flush()
signal.setitimer(signal.ITIMER_REAL, 0)  # the interpreter drops its handler before it ends
print(product.bit_length(), "ticked" if ticks else "never ticked")
