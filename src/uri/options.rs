//! The options at the end of a connection string.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Scheme;
use super::parse::Fault;

/// The longest path that fits into a Unix socket address.
const MAX_SOCKET_PATH: usize = 107;

const UNKNOWN: &str = "no such option for this transport";

/// The options of a connection string, each with its default where the string has none.
///
/// | Option | Transport | Value | Default | Field |
/// |---|---|---|---|---|
/// | `tcp_nodelay` | `tcp`, `tcps` | boolean | `true` | [`nodelay`](Self::nodelay) |
/// | `tcp_keepalive` | `tcp`, `tcps` | boolean | `true` | [`keepalive`](Self::keepalive) |
/// | `tcp_sndbuf`, `tcp_rcvbuf` | `tcp`, `tcps` | bytes | the system's | [`sndbuf`](Self::sndbuf), [`rcvbuf`](Self::rcvbuf) |
/// | `tcp_linger` | `tcp`, `tcps` | seconds, 0 = off | the system's | [`linger`](Self::linger) |
/// | `tcp_connecttimeout` | `tcp`, `tcps` | milliseconds, 0 = none | 0 | [`connect_timeout`](Self::connect_timeout) |
/// | `bind` | `tcp`, `tcps` | `ip`, `ip:port`, `[ipv6]`, `[ipv6]:port` | none | [`bind`](Self::bind) |
/// | `ip_protocol_prefer` | `tcp`, `tcps` | `ipv4`, `ipv6` | `ipv4` | [`ip_preference`](Self::ip_preference) |
/// | `compression` | `tcp`, `tcps` | `zlib` | none | [`compression`](Self::compression) |
/// | `http_preflight` | `tcp`, `tcps` | boolean | `false` | [`http_preflight`](Self::http_preflight) |
/// | `sni` | `tcps` | a name | the host | [`sni`](Self::sni) |
/// | `pretty` | all | boolean | `false` | [`pretty`](Self::pretty) |
/// | `path`, or `bind` | `unix` | a file path, required | | [`path`](Self::path) |
/// | `unix_sndbuf`, `unix_rcvbuf`, `unix_linger`, `unix_keepalive` | `unix` | as for `tcp` | as for `tcp` | as for `tcp` |
/// | `unix_nodelay` | `unix` | boolean, without effect | | |
///
/// A boolean is `true`, `false` or a number, where 0 is false; `pretty` also takes `t`, `T`, `True` and `TRUE` and their
/// opposites. A number has at most nine digits. If an option is repeated, each value is checked and the last one counts.
/// An unknown option or a bad value is an error, never ignored.
///
/// ```
/// use std::time::Duration;
/// use amps_client::{IpPreference, Uri};
///
/// # fn main() -> amps_client::Result<()> {
/// let uri = Uri::parse("tcp://h:9007/amps/json?tcp_connecttimeout=500&ip_protocol_prefer=ipv6&bind=127.0.0.1")?;
/// let options = uri.options();
/// assert_eq!(options.connect_timeout, Some(Duration::from_millis(500)));
/// assert_eq!(options.ip_preference, IpPreference::Ipv6);
/// assert_eq!(options.bind, Some("127.0.0.1:0".parse().unwrap()));
/// assert!(options.nodelay && options.keepalive && !options.pretty);
/// assert_eq!(options.linger, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportOptions {
    /// Sends small frames at once (`TCP_NODELAY`). Without effect on `unix`.
    pub nodelay: bool,
    /// Lets the system probe a silent connection (`SO_KEEPALIVE`).
    pub keepalive: bool,
    /// The size of the socket's send buffer in bytes (`SO_SNDBUF`); `None` leaves it to the system.
    pub sndbuf: Option<usize>,
    /// The size of the socket's receive buffer in bytes (`SO_RCVBUF`); `None` leaves it to the system.
    pub rcvbuf: Option<usize>,
    /// How long closing waits for unsent bytes (`SO_LINGER`); zero switches it off, `None` leaves it to the system.
    pub linger: Option<Duration>,
    /// How long establishing the connection may take; `None` means until the system gives up.
    pub connect_timeout: Option<Duration>,
    /// The local address to connect from; port 0 lets the system choose one. Must be of the family that is used.
    pub bind: Option<SocketAddr>,
    /// The address family tried first.
    pub ip_preference: IpPreference,
    /// How the bytes of both directions are compressed; needs the feature `compression` to connect.
    pub compression: Option<Compression>,
    /// Opens the connection with an HTTP upgrade, to get through a proxy.
    pub http_preflight: bool,
    /// The server name for TLS; `None` means the host.
    pub sni: Option<String>,
    /// Asks at logon for binary message types to be rendered as text, unless logon options are given.
    pub pretty: bool,
    /// The file of the Unix socket; always present on `unix`, at most 107 bytes.
    pub path: Option<PathBuf>,
}

