#!/usr/bin/env python3
"""Clients that behave in one way each, to show what a server does about them.

    clients.py PORT BEHAVIOUR [COMMAND...]

What they see is printed in the order in which it happens. COMMAND is run when they are all there,
by the behaviours `idle` and `late`; for `last` and `upload` it is the number of the server's
process.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time

PORT, BEHAVIOUR, COMMAND = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
LONG = 32 << 20


def connect():
    """A connection, as soon as somebody listens: the server may just have been started."""
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", PORT), timeout=60)
        except ConnectionRefusedError:
            time.sleep(0.05)
    sys.exit("nobody listens")


def say(*words):
    print(*words, flush=True)


def answers(clients, patience):
    """How many of the clients have something to read, or their end, before patience is over."""
    waiting, answered, deadline = list(clients), 0, time.monotonic() + patience
    while waiting and time.monotonic() < deadline:
        for client in select.select(waiting, [], [], deadline - time.monotonic())[0]:
            waiting.remove(client)
            answered += client.recv(100) != b""
    return answered


def queue():
    """One stays for a second and says nothing; another one asks meanwhile."""
    first, second = connect(), connect()
    second.sendall(b"word")
    say("second client: has asked")
    time.sleep(1)
    say("first client: leaves")
    first.close()
    say("second client: is answered", second.recv(100).decode())


def beside():
    """Three ask beside one that says nothing."""
    silent = connect()
    clients = [connect() for _ in range(3)]
    for client in clients:
        client.sendall(b"word")
    say("answered beside an idle client:", answers(clients, 3), "of 3")
    silent.close()


def hundred():
    """Two read slowly what they get back, and 98 others ask ten times beside them."""
    slow, others = [connect() for _ in range(2)], [connect() for _ in range(98)]
    for client in slow:
        # The kernel is to keep little for them.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.setblocking(False)
    block, answered, began = bytes(1 << 16), 0, time.monotonic()
    for question in range(1, 11):
        for client in others:
            client.sendall(b"word")
        for client in others:
            answered += client.recv(100) == b"word"
        for client in slow:
            while select.select([], [client], [], 0.05)[1]:
                client.send(block)
            select.select([client], [], [], 60)
            client.recv(1 << 14)
        # To be slow is what they are there for: there is nothing that tells when to go on.
        time.sleep(max(0, began + 0.3 * question - time.monotonic()))
    say("answers to the 98 others:", answered)
    for client in slow:
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 20):
            pass


def idle():
    """Fifty that say nothing, each with a begun line."""
    clients = [connect() for _ in range(50)]
    for client in clients:
        client.sendall(b"begun")
    whole = connect()
    whole.sendall(b"whole\n")
    say("50 lines are begun; a whole one is answered:", whole.recv(100).decode().strip())
    subprocess.run(COMMAND, check=True)


def late():
    """One sends 32 MiB, and reads nothing until it can send no more for a second."""
    client, sent, received, block = connect(), 0, 0, bytes(1 << 16)
    # The kernel is to keep little for it.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.setblocking(False)
    while sent < LONG and select.select([], [client], [], 1)[1]:
        sent += client.send(block[: LONG - sent])
    say("could send without reading:", "all" if sent == LONG else "not all")
    subprocess.run(COMMAND, check=True)
    while received < LONG:
        readable, writable, _ = select.select([client], [client] if sent < LONG else [], [], 60)
        if writable:
            sent += client.send(block[: LONG - sent])
            if sent == LONG:
                client.shutdown(socket.SHUT_WR)
        if readable:
            received += len(client.recv(1 << 16))
    say("bytes back:", received)


def last():
    """One asks, then asks again with its end right behind. The server, a process whose number is
    COMMAND, is stopped meanwhile, so that it finds both at once."""
    client, server = connect(), int(COMMAND[0])
    client.sendall(b"first")
    say("first question:", client.recv(100).decode())
    stop(server)
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    os.kill(server, signal.SIGCONT)
    say("last question:", client.recv(100).decode() or "no answer")


def stop(server):
    """It does nothing until it is told to go on."""
    os.kill(server, signal.SIGSTOP)
    while " T " not in open(f"/proc/{server}/stat").read():
        time.sleep(0.01)


def finish():
    """One sends 8 MiB and its end, and reads what comes back, to the end, half a second later."""
    client, received = connect(), 0
    # The kernel is to keep little for it.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.sendall(bytes(LONG // 4))
    client.shutdown(socket.SHUT_WR)
    say("client: has sent its end")
    # The server is to find the end before anybody reads, and nothing tells when it has.
    time.sleep(0.5)
    while block := client.recv(1 << 12):
        received += len(block)
    say("bytes back before the server's end:", received)


def upload():
    """One sends 32 MiB and its end. The server, a process whose number is COMMAND, is stopped until
    as much of it waits as the kernel takes: there is always more to receive."""
    client, server, sent, block = connect(), int(COMMAND[0]), 0, bytes(1 << 16)
    stop(server)
    client.setblocking(False)
    while select.select([], [client], [], 0.1)[1]:
        sent += client.send(block)
    os.kill(server, signal.SIGCONT)
    client.setblocking(True)
    client.sendall(bytes(LONG - sent))
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
    say("sent:", LONG)


def flood():
    """One sends and reads as fast as it can; another one asks ten times meanwhile."""
    greedy, polite, answered = connect(), connect(), 0
    block = bytes(1 << 20)
    children = [forever(lambda: greedy.sendall(block)), forever(lambda: greedy.recv(1 << 20))]
    for _ in range(10):
        # The flood is to go on between two questions, and nothing tells how far it is.
        time.sleep(0.05)
        polite.sendall(b"word")
        answered += polite.recv(100) == b"word"
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    say("answered beside a flood:", answered, "of 10")


def forever(work):
    """A process that does nothing else, and so never waits for another one's turn."""
    if child := os.fork():
        return child
    while True:
        work()


def crowd():
    """Sixty come at once and ask; those that are served leave, and one more asks."""
    clients = [connect() for _ in range(60)]
    for client in clients:
        try:
            client.sendall(b"word")
        except OSError:
            pass
    served = 0
    for client in clients:
        client.settimeout(3 if served == 0 else 0.2)
        try:
            served += client.recv(100) != b""
        except OSError:
            pass
    say("served at once:", "all" if served == 60 else "some" if served else "none")
    for client in clients:
        client.close()
    while not (answer := ask_once()):
        # It was refused: the server has not seen yet that they have left.
        pass
    say("after they have left, one more is answered", answer)


def ask_once():
    """The answer to a word; none when the connection is refused."""
    with connect() as client:
        try:
            client.sendall(b"word")
            return client.recv(100).decode()
        except ConnectionError:
            return ""


def jobs():
    """One asks for six pieces of work, then another one for a single piece."""
    long, short = connect(), connect()
    long.sendall(b"a\n" * 6)
    time.sleep(0.05)
    short.sendall(b"b\n")
    missing = {long: 12, short: 2}
    while missing:
        for client in select.select(list(missing), [], [], 60)[0]:
            missing[client] -= len(client.recv(100))
            if missing[client] == 0:
                del missing[client]
                say("the long job is done" if client is long else "the short job is done")


{
    "queue": queue,
    "beside": beside,
    "hundred": hundred,
    "idle": idle,
    "late": late,
    "last": last,
    "finish": finish,
    "upload": upload,
    "flood": flood,
    "crowd": crowd,
    "jobs": jobs,
}[BEHAVIOUR]()
