//! Receiving and sending datagrams, one or several in a call, with what stands on them beside
//! their bytes.
//!
//! recvmmsg(2) and sendmmsg(2) take arrays of headers that point to addresses, vectors and control
//! messages. These arrays live on the stack of one call, so no pointer outlasts it; what is kept
//! between calls is plain data in an [`Envelope`]. A single datagram goes by recvfrom(2) and
//! sendto(2), which are cheaper; docs/decisions/udp-batches.md has the figures.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::c_int;

use super::checked;

/// How many datagrams one call receives or sends at most. With twice as many, whoever waits for the
/// first answer waits longer, and the calls gain no more.
pub(crate) const BATCH: usize = 16;

/// What stands on a received datagram beside its bytes, as the kernel wrote it.
pub(crate) struct Envelope {
    from: libc::sockaddr_storage,
    from_length: libc::socklen_t,
    /// Which of our addresses its answer is to come from.
    to: Local,
    length: usize,
    truncated: bool,
    control: Control,
}

enum Local {
    /// Whichever the kernel chooses; that of a socket that has only one.
    Any,
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

/// Room for one control message; the largest has 20 bytes behind a head of 16.
#[repr(C, align(8))]
struct Control([u8; 40]);

impl Envelope {
    pub(crate) fn new() -> Self {
        Self {
            // SAFETY: integers and arrays of them, for which zero is a value.
            from: unsafe { mem::zeroed() },
            from_length: 0,
            to: Local::Any,
            length: 0,
            truncated: false,
            control: Control([0; 40]),
        }
    }