impl Default for TransportOptions {
    /// What counts where a connection string has no options.
    fn default() -> TransportOptions {
        TransportOptions {
            nodelay: true,
            keepalive: true,
            sndbuf: None,
            rcvbuf: None,
            linger: None,
            connect_timeout: None,
            bind: None,
            ip_preference: IpPreference::Ipv4,
            compression: None,
            http_preflight: false,
            sni: None,
            pretty: false,
            path: None,
        }
    }
}

impl TransportOptions {
    pub(super) fn read(scheme: Scheme, text: &str) -> Result<TransportOptions, Fault<'_>> {
        let mut options = TransportOptions::default();
        // The documentation of AMPS prints `?&key=value`.
        let text = text.strip_prefix('&').unwrap_or(text);
        for option in text.split('&').filter(|_| !text.is_empty()) {
            let (key, value) = option.split_once('=').ok_or(Fault::naming("no `=` in the option", option))?;
            options.set(scheme, key, value).map_err(|why| Fault::option(option, why))?;
        }
        match (scheme, &options.path) {
            (Scheme::Unix, None) => Err(Fault::option("path=", "required, the file of the socket")),
            _ => Ok(options),
        }
    }

    fn set(&mut self, scheme: Scheme, key: &str, value: &str) -> Result<(), &'static str> {
        match scheme {
            _ if value.contains(char::is_control) => return Err("a control character in the value"),
            _ if key == "pretty" => self.pretty = lax_boolean(value)?,
            Scheme::Unix => self.set_unix(key, value)?,
            Scheme::Tcps if key == "sni" => self.sni = Some(server_name(value)?),
            Scheme::Tcp | Scheme::Tcps => self.set_tcp(key, value)?,
        }
        Ok(())
    }

    fn set_unix(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "path" | "bind" => self.path = Some(socket_path(value)?),
            _ => self.set_socket(key.strip_prefix("unix_").ok_or(UNKNOWN)?, value)?,
        }
        Ok(())
    }

    fn set_tcp(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "bind" => self.bind = Some(local_address(value)?),
            "ip_protocol_prefer" => self.ip_preference = IpPreference::of(value)?,
            "compression" => self.compression = Some(Compression::of(value)?),
            "http_preflight" => self.http_preflight = boolean(value)?,
            "tcp_connecttimeout" => {
                let millis = number(value)?;
                self.connect_timeout = (millis != 0).then(|| Duration::from_millis(millis.into()));
            }
            _ => self.set_socket(key.strip_prefix("tcp_").ok_or(UNKNOWN)?, value)?,
        }
        Ok(())
    }

    /// The options that all transports have under a name of their own.
    fn set_socket(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "nodelay" => self.nodelay = boolean(value)?,
            "keepalive" => self.keepalive = boolean(value)?,
            "sndbuf" => self.sndbuf = Some(number(value)? as usize),
            "rcvbuf" => self.rcvbuf = Some(number(value)? as usize),
            "linger" => self.linger = Some(Duration::from_secs(number(value)?.into())),
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }
}

