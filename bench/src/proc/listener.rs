//! Finds the process that listens on a port of this machine.

use std::collections::HashSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::stat;

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// The process that listens on an address such as `127.0.0.1:9092`; none if that is another machine's, or if this user
/// may not see it.
pub(crate) fn of_address(address: &str) -> Option<u32> {
    let (host, port) = address.rsplit_once(':')?;
    is_local(host).then(|| of_port(port.parse().ok()?))?
}

/// The process behind a URL such as `redis://user:password@127.0.0.1:6379/0`.
pub(crate) fn of_url(url: &str, default_port: u16) -> Option<u32> {
    of_address(&address_in(url, default_port)?)
}

/// The host and port of a URL.
fn address_in(url: &str, default_port: u16) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let address = authority.rsplit('@').next()?;
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    Some(if has_port { address.to_owned() } else { format!("{address}:{default_port}") })
}

fn is_local(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn of_port(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: HashSet<String> = tables.iter().flat_map(|table| listening_inodes(table, port)).collect();
    let links: HashSet<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    // A server's children may have the socket, too. The server itself has the lowest id.
    stat::processes().into_iter().filter(|pid| has_open(*pid, &links)).min()
}

fn has_open(pid: u32, links: &HashSet<String>) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    targets.any(|target| target.to_str().is_some_and(|target| links.contains(target)))
}

/// The inodes of the sockets that listen on a port, of loopback or of all interfaces.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let sockets = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, hex_port) = fields.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(hex_port, 16).ok()? == port && *fields.get(3)? == LISTENS && is_reachable(ip);
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    });
    sockets.collect()
}

/// Whether loopback reaches an address of `/proc/net/tcp`: 32-bit words in hexadecimal, in the machine's byte order.
fn is_reachable(hex: &str) -> bool {
    let words = (0..hex.len()).step_by(8).map(|at| u32::from_str_radix(hex.get(at..at + 8).unwrap_or_default(), 16));
    let Ok(words) = words.collect::<Result<Vec<u32>, _>>() else { return false };
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
        _ => <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
    };
    ip.is_ok_and(|ip| ip.to_canonical().is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_an_address_with_or_without_user_port_and_path() {
        for (url, address) in [
            ("postgres://messages@127.0.0.1:15432/messages", "127.0.0.1:15432"),
            ("redis://:a@b@localhost/0", "localhost:6379"),
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("redis://[::1]:7000?x", "[::1]:7000"),
        ] {
            assert_eq!(address_in(url, 6_379).as_deref(), Some(address), "{url}");
        }
        assert_eq!(of_address("db.example:5432"), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_sockets_that_listen_on_the_port_count() {
        let line = |local: &str, state: &str, inode: u32| {
            format!("\n 0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0 100")
        };
        let mut table = "  sl  local_address rem_address".to_owned();
        table += &line("0100007F:4A94", "0A", 1);
        table += &line("00000000:4A94", "0A", 2);
        table += &line("0100007F:4A94", "01", 3);
        table += &line("0100007F:4A95", "0A", 4);
        table += &line("0100000A:4A94", "0A", 5);
        table += &line("00000000000000000000000001000000:4A94", "0A", 6);
        table += &line("0000000000000000FFFF00000100007F:4A94", "0A", 7);
        assert_eq!(listening_inodes(&table, 0x4A94), ["1", "2", "6", "7"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        assert_eq!(of_address(&listener.local_addr().unwrap().to_string()), Some(std::process::id()));
    }
}
