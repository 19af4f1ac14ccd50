"""A way of some length to an HTTP server on this machine, which takes next to no processor time: bodies go from socket to
socket inside the kernel. What is to be damaged goes through tests/harness/proxy.py instead."""
import contextlib, os, re, socket, threading, time

HEAD = 64 << 10
PIPE = 1 << 20


class Way:
    """In front of 127.0.0.1:target. Each connection and each request of it waits for one round trip (seconds); bandwidth
    (bytes a second, None for no bound) is shared by all."""

    def __init__(self, target):
        self.target, self.round_trip, self.bandwidth = target, 0.0, None
        self.requests = self.bytes = 0
        self._free_at, self._lock = 0.0, threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Takes no further connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        time.sleep(self.round_trip)
        pipe = os.pipe()
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while head := _head(client):
                    self._pass(head, client, server, pipe)
        except OSError:
            pass
        finally:
            for end in pipe:
                os.close(end)

    def _pass(self, head, client, server, pipe):
        """One request and its answer."""
        self.requests += 1
        time.sleep(self.round_trip)
        server.sendall(head)
        _splice(client, server, pipe, _length(head), lambda count: None)
        answer = _head(server)
        if not answer:
            raise OSError("the server went away")
        client.sendall(answer)
        if head.startswith(b"HEAD ") or answer.split(b" ", 2)[1] in (b"204", b"304"):
            return
        if b"chunked" in answer.lower():
            self._pass_chunks(client, server, pipe)
        else:
            _splice(server, client, pipe, _length(answer), self._take)

    def _pass_chunks(self, client, server, pipe):
        size = 1
        while size:
            line = _until(server, b"\r\n")
            client.sendall(line)
            size = int(line.split(b";")[0], 16)
            _splice(server, client, pipe, size + 2, self._take)

    def _take(self, count):
        """Counts bytes, and waits until they may pass."""
        with self._lock:
            self.bytes += count
            if not self.bandwidth:
                return
            self._free_at = max(self._free_at, time.monotonic()) + count / self.bandwidth
            late = self._free_at - time.monotonic()
        if late > 0:
            time.sleep(late)


def _head(of):
    return _until(of, b"\r\n\r\n")


def _until(of, end):
    """All up to and with `end`, and nothing of what follows; nothing where the connection has ended."""
    found = b""
    while True:
        more = of.recv(HEAD, socket.MSG_PEEK)
        if not more or len(found) > HEAD:
            return b""
        at = (found + more).find(end)
        take = len(more) if at < 0 else at + len(end) - len(found)
        found += of.recv(take)
        if at >= 0:
            return found


def _length(head):
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _splice(source, target, pipe, count, take):
    """Moves `count` bytes; `take` is told of each piece before it goes on."""
    while count:
        piece = os.splice(source.fileno(), pipe[1], min(count, PIPE))
        if not piece:
            raise OSError("an end in the middle of a body")
        take(piece)
        count -= piece
        while piece:
            piece -= os.splice(pipe[0], target.fileno(), piece)