    /// Who sent it.
    pub(crate) fn from(&self) -> Option<SocketAddr> {
        let from = &raw const self.from;
        match c_int::from(self.from.ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is large enough and aligned for every address, and the family
                // says that it holds one of IPv4; any bytes are a value of its fields.
                let address = unsafe { &*from.cast::<libc::sockaddr_in>() };
                let ip = u32::from_be(address.sin_addr.s_addr).into();
                Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above, for IPv6.
                let address = unsafe { &*from.cast::<libc::sockaddr_in6>() };
                let port = u16::from_be(address.sin6_port);
                let (flow, scope) = (address.sin6_flowinfo, address.sin6_scope_id);
                Some(SocketAddrV6::new(address.sin6_addr.s6_addr.into(), port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// How many of its bytes were received.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Whether it had more bytes than there was room for.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    #[cfg(any(test, feature = "sim"))]
    /// As the kernel would have written it.
    pub(crate) fn write(&mut self, from: SocketAddr, length: usize, truncated: bool) {
        let from = socket2::SockAddr::from(from);
        (self.from_length, self.length, self.truncated) = (from.len(), length, truncated);
        // SAFETY: the pointer is to a `sockaddr_storage`, whatever its name there.
        self.from = unsafe { ptr::read(from.as_ptr().cast()) };
    }
}

/// Receives as many datagrams as have come and there are `envelopes` for, at most [`BATCH`]; how
/// many. The bytes of the first stand in front of `storage`, those of the next `stride` bytes
/// behind, and so on. With `wait`, the call waits for the first, as long as the socket's timeout
/// says.
///
/// With room for one only, it is not told to which address it came.
///
/// # Panics
/// When `storage` has no room for that.
pub(crate) fn receive_datagrams(
    fd: BorrowedFd<'_>,
    storage: &mut [u8],
    stride: usize,
    envelopes: &mut [Envelope],
    wait: bool,
) -> io::Result<usize> {
    match envelopes {
        [envelope] => receive_one(fd, &mut storage[..stride], envelope, wait),
        _ => receive_several(fd, storage, stride, envelopes, wait),
    }
}

fn receive_one(
    fd: BorrowedFd<'_>,
    bytes: &mut [u8],
    envelope: &mut Envelope,
    wait: bool,
) -> io::Result<usize> {
    // For datagrams, MSG_TRUNC makes the call return the length that it had.
    let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
    envelope.from_length = size_of_val(&envelope.from) as libc::socklen_t;
    envelope.to = Local::Any;
    // SAFETY: both pointers are to exclusively borrowed memory, of the lengths that are passed
    // with them.
    let length = unsafe {
        let from = (&raw mut envelope.from).cast();
        let (to, room) = (bytes.as_mut_ptr().cast(), bytes.len());
        libc::recvfrom(fd.as_raw_fd(), to, room, flags, from, &mut envelope.from_length)
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    envelope.length = length.min(bytes.len());
    envelope.truncated = length > bytes.len();
    Ok(1)
}

fn receive_several(
    fd: BorrowedFd<'_>,
    storage: &mut [u8],
    stride: usize,
    envelopes: &mut [Envelope],
    wait: bool,
) -> io::Result<usize> {
    let count = envelopes.len().min(BATCH);
    assert!(stride * count <= storage.len());
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let places = storage.chunks_exact_mut(stride).zip(&mut *envelopes);
    for ((bytes, envelope), (vector, header)) in places.zip(vectors.iter_mut().zip(&mut headers)) {
        let iovec = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: stride };
        let mut message = no_message();
        message.msg_name = (&raw mut envelope.from).cast();
        message.msg_namelen = size_of_val(&envelope.from) as libc::socklen_t;
        message.msg_iov = vector.write(iovec);
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut envelope.control).cast();
        message.msg_controllen = size_of_val(&envelope.control) as _;
        header.write(libc::mmsghdr { msg_hdr: message, msg_len: 0 });
    }
    let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
    // SAFETY: the first `count` headers are written, since there are as many envelopes and pieces
    // of storage. Each points to one vector, one address and one control buffer with their true
    // sizes, and the vector to bytes of its own; all are owned here or exclusively borrowed, and
    // outlive the call. No timeout is passed.
    let received = checked(unsafe {
        let first = headers.as_mut_ptr().cast();
        libc::recvmmsg(fd.as_raw_fd(), first, count as _, flags as _, ptr::null_mut())
    })? as usize;
    for (header, envelope) in headers.iter().zip(envelopes).take(received) {
        // SAFETY: at most `count` were received, and so many headers are written.
        let header = unsafe { header.assume_init_ref() };
        envelope.from_length = header.msg_hdr.msg_namelen;
        envelope.length = header.msg_len as usize;
        envelope.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        // SAFETY: the kernel has filled this header, and its control buffer is still borrowed.
        envelope.to = unsafe { destination(&header.msg_hdr) };
    }
    Ok(received)
}

/// Which of our addresses the datagram came to, if a control message says so.
///
/// # Safety
/// The control buffer of `message` is valid, and holds what the kernel wrote there.
unsafe fn destination(message: &libc::msghdr) -> Local {
    // SAFETY: the buffer holds whole control messages, as many bytes as the header says. The
    // payloads of these two kinds are of these two types, perhaps not aligned for them.
    unsafe {
        let Some(control) = libc::CMSG_FIRSTHDR(message).as_ref() else { return Local::Any };
        let payload = libc::CMSG_DATA(control);
        match (control.cmsg_level, control.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                answering_v4(ptr::read_unaligned(payload.cast()))
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                answering_v6(ptr::read_unaligned(payload.cast()))
            }
            _ => Local::Any,
        }
    }
}

/// The answer comes from `ipi_spec_dst`, which is an address of ours even if the datagram came to
/// all of a network. It may leave by another interface than the one by which the datagram came.
fn answering_v4(mut info: libc::in_pktinfo) -> Local {
    info.ipi_ifindex = 0;
    Local::V4(info)
}

/// Nothing can be answered from a multicast address. An address of a link means nothing without its
/// interface; for all others, the answer may leave by another one.
fn answering_v6(mut info: libc::in6_pktinfo) -> Local {
    let to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    if to.is_multicast() {
        return Local::Any;
    }
    if !to.is_unicast_link_local() {
        info.ipi6_ifindex = 0;
    }
    Local::V6(info)
}

/// Sends each of `replies` to where its envelope came from, at most [`BATCH`] of them, without
/// waiting; how many were taken. An error is that of the first one.
pub(crate) fn send_datagrams<'r>(
    fd: BorrowedFd<'_>,
    replies: impl ExactSizeIterator<Item = (&'r [u8], &'r Envelope)>,
) -> io::Result<usize> {
    let mut replies = replies.peekable();
    if replies.len() == 1
        && let Some((bytes, envelope)) = replies.next_if(|(_, e)| matches!(e.to, Local::Any))
    {
        return send_one(fd, bytes, envelope);
    }
    send_several(fd, replies)
}

const SEND_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

fn send_one(fd: BorrowedFd<'_>, bytes: &[u8], envelope: &Envelope) -> io::Result<usize> {
    // SAFETY: both pointers are to borrowed memory, of the lengths that are passed with them, and
    // the kernel reads it only; it wrote the length of the address itself.
    let sent = unsafe {
        let to = (&raw const envelope.from).cast();
        let (from, count) = (bytes.as_ptr().cast(), bytes.len());
        libc::sendto(fd.as_raw_fd(), from, count, SEND_FLAGS, to, envelope.from_length)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
}

fn send_several<'r>(
    fd: BorrowedFd<'_>,
    replies: impl Iterator<Item = (&'r [u8], &'r Envelope)>,
) -> io::Result<usize> {
    let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut count = 0;
    let places = vectors.iter_mut().zip(&mut controls).zip(&mut headers);
    for ((bytes, envelope), ((vector, control), header)) in replies.zip(places) {
        // The types are those of receiving; the kernel reads only.
        let iov_base = bytes.as_ptr().cast_mut().cast();
        let mut message = no_message();
        message.msg_name = (&raw const envelope.from).cast_mut().cast();
        message.msg_namelen = envelope.from_length;
        message.msg_iov = vector.write(libc::iovec { iov_base, iov_len: bytes.len() });
        message.msg_iovlen = 1;
        match envelope.to {
            Local::Any => {}
            Local::V4(info) => {
                write_control(&mut message, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            Local::V6(info) => {
                write_control(&mut message, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
        header.write(libc::mmsghdr { msg_hdr: message, msg_len: 0 });
        count += 1;
    }
    // SAFETY: the first `count` headers are written. Each points to one vector and one address, and
    // to one control message or none, with their true sizes; the vector to bytes that are borrowed
    // for `'r`. The kernel reads all that, and writes only the lengths in the headers.
    let sent = checked(unsafe {
        libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr().cast(), count, SEND_FLAGS as _)
    })?;
    Ok(sent as usize)
}

/// Makes `payload` the control message of `message`, in `control`.
fn write_control<T>(
    message: &mut libc::msghdr,
    control: &mut MaybeUninit<Control>,
    level: c_int,
    kind: c_int,
    payload: T,
) {
    const { assert!(size_of::<T>() <= 20) };
    let length = size_of::<T>() as u32;
    message.msg_control = (&raw mut *control.write(Control([0; 40]))).cast();
    // SAFETY: the buffer is aligned for the head of a control message, and has room for that and
    // a payload of 20 bytes, of which this one has at most as many.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let head = libc::CMSG_FIRSTHDR(message);
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = libc::CMSG_LEN(length) as _;
        ptr::write_unaligned(libc::CMSG_DATA(head).cast(), payload);
    }
}

/// A header that points to nothing.
fn no_message() -> libc::msghdr {
    // SAFETY: pointers and integers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// Has the kernel say to which of our addresses each datagram came.
pub(crate) fn name_destinations(fd: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    let (level, name) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: `on` is read during the call, and `length` is its size.
    checked(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), length)
    })?;
    Ok(())
}

/// How many datagrams the socket has thrown away since it was made, mostly for want of room.
pub(crate) fn lost_datagrams(fd: BorrowedFd<'_>) -> io::Result<u32> {
    /// The number's place among those of SO_MEMINFO; it is the last.
    const DROPS: usize = 8;
    let mut numbers = [0_u32; DROPS + 1];
    let mut length = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `numbers`.
    checked(unsafe {
        let to = (&raw mut numbers).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, to, &mut length)
    })?;
    Ok(numbers[DROPS])
}

#[cfg(test)]
mod tests {
    use std::iter;
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    const STRIDE: usize = 100;

