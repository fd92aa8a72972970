//! The addresses of packet sockets (packet(7)), which no safe wrapper knows.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, sockaddr_ll};

use super::checked;

/// The index that stands for all interfaces.
pub(crate) const EVERY_INTERFACE: c_int = 0;

/// The index of the interface that has this name.
pub(crate) fn interface_index(name: &CStr) -> io::Result<c_int> {
    // SAFETY: the name ends with its zero, and is read during the call only.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match c_int::try_from(index) {
        Ok(0) | Err(_) => Err(io::Error::last_os_error()),
        Ok(index) => Ok(index),
    }
}

/// Lets the packet socket `fd` see the packets of an interface, of every protocol: only then does
/// it see those that are sent, too.
pub(crate) fn bind_to_packets(fd: BorrowedFd<'_>, interface: c_int) -> io::Result<()> {
    let mut address = nothing();
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface;
    // SAFETY: pointer and length are those of one address, which is read during the call only.
    checked(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), LENGTH) })?;
    Ok(())
}

/// What the kernel says of a packet beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Its length, though it may have been cut.
    pub(crate) length: usize,
    /// The protocol above the link, as Ethernet numbers it.
    pub(crate) protocol: u16,
    /// This machine sent it.
    pub(crate) outgoing: bool,
    /// Its interface is that of the machine to itself.
    pub(crate) loopback: bool,
}

/// Waits for a packet, and puts as much of it into `packet` as fits.
pub(crate) fn receive_packet(fd: BorrowedFd<'_>, packet: &mut [u8]) -> io::Result<Seen> {
    let mut address = nothing();
    let mut length = LENGTH;
    // SAFETY: the kernel writes at most `packet.len()` bytes into `packet` and at most `length`
    // bytes, those of one address, into `address`; all three are borrowed exclusively.
    let received = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            packet.as_mut_ptr().cast(),
            packet.len(),
            libc::MSG_TRUNC,
            ptr::from_mut(&mut address).cast(),
            &mut length,
        )
    };
    let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    Ok(Seen {
        length: received,
        protocol: u16::from_be(address.sll_protocol),
        outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        loopback: address.sll_hatype == libc::ARPHRD_LOOPBACK,
    })
}

const LENGTH: libc::socklen_t = mem::size_of::<sockaddr_ll>() as libc::socklen_t;

fn nothing() -> sockaddr_ll {
    // SAFETY: integers and an array of bytes, for which zero is a value.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_an_index_and_a_stranger_has_none() {
        assert!(interface_index(c"lo").unwrap() > 0);
        let error = interface_index(c"nonesuch").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
