//! `evmux sniff`: the IP packets of an interface, each on a line.
//!
//! ```text
//!   TCP 127.0.0.1:51000 > 127.0.0.1:9000 length 60 SYN
//!   UDP [::1]:40000 > [::1]:1234 length 53
//!   ICMP 127.0.0.1 > 127.0.0.1 length 81
//! ```
//!
//! The length is that of the packet with its heads. What a packet claims about itself is not
//! believed: heads that are cut or wrong are shown as far as they go.

use std::io;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice};
use evmux::client::PacketSocket;

use crate::arguments::SniffOptions;
use crate::failure::Failure;
use crate::output::Output;

/// As long as an IP packet can say that it is, and the 64 KiB that the loopback interface hands
/// over in one piece.
const LONGEST_PACKET: usize = 1 << 16;

pub(crate) fn sniff(options: &SniffOptions) -> Result<(), Failure> {
    let interface = options.interface.as_deref();
    let socket = PacketSocket::open(interface).map_err(|why| failure(interface, &why))?;
    let mut output = Output::new()?;
    let mut packet = vec![0; LONGEST_PACKET];
    let mut printed = 0;
    while options.count.is_none_or(|count| printed < count) {
        let length = match socket.receive(&mut packet) {
            Ok(length) => length,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => return Err(failure(interface, &why)),
        };
        let captured = packet.get(..length).unwrap_or(&packet);
        if let Some(line) = describe(captured, length) {
            if output.write_line(line.as_bytes())?.is_break() {
                return Ok(());
            }
            printed += 1;
        }
    }
    Ok(())
}

fn failure(interface: Option<&str>, why: &io::Error) -> Failure {
    let what = match interface {
        Some(interface) => format!("cannot see the packets of {interface}"),
        None => "cannot see packets".to_owned(),
    };
    if why.kind() == io::ErrorKind::PermissionDenied {
        return Failure::Run(format!(
            "{what}: {why}; run it as root, or with the capability CAP_NET_RAW"
        ));
    }
    Failure::new(what, why)
}

/// The line for an IP packet of `length` bytes, of which these are at hand.
fn describe(packet: &[u8], length: usize) -> Option<String> {
    let sliced = LaxSlicedPacket::from_ip(packet).ok()?;
    let (source, destination, carried): (IpAddr, IpAddr, _) = match sliced.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let protocol = match carried.ip_number.keyword_str() {
        Some("IPv6-ICMP") => "ICMPv6".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("protocol-{}", carried.ip_number.0),
    };
    let with_ports = |from: u16, to: u16| {
        format!("{} > {}", SocketAddr::new(source, from), SocketAddr::new(destination, to))
    };
    let (ends, more) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            (with_ports(tcp.source_port(), tcp.destination_port()), flags(tcp))
        }
        Some(TransportSlice::Udp(udp)) => {
            (with_ports(udp.source_port(), udp.destination_port()), String::new())
        }
        _ if carried.fragmented => (format!("{source} > {destination}"), " fragment".to_owned()),
        _ => (format!("{source} > {destination}"), String::new()),
    };
    Some(format!("{protocol} {ends} length {length}{more}"))
}

fn flags(tcp: &TcpSlice<'_>) -> String {
    let all = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
        (tcp.ece(), "ECE"),
        (tcp.cwr(), "CWR"),
    ];
    let set: Vec<_> = all.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    if set.is_empty() { String::new() } else { format!(" {}", set.join(",")) }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn line(packet: &[u8]) -> Option<String> {
        describe(packet, packet.len())
    }

    #[test]
    fn a_packet_is_a_line() {
        let v4 = || PacketBuilder::ipv4([127, 0, 0, 1], [127, 0, 0, 2], 64);
        let mut tcp = Vec::new();
        v4().tcp(51000, 9000, 1, 1000).syn().ack(2).write(&mut tcp, b"").unwrap();
        let expected = "TCP 127.0.0.1:51000 > 127.0.0.2:9000 length 40 SYN,ACK";
        assert_eq!(line(&tcp).unwrap(), expected);

        let mut udp = Vec::new();
        let mut to = [0; 16];
        to[15] = 1;
        PacketBuilder::ipv6(to, to, 64).udp(40000, 1234).write(&mut udp, b"hello").unwrap();
        assert_eq!(line(&udp).unwrap(), "UDP [::1]:40000 > [::1]:1234 length 53");

        let mut ping = Vec::new();
        v4().icmpv4_echo_request(1, 2).write(&mut ping, b"").unwrap();
        assert_eq!(line(&ping).unwrap(), "ICMP 127.0.0.1 > 127.0.0.2 length 28");

        // Without ports, a protocol that has no name, and one that is only begun.
        tcp[9] = 253;
        assert_eq!(line(&tcp).unwrap(), "protocol-253 127.0.0.1 > 127.0.0.2 length 40");
        tcp[9] = 6;
        tcp[6..8].copy_from_slice(&0x2001_u16.to_be_bytes());
        assert_eq!(line(&tcp).unwrap(), "TCP 127.0.0.1 > 127.0.0.2 length 40 fragment");
    }

    #[test]
    fn any_bytes_are_a_line_or_nothing() {
        let mut whole = Vec::new();
        PacketBuilder::ipv4([1, 2, 3, 4], [5, 6, 7, 8], 64)
            .tcp(1, 2, 3, 4)
            .write(&mut whole, b"payload")
            .unwrap();
        for length in 0..whole.len() {
            assert_eq!(line(&whole[..length]).is_some(), length >= 20, "{length}");
            for byte in [0x00, 0x0f, 0x45, 0x60, 0x6f, 0xff] {
                let mut wrong = whole.clone();
                wrong[length] = byte;
                let _ = line(&wrong);
            }
        }
    }
}