/// The address family that is tried first when a host name has addresses of both; the other one is tried after it.
///
/// ```
/// use amps_client::{IpPreference, Uri};
///
/// let uri = Uri::parse("tcp://localhost:9007/amps/json")?;
/// assert_eq!(uri.options().ip_preference, IpPreference::Ipv4);
/// # Ok::<(), amps_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IpPreference {
    /// IPv4 first: the default.
    #[default]
    Ipv4,
    /// IPv6 first.
    Ipv6,
}

impl IpPreference {
    fn of(value: &str) -> Result<IpPreference, &'static str> {
        match value {
            "ipv4" => Ok(IpPreference::Ipv4),
            "ipv6" => Ok(IpPreference::Ipv6),
            _ => Err("must be ipv4 or ipv6"),
        }
    }
}

/// How the bytes of a connection are compressed.
///
/// ```
/// use amps_client::{Compression, Uri};
///
/// let uri = Uri::parse("tcp://localhost:9007/amps/json?compression=zlib")?;
/// assert_eq!(uri.options().compression, Some(Compression::Zlib));
/// # Ok::<(), amps_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// One deflate stream in each direction.
    Zlib,
}

impl Compression {
    fn of(value: &str) -> Result<Compression, &'static str> {
        match value {
            "zlib" => Ok(Compression::Zlib),
            _ => Err("must be zlib"),
        }
    }
}

fn boolean(value: &str) -> Result<bool, &'static str> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => number(value).map(|number| number != 0).map_err(|_| "must be true, false or a number"),
    }
}

fn lax_boolean(value: &str) -> Result<bool, &'static str> {
    match value {
        "t" | "T" | "True" | "TRUE" => Ok(true),
        "f" | "F" | "False" | "FALSE" => Ok(false),
        _ => boolean(value),
    }
}

fn number(value: &str) -> Result<u32, &'static str> {
    match value.len() {
        1..=9 if value.bytes().all(|b| b.is_ascii_digit()) => value.parse().map_err(|_| "must be a number"),
        _ => Err("must be a number of at most nine digits"),
    }
}

fn local_address(value: &str) -> Result<SocketAddr, &'static str> {
    let bracketed = || value.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let without_port = || value.parse::<Ipv4Addr>().ok().map(IpAddr::V4).or_else(bracketed);
    match value.parse() {
        Ok(address) => Ok(address),
        Err(_) => without_port()
            .map(|ip| SocketAddr::new(ip, 0))
            .ok_or("must be an address such as 10.0.0.1, 10.0.0.1:9000, [::1] or [::1]:9000"),
    }
}

fn server_name(value: &str) -> Result<String, &'static str> {
    match value.contains(char::is_whitespace) || value.is_empty() {
        true => Err("must be a host name"),
        false => Ok(value.to_owned()),
    }
}

