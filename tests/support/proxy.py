"""A proxy in front of a server: it counts round trips, goes away, sleeps, and hates idleness."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from scripts.address import Address


@dataclass
class Proxy:
    """What passes between clients and a server.

    Parameters
    ----------
    server : where everything goes
    port : where clients connect
    accepted : how many clients came
    round_trips : how often a client spoke after the server had answered, in all connections
    cuts : of each of the first connections, how many answers pass before it is cut
    idle : seconds after which a connection is cut whose client says nothing
    """

    server: Address
    port: int
    accepted: int = 0
    round_trips: int = 0
    cuts: list[int] = field(default_factory=list)
    idle: float | None = None
    _open: list[socket.socket] = field(default_factory=list)

    def drop(self) -> None:
        """Cut every connection, as a server that goes away does."""
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def serve(self, listener: socket.socket) -> None:
        """Accept clients until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
                upstream = socket.create_connection((self.server.host, self.server.port))
            except OSError:
                return
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(each)
            self.accepted += 1
            client.settimeout(self.idle)
            waiting = [False]  # whether the client's last message is not answered yet
            answers = self.cuts.pop(0) if self.cuts else None
            for source, sink, speaks in ((client, upstream, True), (upstream, client, False)):
                arguments = (source, sink, speaks, waiting, None if speaks else answers)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        speaks: bool,
        waiting: list[bool],
        left: int | None,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if left == 0:
                    break
                left = None if left is None else left - 1
                if speaks and not waiting[0]:
                    self.round_trips += 1
                waiting[0] = speaks
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def proxy(server: Address, host: str = "127.0.0.1", **options: Any) -> Iterator[Proxy]:
    """Give a proxy in front of a server on loopback."""
    listener = socket.create_server((host, 0))
    running = Proxy(server, listener.getsockname()[1], **options)
    thread = threading.Thread(target=running.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        running.drop()
        thread.join(5)
