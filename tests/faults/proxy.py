"""A TCP proxy that counts what passes it, and can stall or cut it."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
import time
from types import TracebackType

_CHUNK = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on a loopback ``port`` and passes bytes to and from the target port. Use it as a context manager.

    ``up`` counts what clients sent, ``down`` what the server sent, over all connections.
    """

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.up = self.down = 0
        self.connections = 0
        self._counting = threading.Lock()
        self._most_down: float = math.inf
        self._flowing = {"up": threading.Event(), "down": threading.Event()}
        self.resume()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._ended = False
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def stall(self, direction: str = "down") -> None:
        """Holds back what goes ``up`` or ``down`` from now on; the sender's buffers fill, its connection stays."""
        self._flowing[direction].clear()

    def stall_at(self, down: int) -> None:
        """Holds back what goes down once about so many bytes have."""
        self._most_down = down

    def resume(self) -> None:
        """Lets everything flow again."""
        self._most_down = math.inf
        for event in self._flowing.values():
            event.set()

    def cut(self) -> None:
        """Resets every connection; new ones are still taken."""
        with self._counting:
            cut, self._open = self._open, []
        for one in cut:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def settled(self, quiet_seconds: float = 0.1, timeout: float = 5.0) -> tuple[int, int]:
        """``up`` and ``down`` once nothing has passed for a while."""
        deadline, seen, since = time.monotonic() + timeout, (self.up, self.down), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < quiet_seconds:
            time.sleep(0.01)
            if (self.up, self.down) != seen:
                seen, since = (self.up, self.down), time.monotonic()
        return seen

    def close(self) -> None:
        """Ends every connection and every thread."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._counting:
                self._open += (client, server)
                self.connections += 1
            self._start(self._pump, client, server, "up")
            self._start(self._pump, server, client, "down")

    def _pump(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        """Passes one direction on until it ends, then ends it on the other side too."""
        flowing = self._flowing[direction]
        try:
            while flowing.wait() and (content := source.recv(_CHUNK)):
                flowing.wait()
                with self._counting:
                    if direction == "up":
                        self.up += len(content)
                    else:
                        self.down += len(content)
                        if self.down >= self._most_down:
                            flowing.clear()
                sink.sendall(content)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            with self._counting:
                for one in (source, sink):
                    if one in self._open and direction == "up":
                        self._open.remove(one)
                        one.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