fn socket_path(value: &str) -> Result<PathBuf, &'static str> {
    match value.len() {
        0 => Err("must be the file of the socket"),
        1..=MAX_SOCKET_PATH => Ok(PathBuf::from(value)),
        _ => Err("longer than the 107 bytes a socket path may have"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Result};
    use crate::uri::Uri;
    use std::path::Path;

    fn tcp(options: &str) -> Result<TransportOptions> {
        Ok(Uri::parse(&format!("tcp://h:9007/amps/json?{options}"))?.options().clone())
    }

    fn unix(options: &str) -> Result<TransportOptions> {
        Ok(Uri::parse(&format!("unix://localhost:0/amps/json?{options}"))?.options().clone())
    }

    /// `wire-protocol` 1.3, decision 13.
    #[test]
    fn without_options_the_defaults_of_the_table_count() {
        let options = tcp("").unwrap();
        assert!(options.nodelay && options.keepalive && !options.http_preflight && !options.pretty);
        assert_eq!((options.sndbuf, options.rcvbuf, options.bind), (None, None, None));
        assert_eq!((options.linger, options.connect_timeout), (None, None));
        assert_eq!((options.ip_preference, options.compression), (IpPreference::Ipv4, None));
        assert_eq!((options.sni, options.path), (None, None));
    }

    /// `wire-protocol` 1.3 and `api-surface` 3: every option of TCP.
    #[test]
    fn each_tcp_option_sets_its_field_and_nothing_else() {
        let default = TransportOptions::default;
        let seconds = Duration::from_secs;
        let address = |text: &str| Some(text.parse().unwrap());
        let table = [
            ("", default()),
            ("&", default()),
            ("tcp_nodelay=true", default()),
            ("tcp_nodelay=false", TransportOptions { nodelay: false, ..default() }),
            ("tcp_nodelay=0", TransportOptions { nodelay: false, ..default() }),
            ("tcp_nodelay=000000002", default()),
            ("tcp_keepalive=false", TransportOptions { keepalive: false, ..default() }),
            ("tcp_sndbuf=65536", TransportOptions { sndbuf: Some(65_536), ..default() }),
            ("tcp_rcvbuf=999999999", TransportOptions { rcvbuf: Some(999_999_999), ..default() }),
            ("tcp_linger=0", TransportOptions { linger: Some(Duration::ZERO), ..default() }),
            ("tcp_linger=7", TransportOptions { linger: Some(seconds(7)), ..default() }),
            ("tcp_connecttimeout=0", default()),
            ("tcp_connecttimeout=2000", TransportOptions { connect_timeout: Some(seconds(2)), ..default() }),
            ("bind=10.0.0.1", TransportOptions { bind: address("10.0.0.1:0"), ..default() }),
            ("bind=10.0.0.1:99", TransportOptions { bind: address("10.0.0.1:99"), ..default() }),
            ("bind=[::1]", TransportOptions { bind: address("[::1]:0"), ..default() }),
            ("bind=[fe80::1]:99", TransportOptions { bind: address("[fe80::1]:99"), ..default() }),
            ("ip_protocol_prefer=ipv4", default()),
            ("ip_protocol_prefer=ipv6", TransportOptions { ip_preference: IpPreference::Ipv6, ..default() }),
            ("compression=zlib", TransportOptions { compression: Some(Compression::Zlib), ..default() }),
            ("http_preflight=true", TransportOptions { http_preflight: true, ..default() }),
            ("&http_preflight=true", TransportOptions { http_preflight: true, ..default() }),
            ("http_preflight=0", default()),
            ("pretty=true", TransportOptions { pretty: true, ..default() }),
            (
                "tcp_sndbuf=1&pretty=1&tcp_sndbuf=2",
                TransportOptions { sndbuf: Some(2), pretty: true, ..default() },
            ),
        ];
        for (text, expected) in table {
            assert_eq!(tcp(text).unwrap(), expected, "{text}");
        }
    }

    /// `wire-protocol` 1.3: `pretty` is laxer than the other booleans.
    #[test]
    fn pretty_takes_more_spellings_than_other_booleans() {
        for (value, expected) in [("1 t T true True TRUE", true), ("0 f F false False FALSE", false)] {
            for value in value.split(' ') {
                assert_eq!(tcp(&format!("pretty={value}")).unwrap().pretty, expected, "{value}");
            }
        }
        for value in ["yes", "tRUE", "maybe", "", "-1"] {
            assert_eq!(
                tcp(&format!("pretty={value}")).unwrap_err().kind(),
                ErrorKind::InvalidTransportOptions,
                "{value}"
            );
        }
    }

    #[test]
    fn a_server_name_is_an_option_of_tls_alone() {
        let uri = Uri::parse("tcps://h:9007/amps/json?sni=amps.example.com&tcp_nodelay=0").unwrap();
        assert_eq!(uri.options().sni.as_deref(), Some("amps.example.com"));
        assert!(!uri.options().nodelay);
        assert_eq!(tcp("sni=h").unwrap_err().kind(), ErrorKind::InvalidTransportOptions);
        for bad in ["tcps://h:1/amps?sni=", "tcps://h:1/amps?sni=a b"] {
            assert_eq!(Uri::parse(bad).unwrap_err().kind(), ErrorKind::InvalidTransportOptions, "{bad}");
        }
    }

    #[test]
    fn each_unix_option_sets_its_field() {
        let default =
            || TransportOptions { path: Some("/run/a b.sock".into()), ..TransportOptions::default() };
        let table = [
            ("", default()),
            ("unix_nodelay=1", default()),
            ("unix_keepalive=0", TransportOptions { keepalive: false, ..default() }),
            ("unix_sndbuf=5", TransportOptions { sndbuf: Some(5), ..default() }),
            ("unix_rcvbuf=5", TransportOptions { rcvbuf: Some(5), ..default() }),
            ("unix_linger=5", TransportOptions { linger: Some(Duration::from_secs(5)), ..default() }),
            ("pretty=T", TransportOptions { pretty: true, ..default() }),
        ];
        for (text, expected) in table {
            for path in ["path=/run/a b.sock", "bind=/run/a b.sock"] {
                assert_eq!(unix(format!("{path}&{text}").trim_end_matches('&')).unwrap(), expected, "{text}");
            }
        }
        assert_eq!(unix("path=/run/a@b").unwrap().path.as_deref(), Some(Path::new("/run/a@b")));
    }

    /// 8, decision 14: nothing is ignored, and the text names key and value.
    #[test]
    fn an_unknown_option_or_a_bad_value_is_refused_and_named() {
        let options = [
            "bogus=1",
            "=1",
            "k=",
            "TCP_NODELAY=true",
            "tcp_nodelay=maybe",
            "tcp_nodelay=yes",
            "tcp_nodelay=True",
            "tcp_nodelay=",
            "tcp_nodelay=1234567890",
            "tcp_keepalive=on",
            "tcp_sndbuf=",
            "tcp_sndbuf=64k",
            "tcp_sndbuf=-1",
            "tcp_sndbuf=+1",
            "tcp_rcvbuf=1234567890",
            "tcp_linger=1.5",
            "tcp_connecttimeout=10s",
            "tcp_=1",
            "bind=localhost",
            "bind=::1",
            "bind=[::1",
            "bind=10.0.0.1:",
            "bind=10.0.0.1:99999",
            "bind=",
            "ip_protocol_prefer=ipv5",
            "ip_protocol_prefer=",
            "compression=gzip",
            "compression=none",
            "http_preflight=please",
            "unix_sndbuf=1",
            "path=/run/a.sock",
        ];
        for option in options {
            for text in [format!("{option}&tcp_nodelay=1"), format!("tcp_nodelay=1&{option}")] {
                let error = tcp(&text).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidTransportOptions, "{error}");
                assert!(error.to_string().contains(&format!("option `{option}`")), "{error}");
            }
        }
        for option in
            ["tcp_sndbuf=1", "sni=a", "compression=zlib", "http_preflight=1", "ip_protocol_prefer=ipv4"]
        {
            let error = unix(&format!("path=/a&{option}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTransportOptions, "{error}");
            assert!(error.to_string().contains(option), "{error}");
        }
    }

    #[test]
    fn an_option_without_an_equals_sign_is_an_invalid_uri() {
        for text in ["x", "tcp_nodelay", "tcp_nodelay=1&", "tcp_nodelay=1&&pretty=1", "&&"] {
            assert_eq!(tcp(text).unwrap_err().kind(), ErrorKind::InvalidUri, "{text}");
        }
        assert!(tcp("tcp_nodelay").unwrap_err().to_string().contains("`tcp_nodelay`"));
    }

    /// `wire-protocol` 1.3 and `api-surface` 3: required, and at most 107 bytes.
    #[test]
    fn a_socket_path_is_required_and_has_a_limit() {
        assert!(unix(&format!("path=/{}", "x".repeat(106))).is_ok());
        let long = format!("path=/{}", "x".repeat(107));
        for bad in ["", "pretty=1", "path=", "bind=", &long, "path=/a\0b"] {
            let error = unix(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTransportOptions, "{bad}");
            assert!(error.to_string().contains("path") || bad.starts_with("bind"), "{error}");
        }
    }
}
