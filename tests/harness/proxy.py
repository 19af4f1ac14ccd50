"""A proxy on 127.0.0.1 in front of a server, which delays and damages what passes: what networks and servers do.

    proxy = Proxy(port_of_the_server)
    proxy.round_trip, proxy.bandwidth = 0.03, 10e6           # seconds, bytes a second
    proxy.add(status(503, share=0.1))                        # faults of HTTP: by request
    proxy.add(reset(share=0.05, path="/data/"))
    proxy.mode = "blackhole"                                 # faults of the way: all connections
    proxy.close()

Every knob may be turned while it runs. As a program: proxy.py --to PORT [--round-trip S] [--bandwidth B] [--status P].
Standard library only.
"""
import argparse, asyncio, contextlib, random, re, socket, struct, threading

PIECE = 64 << 10
HEAD = 64 << 10

MODES = ("open", "blackhole", "refuse")


class Fault:
    """What happens to some requests. share: of those that match; path: a part of their target; times: at most."""

    def __init__(self, kind, share=1.0, path="", times=None, **more):
        self.kind, self.share, self.path, self.left, self.hits, self.more = kind, share, path, times, 0, more

    def meets(self, target, dice):
        if self.path not in target or self.left == 0 or dice.random() >= self.share:
            return False
        self.left = None if self.left is None else self.left - 1
        self.hits += 1
        return True


def status(code, retry_after=None, **when):
    """The proxy answers with this status itself."""
    return Fault("status", code=code, retry_after=retry_after, **when)


def reset(**when):
    """The connection is reset in the middle of the body (before the answer, when there is none)."""
    return Fault("reset", **when)


def truncate(**when):
    """The connection is closed in the middle of the body."""
    return Fault("truncate", **when)


def stall(**when):
    """Nothing comes any more from the middle of the body on."""
    return Fault("stall", **when)


def wait(seconds, **when):
    """The answer begins so much later."""
    return Fault("wait", seconds=seconds, **when)


def flip(**when):
    """A bit in the middle of the body is turned."""
    return Fault("flip", **when)


def swap(**when):
    """The body is that of another answer of the same length, if there was one."""
    return Fault("swap", **when)


def misrange(**when):
    """Content-Range names other bytes than were asked for."""
    return Fault("misrange", **when)


