//! The line between a broker and its worker: one message a packet, with the descriptors that belong to it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};

/// No message is longer.
const LONGEST: usize = 64 << 10;

/// So many descriptors go with one at most.
const DESCRIPTORS: usize = 4;

/// Both ends.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    pair.map_err(|e| Error::caused_by(Kind::System, "socket", e))
}

/// Sends a message. Errors: `Unavailable` when the other end is gone, `TimedOut` when it does not read.
pub(super) fn send(line: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|e| Error::caused_by(Kind::Internal, "broker", e))?;
    if bytes.len() > LONGEST || descriptors.len() > DESCRIPTORS {
        return Err(Error::new(Kind::Internal, "broker: a message is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::new(Kind::Internal, "broker: too many descriptors"));
    }
    loop {
        match sendmsg(&line, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(lost(errno)),
        }
    }
}

/// The next message and its descriptors; `None` when the other end is closed. Errors: what is no message, and
/// [`Errno::AGAIN`] as `TimedOut`.
pub(super) fn receive<T: DeserializeOwned>(line: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&line, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(lost(errno)),
        }
    };
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    if received.bytes == 0 {
        return Ok(None);
    }
    let whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    let message = bytes.get(..received.bytes).filter(|_| whole).unwrap_or_default();
    let message =
        serde_json::from_slice(message).map_err(|e| Error::caused_by(Kind::Internal, "broker", e))?;
    Ok(Some((message, descriptors)))
}

/// A descriptor that came, where what it leads to was opened. Errors: `BADF` for one of `O_PATH`, of which Landlock asks
/// nothing: whoever has it may have no right to open the same.
pub(super) fn opened(came: &OwnedFd) -> rustix::io::Result<BorrowedFd<'_>> {
    match rustix::fs::fcntl_getfl(came)?.contains(OFlags::PATH) {
        true => Err(Errno::BADF),
        false => Ok(came.as_fd()),
    }
}

fn lost(errno: Errno) -> Error {
    match errno {
        // The last two of older kernels, while it goes.
        Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN => {
            Error::caused_by(Kind::Unavailable, "the broker is gone", errno)
        }
        Errno::AGAIN => Error::new(Kind::TimedOut, "broker: no answer"),
        errno => Error::caused_by(Kind::System, "the line to the broker", errno),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn messages_arrive_whole_and_with_their_descriptors() {
        let (one, other) = pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&one, &"first", &[writer.as_fd()]).unwrap();
        send(&one, &"second", &[]).unwrap();
        drop(writer);
        let (text, mut descriptors) = receive::<String>(&other).unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("first", 1));
        std::fs::File::from(descriptors.remove(0)).write_all(b"through").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through", "and nobody else has it open");
        let (text, descriptors) = receive::<String>(&other).unwrap().unwrap();
        assert_eq!((text.as_str(), descriptors.len()), ("second", 0));
        drop(one);
        assert!(receive::<String>(&other).unwrap().is_none());
        assert_eq!(send(&other, &"nobody", &[]).unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn who_is_slow_is_not_gone() {
        let (one, other) = pair().unwrap();
        rustix::io::ioctl_fionbio(&one, true).unwrap();
        assert_eq!(receive::<String>(&one).unwrap_err().kind(), Kind::TimedOut);
        let full = loop {
            if let Err(error) = send(&one, &"x".repeat(1000), &[]) {
                break error;
            }
        };
        assert_eq!(full.kind(), Kind::TimedOut);
        drop(other);
        assert_eq!(send(&one, &"x", &[]).unwrap_err().kind(), Kind::Unavailable);
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(send(&null, &"x", &[]).unwrap_err().kind(), Kind::System);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (one, other) = pair().unwrap();
        send(&one, &7, &[]).unwrap();
        assert_eq!(receive::<String>(&other).unwrap_err().kind(), Kind::Internal);
        let long = "x".repeat(LONGEST);
        assert_eq!(send(&one, &long, &[]).unwrap_err().kind(), Kind::Internal);
        let descriptors = [one.as_fd(); DESCRIPTORS + 1];
        assert_eq!(send(&one, &"x", &descriptors).unwrap_err().kind(), Kind::Internal);
    }
}
