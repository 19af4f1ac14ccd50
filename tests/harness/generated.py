"""An S3 server whose one bucket holds as many objects as wanted, none of which lies anywhere: what is listed is worked out.

    server = Generated(1_000_000)
    server.endpoint, server.requests

Object n is `dir-<n/1000>/object-<n>`, as large as n % 5000. Nobody has to sign. Standard library only.
"""
import urllib.parse

from answering import Answering

PAGE = 1000


def key(number):
    """What an object is called: in the order of numbers."""
    return f"dir-{number // 1000:05}/object-{number:08}"


def after(name):
    """The number of the first object whose key is greater than name."""
    low, high = 0, 10**8
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if key(middle) > name else (middle + 1, high)
    return low


class Generated(Answering):
    """count: objects; requests: how many pages were asked for."""

    def __init__(self, count):
        self.count, self.requests = count, 0
        super().__init__()

    def answer(self, request, path, query):
        if "versioning" in query:
            self._send(request, 200, b"<VersioningConfiguration/>")
        elif "list-type" in query:
            self.requests += 1
            self._send(request, 200, self._page(query).encode())
        else:
            name = urllib.parse.unquote(path.split("/", 2)[-1])
            number = after(name) - 1
            if number < 0 or key(number) != name:
                return self._send(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
            self._send(request, 200, bytes(number % 5000), ETag=f'"{number}"')

    def _page(self, query):
        # A token is a key too.
        first = after(query.get("continuation-token") or query.get("start-after", ""))
        end = min(first + PAGE, self.count)
        rows = "".join(f"<Contents><Key>{key(n)}</Key><LastModified>2026-03-01T03:00:00.000Z</LastModified>"
                       f"<ETag>&quot;{n}&quot;</ETag><Size>{n % 5000}</Size></Contents>" for n in range(first, end))
        more = f"<NextContinuationToken>{key(end - 1)}</NextContinuationToken>" if end < self.count else ""
        return (f"<ListBucketResult><Name>bucket</Name><KeyCount>{max(end - first, 0)}</KeyCount>"
                f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{rows}</ListBucketResult>")

    def _send(self, request, status, body, **headers):
        request.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
