//! Which hosts and addresses are this machine.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether this is a loopback address. An IPv4-mapped IPv6 address counts as its IPv4 address.
pub(crate) fn is_loopback_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether the host of a URL or of a `Host` header, without its port, is a loopback address or a
/// name under `localhost` (RFC 6761, section 6.3).
///
/// The name is not resolved: a name that resolves to a loopback address is not loopback.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[');
    if let Some(address) = bracketed.and_then(|host| host.strip_suffix(']')) {
        let address = address.parse::<Ipv6Addr>();
        return address.is_ok_and(|address| is_loopback_address(address.into()));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let top = name.rsplit('.').next();
    top.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_recognized() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("a.localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("", false),
            ("::1", false),
            ("[127.0.0.1]", false),
            ("[::1", false),
            ("[::2]", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("example.org", false),
            ("127.0.0.1.example", false),
            ("localhost.example", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(is_loopback_host(host), expected, "{host}");
        }
    }
}
