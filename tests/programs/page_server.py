# A server of Python's asyncio, with a client of its own in another process: it serves a page, counts how often, and its
# timer ticks. The client says numbers over a unix connection that it keeps, and hears them again.
import asyncio
import os
import sys

PORT, FOLDER = int(sys.argv[1]), sys.argv[2]
ANSWERS = {b"/page": 0, b"/ticks": 0, b"/echoes": 0}


async def answer(reader, writer):
    what = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    if what == b"/page":
        ANSWERS[what] += 1
        body = open(f"{FOLDER}/pages/page", "rb").read()
    else:
        body = b"%d\n" % ANSWERS[b"/page" if what == b"/count" else what]
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def echo(reader, writer):
    while line := await reader.readline():
        ANSWERS[b"/echoes"] = int(line)
        writer.write(line)


async def serve():
    await asyncio.start_unix_server(echo, f"{FOLDER}/echo")
    await asyncio.start_server(answer, "127.0.0.1", PORT)
    while True:
        await asyncio.sleep(0.01)
        ANSWERS[b"/ticks"] += 1


async def ask():
    while not os.path.exists(f"{FOLDER}/echo"):
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_unix_connection(f"{FOLDER}/echo")
    for number in range(1, sys.maxsize):
        writer.write(b"%d\n" % number)
        if await reader.readline() != b"%d\n" % number:
            os._exit(3)
        await asyncio.sleep(0.005)


asyncio.run(ask() if os.fork() == 0 else serve())