class Proxy:
    """In front of 127.0.0.1:target. http: connections are taken for HTTP/1.1, so that faults of requests can be made."""

    def __init__(self, target, http=True, seed=1):
        self.target, self.http = target, http
        self.round_trip, self.bandwidth, self.mode = 0.0, None, "open"
        self.requests = self.connections = self.bytes = 0
        self.targets = []   # the request lines, in order
        self.faults, self.dice, self._free_at = [], random.Random(seed), 0.0
        self._open, self._bodies, self._loop = set(), {}, asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, fault):
        """Has a fault happen from now on; its hits tell how often it did."""
        self.faults.append(fault)
        return fault

    def heal(self):
        """Everything works again; what hangs goes on hanging until it is cut."""
        self.faults, self.mode = [], "open"

    def cut(self):
        """Resets every connection."""
        self._loop.call_soon_threadsafe(lambda: [_abort(writer) for writer in list(self._open)])

    def close(self):
        """Ends everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._listener.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener, limit=HEAD))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader, writer):
        self.connections += 1
        if self.mode == "refuse":
            return _abort(writer)
        self._open.add(writer)
        up = None
        try:
            await self._passable()
            await asyncio.sleep(self.round_trip)  # what connecting takes
            server, up = await asyncio.open_connection("127.0.0.1", self.target, limit=HEAD)
            self._open.add(up)
            if self.http:
                await self._requests(reader, writer, server, up)
            else:
                await asyncio.gather(self._pass(reader, up), self._pass(server, writer))
        except (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _abort(writer)
        except asyncio.CancelledError:  # close()
            pass
        finally:
            for one in (writer, up):
                if one is not None:
                    self._open.discard(one)
                    one.close()

    async def _passable(self):
        while self.mode == "blackhole":
            await asyncio.sleep(0.05)

    async def _send(self, writer, data):
        """Bytes, no faster than the bandwidth that all connections share."""
        for at in range(0, len(data), PIECE):
            await self._passable()
            piece = data[at:at + PIECE]
            if self.bandwidth:
                now = self._loop.time()
                self._free_at = max(self._free_at, now) + len(piece) / self.bandwidth
                await asyncio.sleep(self._free_at - now)
            self.bytes += len(piece)
            writer.write(piece)
            await writer.drain()

    async def _pass(self, reader, writer):
        """One direction of a connection nothing is known of: every piece is late by half a round trip."""
        line = asyncio.Queue(maxsize=1024)

        async def deliver():
            while True:
                at, piece = await line.get()
                await asyncio.sleep(max(0, at - self._loop.time()))
                if not piece:
                    return writer.write_eof() if writer.can_write_eof() else None
                await self._send(writer, piece)

        delivery = asyncio.ensure_future(deliver())
        try:
            piece = b"begin"
            while piece:
                piece = await reader.read(PIECE)
                await line.put((self._loop.time() + self.round_trip / 2, piece))
            await delivery
        finally:
            delivery.cancel()

    async def _requests(self, reader, writer, server, up):
        """The requests of one connection, one after the other."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            body = await reader.readexactly(int(_field(head, b"content-length") or 0))
            self.requests += 1
            self.targets.append(f"{method} {target}")
            met = {fault.kind: fault for fault in self.faults if fault.meets(target, self.dice)}
            await self._passable()
            await asyncio.sleep(self.round_trip)
            if "wait" in met:
                await asyncio.sleep(met["wait"].more["seconds"])
            if "status" in met:
                await self._send(writer, _refusal(**met["status"].more))
                continue
            up.write(head + body)
            await up.drain()
            if not await self._answer(method, server, writer, met):
                return

    async def _answer(self, method, server, writer, met):
        """Passes one answer on; false when the connection is to end."""
        head = await server.readuntil(b"\r\n\r\n")
        code = int(head.split(b" ", 2)[1])
        length = _field(head, b"content-length")
        if method == "HEAD" or code in (204, 304):
            body, chunked = b"", False
        elif b"chunked" in (_field(head, b"transfer-encoding") or b"").lower():
            body, chunked = await _chunks(server), True
        elif length is not None:
            body, chunked = await server.readexactly(int(length)), False
        else:
            body, chunked = await server.read(-1), False
        if chunked:
            head = re.sub(rb"(?i)\r\ntransfer-encoding:[^\r]*", b"", head)
            head = head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body)
        if "misrange" in met:
            head = re.sub(rb"(?i)(\r\ncontent-range: *bytes )(\d+)-(\d+)",
                          lambda m: b"%b%d-%d" % (m[1], int(m[2]) + 1, int(m[3]) + 1), head)
        if "swap" in met and code in (200, 206):
            body = self._bodies.get(len(body), body)
        elif code in (200, 206) and len(body) <= 1 << 20 and len(self._bodies) < 64:
            self._bodies[len(body)] = body
        if "flip" in met and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1:]
        ends = next((kind for kind in ("reset", "truncate", "stall") if kind in met), None)
        if ends is None:
            await self._send(writer, head + body)
            return b"close" not in (_field(head, b"connection") or b"").lower()
        if body:
            await self._send(writer, head + body[:len(body) // 2])
        if ends == "stall":
            await asyncio.sleep(3600)
        if ends == "reset" or not body:
            _abort(writer)
        return False


def _abort(writer):
    """Closes with a reset instead of an end."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _field(head, name):
    found = re.search(rb"(?i)\r\n" + name + rb": *([^\r]*)", head)
    return found and found[1]


def _refusal(code, retry_after):
    after = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
    return f"HTTP/1.1 {code} Injected\r\nContent-Length: 0\r\n{after}\r\n".encode()


async def _chunks(reader):
    """A chunked body, put together."""
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return b"".join(parts)


def main():
    """Runs until it is ended; the first line printed is the port."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=int, required=True, help="port of the server on 127.0.0.1")
    parser.add_argument("--tcp", action="store_true", help="pass bytes on without looking for HTTP in them")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds")
    parser.add_argument("--bandwidth", type=float, help="bytes a second, over all connections")
    parser.add_argument("--status", type=float, default=0.0, help="share of requests answered 503")
    options = parser.parse_args()
    proxy = Proxy(options.to, http=not options.tcp)
    proxy.round_trip, proxy.bandwidth = options.round_trip, options.bandwidth
    if options.status:
        proxy.add(status(503, share=options.status))
    print(proxy.port, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