    fn envelopes(count: usize) -> Vec<Envelope> {
        (0..count).map(|_| Envelope::new()).collect()
    }

    /// A server and a client that is connected to it.
    fn pair(ip: impl Into<IpAddr>) -> Option<(UdpSocket, UdpSocket)> {
        let ip = ip.into();
        let server = UdpSocket::bind((ip, 0)).ok()?;
        let client = UdpSocket::bind((ip, 0)).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        Some((server, client))
    }

    fn receive(server: &UdpSocket, storage: &mut [u8], envelopes: &mut [Envelope]) -> usize {
        receive_datagrams(server.as_fd(), storage, STRIDE, envelopes, false).unwrap()
    }

    #[test]
    fn a_batch_is_what_has_come_and_its_answers_go_back_to_each() {
        for ip in [Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            let Some((server, client)) = pair(ip) else { continue };
            for asked in [1, 2, 3, BATCH] {
                let (mut storage, mut envelopes) = (vec![0; STRIDE * asked], envelopes(asked));
                client.send(b"first").unwrap();
                client.send(b"").unwrap();
                let received = receive(&server, &mut storage, &mut envelopes);
                assert_eq!(received, asked.min(2));
                let lengths: Vec<_> = envelopes.iter().map(Envelope::length).collect();
                assert_eq!(lengths[..received], [5, 0][..received]);
                assert_eq!(envelopes[0].from(), Some(client.local_addr().unwrap()));
                let replies: Vec<_> =
                    storage.chunks(STRIDE).zip(&envelopes).take(received).collect();
                let replies = replies.into_iter().map(|(bytes, e)| (&bytes[..e.length()], e));
                assert_eq!(send_datagrams(server.as_fd(), replies).unwrap(), received);
                let mut answer = [0; STRIDE];
                assert_eq!(client.recv(&mut answer).unwrap(), 5);
                assert_eq!(&answer[..5], b"first");
                if received == 2 {
                    assert_eq!(client.recv(&mut answer).unwrap(), 0);
                } else {
                    receive(&server, &mut storage, &mut envelopes);
                }
            }
        }
    }

