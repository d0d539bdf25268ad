"""A slow line for ssh's ProxyCommand: `slow_line.py HOST PORT SECONDS`; every byte takes so long, each way."""

import os
import selectors
import socket
import sys
import time
from collections import deque

host, port, delay = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
line = socket.create_connection((host, port))
line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
choose = selectors.DefaultSelector()
choose.register(0, selectors.EVENT_READ, 1)  # what comes in here goes out there: as (in, what sends it on)
choose.register(line, selectors.EVENT_READ, 2)
under_way = deque()
while choose.get_map() or under_way:
    wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
    for key, _ in choose.select(wait):
        data = os.read(0, 65536) if key.data == 1 else line.recv(65536)
        under_way.append((time.monotonic() + delay, key.data, data))
        if not data:
            choose.unregister(key.fileobj)
    while under_way and under_way[0][0] <= time.monotonic():
        _, way, data = under_way.popleft()
        if not data and way == 2:
            sys.exit(0)
        if way == 1:
            line.sendall(data) if data else line.shutdown(socket.SHUT_WR)
        while way == 2 and data:
            data = data[os.write(1, data) :]
