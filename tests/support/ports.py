"""Ports on loopback for programs that cannot choose a free one themselves."""

from __future__ import annotations

import socket
import subprocess
import time


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(
    port: int, process: subprocess.Popen[bytes], host: str = "127.0.0.1", seconds: float = 10
) -> None:
    """Wait until a program listens; the connection's error where it ended, or takes too long."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
