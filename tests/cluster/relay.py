# SPDX-License-Identifier: Apache-2.0
"""Passes frames on late, or not at all: relay.py INTERFACE; each line on standard input says "DELAY LOSS" for what comes
from then on (seconds, which vary by half, and the part that is lost) and is answered by an empty line.

Frames come here because hosts were given this interface's hardware address for others (network.py). Whom a frame is for
tells its IP address, whose last byte is the last byte of the hardware address."""

import heapq
import itertools
import random
import select
import socket
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4
HEAD = 10  # the kernel's words about checksum and segmentation, which the kernel gets back: bytes before the frame
IPV4 = b"\x08\x00"


def main():
    interface = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    interface.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    interface.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    interface.bind((sys.argv[1], 0))
    own = interface.getsockname()[4]
    delay, loss = 0.0, 0.0
    late, order = [], itertools.count()
    while True:
        wait = max(0, late[0][0] - time.monotonic()) if late else None
        for file in select.select([interface, sys.stdin], [], [], wait)[0]:
            if file is sys.stdin:
                line = sys.stdin.readline()
                if not line:
                    return
                delay, loss = map(float, line.split())
                print(flush=True)
                continue
            data, address = interface.recvfrom(HEAD + 70000)
            frame = data[HEAD:]
            if address[2] == PACKET_OUTGOING or frame[:6] != own or frame[12:14] != IPV4 or random.random() < loss:
                continue
            data = data[:HEAD] + own[:5] + frame[33:34] + own + frame[12:]
            heapq.heappush(late, (time.monotonic() + delay * random.uniform(0.5, 1.5), next(order), data))
        while late and late[0][0] <= time.monotonic():
            try:
                interface.send(heapq.heappop(late)[2])
            except OSError:  # the queue is full: lost, as on a wire
                pass


main()