    #[test]
    fn what_was_longer_than_its_room_is_known_as_truncated() {
        let (server, client) = pair(Ipv4Addr::LOCALHOST).unwrap();
        for asked in [1, 2] {
            let (mut storage, mut envelopes) = (vec![0; STRIDE * asked], envelopes(asked));
            for (length, truncated) in [(STRIDE, false), (STRIDE + 1, true), (0, false)] {
                client.send(&vec![1; length]).unwrap();
                assert_eq!(receive(&server, &mut storage, &mut envelopes), 1);
                assert_eq!(envelopes[0].is_truncated(), truncated);
                assert_eq!(envelopes[0].length(), length.min(STRIDE));
            }
        }
    }

    #[test]
    fn nothing_to_receive_is_no_batch_of_none() {
        let (server, _client) = pair(Ipv4Addr::LOCALHOST).unwrap();
        for asked in [1, 2] {
            let (mut storage, mut envelopes) = (vec![0; STRIDE * asked], envelopes(asked));
            let error =
                receive_datagrams(server.as_fd(), &mut storage, STRIDE, &mut envelopes, false)
                    .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    /// The whole of 127.0.0.0/8 is ours, so one socket there has many addresses.
    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        name_destinations(server.as_fd(), false).unwrap();
        let asked = (Ipv4Addr::new(127, 1, 2, 3), server.local_addr().unwrap().port());
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.send_to(b"x", asked).unwrap();
        let (mut storage, mut envelopes) = (vec![0; STRIDE * 2], envelopes(2));
        assert_eq!(receive(&server, &mut storage, &mut envelopes), 1);
        let reply = iter::once((&storage[..1], &envelopes[0]));
        assert_eq!(send_datagrams(server.as_fd(), reply).unwrap(), 1);
        let (_, from) = client.recv_from(&mut [0; 1]).unwrap();
        assert_eq!(from, asked.into());
    }

    #[test]
    fn an_answer_of_ipv6_comes_from_the_address_that_was_asked() {
        let Ok(server) = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) else { return };
        name_destinations(server.as_fd(), true).unwrap();
        let Some((_, client)) = pair(Ipv6Addr::LOCALHOST) else { return };
        client.connect((Ipv6Addr::LOCALHOST, server.local_addr().unwrap().port())).unwrap();
        client.send(b"x").unwrap();
        let (mut storage, mut envelopes) = (vec![0; STRIDE * 2], envelopes(2));
        assert_eq!(receive(&server, &mut storage, &mut envelopes), 1);
        assert!(matches!(envelopes[0].to, Local::V6(_)));
        let reply = iter::once((&storage[..1], &envelopes[0]));
        assert_eq!(send_datagrams(server.as_fd(), reply).unwrap(), 1);
        assert_eq!(client.recv(&mut [0; 1]).unwrap(), 1);
    }

    #[test]
    fn the_kernel_tells_what_it_has_thrown_away() {
        let (server, client) = pair(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(lost_datagrams(server.as_fd()).unwrap(), 0);
        const SENT: usize = 5000;
        for _ in 0..SENT {
            client.send(&[0; STRIDE]).unwrap();
        }
        let (mut storage, mut envelopes) = (vec![0; STRIDE * BATCH], envelopes(BATCH));
        let mut received = 0;
        while let Ok(count) =
            receive_datagrams(server.as_fd(), &mut storage, STRIDE, &mut envelopes, false)
        {
            received += count;
        }
        let lost = lost_datagrams(server.as_fd()).unwrap() as usize;
        assert!(lost > 0);
        assert_eq!(received + lost, SENT);
    }
}
