//! Packets of SFTP version 3, as draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file describe them: the requests that
//! a reader makes, and their replies. Numbers are big-endian, strings a length and bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that everybody speaks.
pub(super) const VERSION: u32 = 3;

/// The longest packet that is taken from a server: the most that OpenSSH's sends, and a little.
pub(super) const LONGEST: usize = (256 << 10) + 1024;

/// Handles are no longer, says the draft.
const LONGEST_HANDLE: usize = 256;

/// The extension that tells how long reads may be.
const LIMITS: &[u8] = b"limits@openssh.com";

/// What is asked; each becomes one packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    /// Open a file for reading.
    Open(&'a str),
    Close(&'a [u8]),
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    /// Attributes of an open file.
    StatOpen(&'a [u8]),
    /// Attributes of what a path leads to, links followed.
    Stat(&'a str),
    OpenDirectory(&'a str),
    ReadDirectory(&'a [u8]),
    /// How long packets and reads may be.
    Limits,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Success without more to say, the end, or an error.
    Status {
        code: u32,
        message: String,
    },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Named>),
    Attributes(Attributes),
    /// An extension's.
    Extended(Bytes),
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub name: Bytes,
    pub attributes: Attributes,
}

/// What is said of a file, as far as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub size: Option<u64>,
    /// Permissions and type, as in `st_mode`.
    pub mode: Option<u32>,
    /// When it was written to, in seconds since 1970.
    pub written: Option<u32>,
}

/// Codes of [`Reply::Status`].
pub(super) mod status {
    pub const END: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const UNSUPPORTED: u32 = 8;
}

impl Attributes {
    /// A directory; false where the type is not told.
    pub(super) fn is_directory(&self) -> bool {
        self.kind() == Some(0o040_000)
    }

    /// A regular file; what has a size and no type is taken for one.
    pub(super) fn is_file(&self) -> bool {
        self.kind().map_or(self.size.is_some(), |kind| kind == 0o100_000)
    }

    fn kind(&self) -> Option<u32> {
        self.mode.map(|mode| mode & 0o170_000).filter(|kind| *kind != 0)
    }
}

/// The first packet of a conversation.
pub(super) fn hello() -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u32(5);
    packet.put_u8(1);
    packet.put_u32(VERSION);
    packet.freeze()
}

/// Whether the answer to [`hello`] says our version, and whether it offers [`Request::Limits`]. `None` when it is no such
/// answer.
pub(super) fn welcome(packet: Bytes) -> Option<(bool, bool)> {
    let mut fields = Fields(packet);
    if fields.byte()? != 2 {
        return None;
    }
    let ours = fields.number()? == VERSION;
    let mut has_limits = false;
    while !fields.0.is_empty() {
        let name = fields.string()?;
        fields.string()?;
        has_limits |= name == LIMITS;
    }
    Some((ours, has_limits))
}

impl Request<'_> {
    /// The packet that asks this under the number `id`. Names are bounded by whoever makes keys.
    pub(super) fn packet(self, id: u32) -> Bytes {
        let mut body = BytesMut::with_capacity(64);
        let (kind, text): (u8, &[u8]) = match self {
            Request::Open(path) => (3, path.as_bytes()),
            Request::Close(handle) => (4, handle),
            Request::Read { handle, .. } => (5, handle),
            Request::StatOpen(handle) => (8, handle),
            Request::OpenDirectory(path) => (11, path.as_bytes()),
            Request::ReadDirectory(handle) => (12, handle),
            Request::Stat(path) => (17, path.as_bytes()),
            Request::Limits => (200, LIMITS),
        };
        body.put_u8(kind);
        body.put_u32(id);
        body.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        body.put_slice(text);
        match self {
            Request::Open(_) => {
                // For reading, with no attributes.
                body.put_u32(1);
                body.put_u32(0);
            }
            Request::Read { offset, length, .. } => {
                body.put_u64(offset);
                body.put_u32(length);
            }
            _ => {}
        }
        let mut packet = BytesMut::with_capacity(4 + body.len());
        packet.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        packet.put(body);
        packet.freeze()
    }
}

/// The number of the request and its reply; `None` when the packet is none.
pub(super) fn reply(packet: Bytes) -> Option<(u32, Reply)> {
    let mut fields = Fields(packet);
    let kind = fields.byte()?;
    let id = fields.number()?;
    let reply = match kind {
        101 => {
            let code = fields.number()?;
            // Early servers leave the words out.
            let message = fields.string().unwrap_or_default();
            Reply::Status { code, message: String::from_utf8_lossy(&message).into_owned() }
        }
        102 => Reply::Handle(fields.string().filter(|handle| handle.len() <= LONGEST_HANDLE)?),
        103 => Reply::Data(fields.string()?),
        104 => {
            let count = fields.number()?;
            // The count is the server's word; memory goes with what is there.
            let mut names = Vec::new();
            for _ in 0..count {
                let name = fields.string()?;
                // How `ls -l` would show it.
                fields.string()?;
                names.push(Named { name, attributes: fields.attributes()? });
            }
            Reply::Names(names)
        }
        105 => Reply::Attributes(fields.attributes()?),
        201 => Reply::Extended(fields.0),
        _ => return None,
    };
    Some((id, reply))
}

/// The longest read, by the reply to [`Request::Limits`].
pub(super) fn longest_read(limits: Bytes) -> Option<u64> {
    let mut fields = Fields(limits);
    let _packet = fields.long()?;
    fields.long().filter(|length| *length > 0)
}

/// The first packet of what came, without its length; nothing while it is not complete. Errors: one that is too long.
pub(super) fn split(came: &mut BytesMut) -> Result<Option<Bytes>, TooLong> {
    let mut head = &came[..];
    let Ok(length) = head.try_get_u32() else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or(TooLong)?;
    if head.len() < length {
        came.reserve(length - head.len());
        return Ok(None);
    }
    came.advance(4);
    Ok(Some(came.split_to(length).freeze()))
}

/// A packet that nobody sends.
#[derive(Debug)]
pub(super) struct TooLong;

/// What is left of a packet.
struct Fields(Bytes);

impl Fields {
    fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn number(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    fn long(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn string(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.number()?;
        let has = |flag: u32| flags & flag != 0;
        let mut attributes = Attributes::default();
        if has(1) {
            attributes.size = Some(self.long()?);
        }
        if has(2) {
            // User and group.
            self.long()?;
        }
        if has(4) {
            attributes.mode = Some(self.number()?);
        }
        if has(8) {
            // When it was read comes first.
            self.number()?;
            attributes.written = Some(self.number()?);
        }
        if has(1 << 31) {
            for _ in 0..self.number()? {
                self.string()?;
                self.string()?;
            }
        }
        Some(attributes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    #[test]
    fn requests_are_as_the_draft_has_them() {
        assert_eq!(hello(), &b"\0\0\0\x05\x01\0\0\0\x03"[..]);
        let handle = b"h1";
        for (request, expected) in [
            (Request::Open("a/b"), &b"\x03\0\0\0\x07\0\0\0\x03a/b\0\0\0\x01\0\0\0\0"[..]),
            (Request::Close(handle), b"\x04\0\0\0\x07\0\0\0\x02h1"),
            (
                Request::Read { handle, offset: 1 << 33, length: 0x102 },
                b"\x05\0\0\0\x07\0\0\0\x02h1\0\0\0\x02\0\0\0\0\0\0\x01\x02",
            ),
            (Request::StatOpen(handle), b"\x08\0\0\0\x07\0\0\0\x02h1"),
            (Request::OpenDirectory("d"), b"\x0b\0\0\0\x07\0\0\0\x01d"),
            (Request::ReadDirectory(handle), b"\x0c\0\0\0\x07\0\0\0\x02h1"),
            (Request::Stat("d"), b"\x11\0\0\0\x07\0\0\0\x01d"),
            (Request::Limits, b"\xc8\0\0\0\x07\0\0\0\x12limits@openssh.com"),
        ] {
            let packet = request.packet(7);
            assert_eq!(packet[..4], u32::try_from(expected.len()).unwrap().to_be_bytes(), "{request:?}");
            assert_eq!(packet[4..], *expected, "{request:?}");
        }
    }

    #[test]
    fn a_welcome_tells_version_and_extensions() {
        let with_limits = b"\x02\0\0\0\x03\0\0\0\x01x\0\0\0\x011\0\0\0\x12limits@openssh.com\0\0\0\x011";
        assert_eq!(welcome(packet(with_limits)), Some((true, true)));
        assert_eq!(welcome(packet(b"\x02\0\0\0\x03")), Some((true, false)));
        assert_eq!(welcome(packet(b"\x02\0\0\0\x02")), Some((false, false)));
        assert_eq!(welcome(packet(b"Hello from .bashrc")), None);
        assert_eq!(welcome(packet(&with_limits[..20])), None);
    }

    #[test]
    fn replies_of_each_kind() {
        let status = |message: &str| Reply::Status { code: 2, message: message.into() };
        let long = 1u64 << 40;
        let attributes = Attributes { size: Some(long), mode: Some(0o100_644), written: Some(6) };
        let encoded = [
            b"\x80\0\0\x0f\0\0\x01\0\0\0\0\0\0\0\x03\xe8\0\0\x03\xe8\0\0\x81\xa4\0\0\0\x05\0\0\0\x06"
                .as_slice(),
            b"\0\0\0\x01\0\0\0\x01k\0\0\0\x01v",
        ]
        .concat();
        let named = Named { name: packet(b"n"), attributes };
        for (bytes, expected) in [
            (b"\x65\0\0\0\x09\0\0\0\x02\0\0\0\x04gone\0\0\0\0".to_vec(), status("gone")),
            (b"\x65\0\0\0\x09\0\0\0\x02".to_vec(), status("")),
            (b"\x66\0\0\0\x09\0\0\0\x02h1".to_vec(), Reply::Handle(packet(b"h1"))),
            (b"\x67\0\0\0\x09\0\0\0\x03abc".to_vec(), Reply::Data(packet(b"abc"))),
            ([b"\x69\0\0\0\x09".as_slice(), &encoded].concat(), Reply::Attributes(attributes)),
            (
                [b"\x68\0\0\0\x09\0\0\0\x01\0\0\0\x01n\0\0\0\x02-r".as_slice(), &encoded].concat(),
                Reply::Names(vec![named]),
            ),
            (b"\xc9\0\0\0\x09xyz".to_vec(), Reply::Extended(packet(b"xyz"))),
        ] {
            assert_eq!(reply(Bytes::from(bytes.clone())), Some((9, expected)), "{bytes:?}");
        }
        assert_eq!(longest_read(packet(&[[0; 8], 261_120u64.to_be_bytes()].concat())), Some(261_120));
        assert_eq!(longest_read(packet(&[0; 32])), None);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_reply() {
        let liar = b"\x68\0\0\0\x09\xff\xff\xff\xff\0\0\0\x01n\0\0\0\x02-r\0\0\0\0";
        assert_eq!(reply(packet(liar)), None);
        let long_handle = [b"\x66\0\0\0\x09\0\0\x01\x01".as_slice(), &[7; 257]].concat();
        assert_eq!(reply(packet(&long_handle)), None);
        let endless = b"\x69\0\0\0\x09\x80\0\0\0\xff\xff\xff\xff";
        assert_eq!(reply(packet(endless)), None);
        assert_eq!(reply(packet(b"\x03\0\0\0\x09\0\0\0\x01a")), None, "a request");
    }

    #[test]
    fn types_are_told_by_the_mode() {
        let of = |mode, size| Attributes { size, mode, written: None };
        assert!(of(Some(0o040_755), None).is_directory());
        assert!(of(Some(0o100_644), None).is_file());
        assert!(of(Some(0o644), Some(5)).is_file());
        assert!(of(None, Some(5)).is_file());
        for other in [of(Some(0o120_777), Some(5)), of(Some(0o010_644), Some(5)), of(None, None)] {
            assert!(!other.is_file() && !other.is_directory(), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn packets_are_found_however_they_are_cut(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cut in 1usize..50,
        ) {
            let wire: Vec<u8> = packets
                .iter()
                .flat_map(|p| [&u32::try_from(p.len()).unwrap().to_be_bytes()[..], p].concat())
                .collect();
            let (mut came, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                came.extend_from_slice(piece);
                while let Some(packet) = split(&mut came).unwrap() {
                    found.push(packet.to_vec());
                }
            }
            prop_assert!(came.is_empty());
            prop_assert_eq!(found, packets);
        }

        #[test]
        fn no_bytes_make_a_panic_or_much_memory(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = welcome(packet(&bytes));
            if let Some((_, Reply::Names(names))) = reply(packet(&bytes)) {
                prop_assert!(names.len() * 12 <= bytes.len());
            }
            let mut came = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = split(&mut came) {}
            prop_assert!(came.capacity() <= bytes.len() + 2 * LONGEST);
        }
    }
}
