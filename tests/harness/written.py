"""restic repositories written entry by entry: for what no backup program would save.

Only what a reader needs is there: one key, one pack of trees and one of data, one index, any number of snapshots.
Keys are cheap to derive (scrypt with N = 2), so that a test may open such a repository a thousand times.
"""
import base64, ctypes, ctypes.util, hashlib, json, os, pathlib, struct

from cases import scratch
from mount import Repository

PASSWORD = b"written by hand"
MODES = {"file": 0, "dir": 1 << 31, "symlink": 1 << 27, "dev": 1 << 26, "chardev": 1 << 26 | 1 << 21, "fifo": 1 << 25,
         "socket": 1 << 24}


def _libcrypto():
    library = ctypes.CDLL(ctypes.util.find_library("crypto"))
    for name in ("EVP_aes_256_ctr", "EVP_aes_128_ecb", "EVP_CIPHER_CTX_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


_crypto = _libcrypto()


def _aes(cipher, key, iv, data):
    context = ctypes.c_void_p(_crypto.EVP_CIPHER_CTX_new())
    out, size = ctypes.create_string_buffer(len(data) + 32), ctypes.c_int()
    _crypto.EVP_EncryptInit_ex(context, ctypes.c_void_p(getattr(_crypto, cipher)()), None, key, iv)
    _crypto.EVP_EncryptUpdate(context, out, ctypes.byref(size), data, len(data))
    _crypto.EVP_CIPHER_CTX_free(context)
    return out.raw[:size.value]


def _poly1305(r, s, data):
    r = int.from_bytes(r, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at:at + 16] + b"\x01", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(s, "little")) % (1 << 128)).to_bytes(16, "little")


class Key:
    """64 bytes: encryption key, then k and r of the authenticator."""

    def __init__(self, secret):
        self.encrypt, self.k, self.r = secret[:32], secret[32:48], secret[48:64]

    def seal(self, plain):
        """The encrypted unit of some bytes."""
        iv = os.urandom(16)
        text = _aes("EVP_aes_256_ctr", self.encrypt, iv, plain) if plain else b""
        return iv + text + _poly1305(self.r, _aes("EVP_aes_128_ecb", self.k, None, iv), text)


def node(name, kind="file", mode=0o644, **more):
    """A tree's entry with the usual fields; more adds to them or replaces them."""
    time = "2024-03-01T12:00:00.123456789Z"
    return {"name": name, "type": kind, "mode": MODES.get(kind, 0) | mode, "mtime": time, "atime": time, "ctime": time,
            "uid": os.getuid(), "gid": os.getgid(), **more}


def acl(*entries):
    """The value of system.posix_acl_access: (tag, permissions, id) each; tag u, U (named), g, G, m or o."""
    tags = {"u": 1, "U": 2, "g": 4, "G": 8, "m": 16, "o": 32}
    none = 0xFFFFFFFF
    rows = [struct.pack("<HHI", tags[tag], perm, none if who is None else who) for tag, perm, who in entries]
    return base64.b64encode(struct.pack("<I", 2) + b"".join(rows)).decode()


