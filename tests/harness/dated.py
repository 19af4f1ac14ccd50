"""An S3 server whose one bucket keeps versions, from times that a test says: a real server has them from its own clock, and one over
a directory cannot hold `a` once it held `a/b`.

    server = Dated()
    server.backup(directory, "2024-05-01 01:00:00")

What was saved has the modes, owners and times that the files have, as s3fs writes them. Nobody has to sign. Standard library only.
"""
import datetime, os, pathlib, re, urllib.parse
from xml.sax.saxutils import escape

from answering import Answering


class Dated(Answering):
    """versions: by key, what it was, the oldest first: (time, bytes, metadata), or (time, None, None) for a deletion."""

    set, variables = "bucket@+", {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}

    def __init__(self):
        self.versions = {}
        super().__init__()

    def arguments(self):
        """What tells backupfs to open it."""
        return ["-r", f"objects:s3:{self.endpoint}/bucket", "-o", "zone=UTC"]

    def backup(self, source, time):
        """Makes it hold what is in a directory; time as 2024-01-31 12:00:00. Gives the name of the moment."""
        when = datetime.datetime.strptime(time, "%Y-%m-%d %H:%M:%S")
        stamp = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        held = {}
        for at, _, names in os.walk(source):
            for path in (pathlib.Path(at) / name for name in names):
                entry = path.lstat()
                seconds, nanos = divmod(entry.st_mtime_ns, 10**9)
                labels = {"mode": entry.st_mode, "uid": entry.st_uid, "gid": entry.st_gid, "mtime": f"{seconds}.{nanos:09}"}
                held[str(path.relative_to(source))] = (path.read_bytes(), labels)
        for key in self.versions.keys() | held.keys():
            of_key, now = self.versions.setdefault(key, []), held.get(key, (None, None))
            if (of_key[-1][1:] if of_key else (None, None)) != now:
                of_key.append((stamp, *now))
        return when.strftime("%Y%m%d_%H%M%S")

    def answer(self, request, path, query):
        if "versioning" in query:
            return self._send(request, 200, b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
        if "versions" in query:
            return self._send(request, 200, self._page(query.get("key-marker", "")).encode())
        key = urllib.parse.unquote(path.split("/", 2)[-1])
        number = int(query.get("versionId", len(self.versions.get(key, ())) - 1))
        _, content, labels = self.versions[key][number]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        first, last = (int(found[1]), int(found[2] or len(content) - 1)) if found else (0, len(content) - 1)
        headers = {f"x-amz-meta-{name}": value for name, value in labels.items()} | {"ETag": _etag(content)}
        if found:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(request, 206 if found else 200, content[first:last + 1], **headers)

    def _page(self, behind):
        """Two keys at a time."""
        keys = sorted((key for key in self.versions if key > behind), key=os.fsencode)
        rows = ""
        for key in keys[:2]:
            last = len(self.versions[key]) - 1
            for number, (time, content, _) in reversed(list(enumerate(self.versions[key]))):
                kind, more = ("DeleteMarker", "") if content is None else (
                    "Version", f"<Size>{len(content)}</Size><ETag>{escape(_etag(content))}</ETag>")
                rows += (f"<{kind}><Key>{escape(key)}</Key><VersionId>{number}</VersionId><LastModified>{time}</LastModified>"
                         f"<IsLatest>{str(number == last).lower()}</IsLatest>{more}</{kind}>")
        goes_on = len(keys) > 2
        more = f"<NextKeyMarker>{escape(keys[1])}</NextKeyMarker><NextVersionIdMarker>0</NextVersionIdMarker>" if goes_on else ""
        return f"<ListVersionsResult><Name>bucket</Name><IsTruncated>{str(goes_on).lower()}</IsTruncated>{more}{rows}</ListVersionsResult>"

    def _send(self, request, status, body, **headers):
        request.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            request.send_header(name, str(value))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)


def _etag(content):
    return f'"{hash(content) & 0xffffffffffffffff:016x}"'
