//! Which addresses everybody can reach. Pure.
//!
//! The tables are those of IANA's registries of special-purpose addresses (RFC 6890 and what was added
//! since: www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry), read in
//! favour of refusing: blocks that hold a few global anycast addresses count as a whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), len)
}

const fn v6(a: u16, b: u16, len: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), len)
}

const RESERVED_V4: [(Ipv4Net, &str); 15] = [
    (v4(0, 0, 0, 8), "of this network"),
    (v4(10, 0, 0, 8), "private"),
    (v4(100, 64, 0, 10), "shared behind a carrier's NAT"),
    (v4(127, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 16), "link-local"),
    (v4(172, 16, 0, 12), "private"),
    (v4(192, 0, 0, 24), "assigned to protocols"),
    (v4(192, 0, 2, 24), "for documentation"),
    (v4(192, 88, 99, 24), "of a 6to4 relay"),
    (v4(192, 168, 0, 16), "private"),
    (v4(198, 18, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 24), "for documentation"),
    (v4(203, 0, 113, 24), "for documentation"),
    (v4(224, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 4), "reserved or broadcast"),
];

/// All that was ever given out to be reached by everybody lies in here.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

const RESERVED_V6: [(Ipv6Net, &str); 4] = [
    (v6(0x2001, 0, 23), "assigned to protocols"),
    (v6(0x2001, 0xdb8, 32), "for documentation"),
    (v6(0x2002, 0, 16), "of 6to4"),
    (v6(0x3fff, 0, 20), "for documentation"),
];

/// Networks outside of [`GLOBAL_V6`], for a better word than "not global".
const NAMED_V6: [(Ipv6Net, &str); 6] = [
    (v6(0, 0, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), "an IPv4 address in disguise"),
    (v6(0xfc00, 0, 7), "private"),
    (v6(0xfe80, 0, 10), "link-local"),
    (v6(0xff00, 0, 8), "multicast"),
];

/// Where NAT64 keeps IPv4 (RFC 6052): in networks of IPv6 alone every name of IPv4 leads in here.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

/// Says what an address is that not everybody can reach; none: everybody can.
pub fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => reserved_v4(address),
        IpAddr::V6(address) => reserved_v6(address),
    }
}

fn reserved_v4(address: Ipv4Addr) -> Option<&'static str> {
    RESERVED_V4.iter().find(|(net, _)| net.contains(&address)).map(|(_, what)| *what)
}

fn reserved_v6(address: Ipv6Addr) -> Option<&'static str> {
    if NAT64.contains(&address) {
        let [.., a, b, c, d] = address.octets();
        return reserved_v4(Ipv4Addr::new(a, b, c, d));
    }
    let named = |nets: &[(Ipv6Net, &'static str)]| nets.iter().find(|(net, _)| net.contains(&address)).map(|net| net.1);
    match GLOBAL_V6.contains(&address) {
        true => named(&RESERVED_V6),
        false => named(&NAMED_V6).or(Some("not global")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(addresses: &str, is_reserved: bool) {
        for address in addresses.split_whitespace() {
            assert_eq!(reserved(address.parse().unwrap()).is_some(), is_reserved, "{address}");
        }
    }

    #[test]
    fn blocks_begin_and_end_where_the_registries_say() {
        check("0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1", true);
        check("169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255 192.0.0.255", true);
        check("192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0 198.19.255.255 224.0.0.0 255.255.255.255", true);
        check("1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0", false);
        check("169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0", false);
        check("198.17.255.255 198.20.0.0 223.255.255.255 8.8.8.8", false);
        check(":: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 fc00::1 fdff::1 fe80::1 fec0::1 ff02::1", true);
        check("64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 2002:7f00:1:: 2002:808:808::", true);
        check("2001::1 2001:1ff:ffff::1 2001:db8::1 3fff:fff::1 100::1 5f00::1 4000::1 1fff::1", true);
        check("2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00::1 3ffe::1 64:ff9b::8.8.8.8", false);
    }

    proptest! {
        #[test]
        fn what_the_standard_library_knows_is_known(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_multicast()
                || address.is_unspecified();
            prop_assert!(!special || reserved(address.into()).is_some(), "{}", address);
        }

        #[test]
        fn nothing_that_is_reserved_gets_through_in_ipv6(net in 0..RESERVED_V4.len(), bits: u32) {
            let (net, _) = RESERVED_V4[net];
            let inside = net.network().to_bits() | (bits & net.hostmask().to_bits());
            let [a, b, c, d] = Ipv4Addr::from_bits(inside).octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            for disguise in [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert!(reserved(disguise.into()).is_some(), "{}", disguise);
            }
        }

        #[test]
        fn only_the_global_part_of_ipv6_is_reached(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            prop_assert!(reserved(address.into()).is_some() || (0x2000..0x4000).contains(&address.segments()[0]));
        }
    }
}
