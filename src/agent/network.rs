//! The agent's own network, read from `/proc/net`: no netlink and no tool of a distribution is needed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::protocol::NetworkFacts;
use super::way_out;

/// The route goes through a gateway (`RTF_GATEWAY`).
const VIA_GATEWAY: u32 = 0x2;
/// The route says that there is no way (`RTF_REJECT`): every kernel has such a default route for IPv6.
const REJECTS: u32 = 0x200;

/// Reads addresses and routes. A table that is missing (IPv6 switched off) has nothing in it.
pub(super) fn facts() -> NetworkFacts {
    let read = |table: &str| {
        std::fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default()
    };
    let facts = parse(
        &read("fib_trie"),
        &read("route"),
        &read("if_inet6"),
        &read("ipv6_route"),
    );
    NetworkFacts {
        hears_calls: facts.default_route && way_out::can_listen(),
        ..facts
    }
}

fn parse(fib_trie: &str, route: &str, if_inet6: &str, ipv6_route: &str) -> NetworkFacts {
    let mut addresses: Vec<IpAddr> = addresses4(fib_trie).map(IpAddr::V4).collect();
    addresses.extend(addresses6(if_inet6).map(IpAddr::V6));
    let mut gateways = Vec::new();
    let mut default_route = false;
    for (default, gateway) in routes4(route).chain(routes6(ipv6_route)) {
        default_route |= default;
        gateways.extend(gateway);
    }
    // The same address stands in the main and in the local table, the same gateway in several routes.
    addresses.sort();
    addresses.dedup();
    gateways.sort();
    gateways.dedup();
    NetworkFacts {
        addresses,
        gateways,
        default_route,
        hears_calls: false,
    }
}

/// `|-- 172.18.0.2` and below it `/32 host LOCAL`.
fn addresses4(fib_trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    let lines = fib_trie.lines().map(str::trim);
    lines
        .clone()
        .zip(lines.skip(1))
        .filter(|(_, below)| *below == "/32 host LOCAL")
        .filter_map(|(line, _)| line.strip_prefix("|-- ")?.parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_loopback())
}

/// Address, index, prefix length, scope, flags, name.
fn addresses6(if_inet6: &str) -> impl Iterator<Item = Ipv6Addr> {
    if_inet6
        .lines()
        .filter_map(|line| hex6(line.split_whitespace().next()?))
        .filter(|address| !address.is_loopback())
}

type Route = (bool, Option<IpAddr>);

/// Name, destination, gateway, flags, ..., mask: numbers in the machine's own order.
fn routes4(table: &str) -> impl Iterator<Item = Route> {
    table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let (destination, gateway, flags, mask) = (hex(1)?, hex(2)?, hex(3)?, hex(7)?);
        let goes = flags & REJECTS == 0;
        let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
        Some((
            goes && destination == 0 && mask == 0,
            (goes && flags & VIA_GATEWAY != 0).then_some(IpAddr::V4(gateway)),
        ))
    })
}

/// Destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags, name.
fn routes6(table: &str) -> impl Iterator<Item = Route> {
    table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let length = u8::from_str_radix(words.get(1)?, 16).ok()?;
        let gateway = hex6(words.get(4)?)?;
        let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
        let goes = flags & REJECTS == 0;
        Some((
            goes && length == 0,
            (goes && flags & VIA_GATEWAY != 0).then_some(IpAddr::V6(gateway)),
        ))
    })
}

fn hex6(text: &str) -> Option<Ipv6Addr> {
    u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n        +-- 127.0.0.0/31 1 0 0\n           |-- 127.0.0.1\n              /32 host LOCAL\n     +-- 172.18.0.0/16 2 0 2\n        |-- 172.18.0.2\n           /32 host LOCAL\n        |-- 172.18.255.255\n           /32 link BROADCAST\nLocal:\n        |-- 172.18.0.2\n           /32 host LOCAL\n";
    const IF_INET6: &str = "00000000000000000000000000000001 01 80 10 80       lo\nfe800000000000000042acfffe120002 07 40 20 80     eth0\n";
    const REJECTED6: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    fn an_internal_network_has_addresses_and_no_way_out() {
        let route = format!("{HEAD}eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n");
        let facts = parse(FIB_TRIE, &route, IF_INET6, REJECTED6);
        let expected: Vec<IpAddr> = vec![
            "172.18.0.2".parse().unwrap(),
            "fe80::42:acff:fe12:2".parse().unwrap(),
        ];
        assert_eq!(facts.addresses, expected);
        assert_eq!(facts.gateways, Vec::<IpAddr>::new());
        assert!(!facts.default_route);
    }

    #[test]
    fn a_default_route_is_seen_in_both_families() {
        let route4 = format!("{HEAD}eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        let route6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n";
        let both = parse("", &route4, "", route6);
        let expected: Vec<IpAddr> = vec!["172.17.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(both.gateways, expected);
        assert!(both.default_route);
        assert!(parse("", &route4, "", REJECTED6).default_route);
        assert!(parse("", HEAD, "", route6).default_route);
    }
}
