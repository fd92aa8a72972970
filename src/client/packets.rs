//! The IP packets of an interface as they are on the wire: a packet socket, for who watches and
//! does not take part (packet(7)).

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use socket2::{Domain, Socket, Type};

use crate::sys;

/// Sees every IP packet, IPv4 and IPv6, that an interface sends or receives, from its IP header on.
///
/// It needs the capability CAP_NET_RAW, which root has. What comes faster than it is read is
/// dropped by the kernel once some hundred kilobytes wait.
///
/// ```no_run
/// use evmux::client::PacketSocket;
///
/// let socket = PacketSocket::open(Some("lo"))?;
/// let mut packet = vec![0; 1 << 16];
/// let length = socket.receive(&mut packet)?;
/// println!("{length} bytes, IP version {}", packet[0] >> 4);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PacketSocket(Socket);

impl PacketSocket {
    /// Watches one interface, or all of them.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW; when there is no such interface, or when it is down.
    pub fn open(interface: Option<&str>) -> io::Result<Self> {
        // No protocol yet: it would see the packets of every interface until it is bound.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        let index = match interface {
            Some(name) => sys::interface_index(&CString::new(name)?)?,
            None => sys::EVERY_INTERFACE,
        };
        sys::bind_to_packets(socket.as_fd(), index)?;
        Ok(Self(socket))
    }

    /// Waits for the next packet, puts as much of it into `packet` as fits, and says how long it
    /// is: longer than `packet`, if it was cut.
    ///
    /// A packet on the loopback interface is seen once, although it is both sent and received
    /// there.
    ///
    /// # Errors
    /// `Interrupted` when a signal came; when the interface went down.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        loop {
            let seen = sys::receive_packet(self.0.as_fd(), packet)?;
            let is_ip = matches!(seen.protocol, ETHERTYPE_IPV4 | ETHERTYPE_IPV6);
            if is_ip && !(seen.outgoing && seen.loopback) {
                return Ok(seen.length);
            }
        }
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