class Written(Repository):
    """A repository being written; finish() makes it readable."""

    def __init__(self, version=2):
        base = scratch("written")
        (base / "password").write_bytes(PASSWORD)
        super().__init__(base / "repo", base / "password")
        for name in ("keys", "snapshots", "index", "data", "locks"):
            (self.path / name).mkdir(parents=True)
        self.key, self.packs, self.known = Key(os.urandom(64)), {"data": [], "tree": []}, set()
        self.where = {}  # of each blob that was written: pack file, offset, length
        self._write_key()
        self._store("config", json.dumps({"version": version, "id": os.urandom(32).hex(),
                                          "chunker_polynomial": "25b468838dcb75"}).encode())

    def _write_key(self):
        salt = os.urandom(64)
        derived = Key(hashlib.scrypt(PASSWORD, salt=salt, n=2, r=8, p=1, dklen=64))
        b64 = lambda b: base64.b64encode(b).decode()
        master = {"mac": {"k": b64(self.key.k), "r": b64(self.key.r)}, "encrypt": b64(self.key.encrypt)}
        text = json.dumps({"created": "2024-01-01T00:00:00Z", "username": "t", "hostname": "t", "kdf": "scrypt", "N": 2,
                           "r": 8, "p": 1, "salt": b64(salt), "data": b64(derived.seal(json.dumps(master).encode()))})
        self._put("keys", text.encode())

    def _put(self, kind, raw):
        name = hashlib.sha256(raw).hexdigest()
        where = self.path / kind / name[:2] if kind == "data" else self.path / kind
        where.mkdir(exist_ok=True)
        (where / name).write_bytes(raw)
        return name

    def _store(self, kind, plain):
        if kind == "config":
            (self.path / "config").write_bytes(self.key.seal(plain))
            return None
        return self._put(kind, self.key.seal(plain))

    def garbage(self, kind, plain=None):
        """Saves a snapshot or index file of these bytes, well encrypted, or of noise."""
        return self._put(kind, os.urandom(200)) if plain is None else self._store(kind, plain)

    def blob(self, data, kind="data"):
        """Saves bytes; gives their id. Equal bytes are saved once."""
        name = hashlib.sha256(data).hexdigest()
        if (kind, name) not in self.known:
            self.known.add((kind, name))
            self.packs[kind].append((name, self.key.seal(data), None))
        return name

    def forged(self, name, data, kind="data", declared=None):
        """Saves bytes under any id, as compressed to something of a declared length when one is given."""
        self.known.add((kind, name))
        self.packs[kind].append((name, self.key.seal(data), declared))
        return name

    def tree(self, nodes):
        """Saves a directory of nodes; gives its id."""
        return self.blob(json.dumps({"nodes": nodes}, separators=(",", ":")).encode() + b"\n", "tree")

    def file(self, name, data=b"", **more):
        """The node of a file with these contents."""
        return node(name, **{"content": [self.blob(data)] if data else [], "size": len(data), **more})

    def directory(self, name, nodes, mode=0o755, **more):
        """The node of a directory."""
        return node(name, "dir", mode, subtree=self.tree(nodes), **more)

    def snapshot(self, nodes, time="2024-03-01T12:00:00Z", host="written", path="/data"):
        """Saves a snapshot whose path holds nodes; gives its id."""
        tree = self.tree(nodes)
        for part in reversed(pathlib.PurePath(path).parts[1:]):
            tree = self.tree([node(part, "dir", 0o755, subtree=tree)])
        return self.snapshot_of(tree, time, host, path)

    def snapshot_of(self, tree, time="2024-03-01T12:00:00Z", host="written", path="/data"):
        """Saves a snapshot whose root is a tree."""
        return self._store("snapshots", json.dumps({"time": time, "tree": tree, "paths": [path], "hostname": host,
                                                    "username": "t"}).encode())

    def finish(self):
        """Writes packs and index; gives the repository."""
        packs = []
        for kind, blobs in self.packs.items():
            if blobs:
                packs.append(self._pack(kind, blobs))
        self._store("index", json.dumps({"packs": packs}).encode())
        self.packs = {"data": [], "tree": []}
        return self

    def _pack(self, kind, blobs):
        raw, header, entries = bytearray(), b"", []
        for name, unit, declared in blobs:
            entries.append({"id": name, "type": kind, "offset": len(raw), "length": len(unit)})
            raw += unit
            if declared is None:
                header += struct.pack("<BI", kind == "tree", len(unit)) + bytes.fromhex(name)
            else:
                entries[-1]["uncompressed_length"] = declared
                header += struct.pack("<BII", 2 + (kind == "tree"), len(unit), declared) + bytes.fromhex(name)
        unit = self.key.seal(header)
        pack = self._put("data", bytes(raw) + unit + struct.pack("<I", len(unit)))
        for entry in entries:
            self.where[entry["id"]] = (self.path / "data" / pack[:2] / pack, entry["offset"], entry["length"])
        return {"id": pack, "blobs": entries}


def every_kind(repository):
    """Nodes of every type restic knows, sockets included."""
    file = repository.file
    return [file("file", b"contents"), file("setuid", b"#!/bin/sh\nid -u\n", mode=0o755 | 1 << 23),
            repository.directory("dir", [file("inside", b"x")]), node("link", "symlink", 0o777, linktarget="file"),
            node("null", "chardev", 0o666, device=os.makedev(1, 3)), node("disk", "dev", 0o660, device=os.makedev(259, 70000)),
            node("fifo", "fifo", 0o622), node("socket", "socket", 0o755)]
