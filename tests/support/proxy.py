"""A proxy in front of a server that counts round trips, and can go away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from scripts.address import Address


@dataclass
class Proxy:
    """What passes between clients and a server.

    Parameters
    ----------
    server : where everything goes
    port : where clients connect
    round_trips : how often a client spoke after the server had answered, in all connections
    """

    server: Address
    port: int
    round_trips: int = 0
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
            waiting = [False]  # whether the client's last message is not answered yet
            for source, sink, speaks in ((client, upstream, True), (upstream, client, False)):
                arguments = (source, sink, speaks, waiting)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(
        self, source: socket.socket, sink: socket.socket, speaks: bool, waiting: list[bool]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if speaks and not waiting[0]:
                    self.round_trips += 1
                waiting[0] = speaks
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def proxy(server: Address) -> Iterator[Proxy]:
    """Give a proxy in front of a server on loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = Proxy(server, listener.getsockname()[1])
    thread = threading.Thread(target=running.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        running.drop()
        thread.join(5)
