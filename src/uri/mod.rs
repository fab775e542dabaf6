//! Connection strings: where to connect, as whom, and how.
//!
//! Pure: a text comes in, a value or the part that is wrong goes out. No name is resolved and no socket is opened.
//!
//! ```text
//! tcp :// alice:s%40cret @ localhost : 9007 /proxy/amps/json ? tcp_sndbuf=65536&pretty=true
//! └┬┘     └─┬─┘ └──┬───┘   └───┬───┘   └┬─┘ └─────┬────┬───┘   └─────────────┬────────────┘
//! scheme  user  password     host      port     path   └ message type     options
//! ```

mod options;
mod parse;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

pub use options::{Compression, IpPreference, TransportOptions};

/// A connection string, taken apart and checked as a whole.
///
/// The form is `scheme://[user[:password]@]host:port/path[?key=value[&key=value]…]`. The path ends in `amps`, or in
/// `amps/` and a message type; whatever stands before it is for proxies. A path that ends in `json` alone is accepted
/// as another name of `amps` without a message type. User and password are percent-decoded (a raw `@`, `:`, `/`, `?` or
/// `%` in them has to be written as `%40`, `%3A`, `%2F`, `%3F` or `%25`); nothing else is. The options are described at
/// [`TransportOptions`].
///
/// [`Display`](fmt::Display) and [`Debug`] show the text as it was given, with `***` in place of the password.
///
/// ```
/// use amps_client::{Scheme, Uri};
///
/// # fn main() -> amps_client::Result<()> {
/// let uri = Uri::parse("tcp://alice:s%40cret@localhost:9007/amps/json?tcp_sndbuf=65536")?;
/// assert_eq!(uri.scheme(), Scheme::Tcp);
/// assert_eq!((uri.user(), uri.password()), (Some("alice"), Some("s@cret")));
/// assert_eq!((uri.host(), uri.port()), ("localhost", 9007));
/// assert_eq!(uri.message_type(), Some("json"));
/// assert_eq!(uri.options().sndbuf, Some(65_536));
/// assert_eq!(uri.to_string(), "tcp://alice:***@localhost:9007/amps/json?tcp_sndbuf=65536");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Uri {
    shown: String,
    scheme: Scheme,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: u16,
    path: String,
    protocol: &'static str,
    message_type: Option<String>,
    options: TransportOptions,
}

impl Uri {
    /// Reads a connection string; the same as [`str::parse`].
    ///
    /// # Errors
    ///
    /// The text names the offending part and never shows a password.
    ///
    /// * [`TransportType`](crate::ErrorKind::TransportType): the scheme is none of `tcp`, `tcps` and `unix`.
    /// * [`InvalidUri`](crate::ErrorKind::InvalidUri): a part is missing or malformed, an option has no `=`, or the path ends in
    ///   neither `amps`, `amps/<message type>` nor `json`. The old header protocols `fix`, `nvfix` and `xml` are not
    ///   supported.
    /// * [`MessageType`](crate::ErrorKind::MessageType): the message type holds a blank or a control character.
    /// * [`InvalidTransportOptions`](crate::ErrorKind::InvalidTransportOptions): an option is not one of its transport, or its
    ///   value cannot be used; the text names both. On `unix` also if the option `path` is missing.
    ///
    /// ```
    /// use amps_client::{ErrorKind, Uri};
    ///
    /// let error = Uri::parse("tcp://localhost:9007/amps/json?tcp_nodelay=maybe").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidTransportOptions);
    /// assert!(error.to_string().contains("tcp_nodelay") && error.to_string().contains("maybe"));
    /// ```
    pub fn parse(text: &str) -> Result<Uri> {
        parse::read(text).map_err(|fault| fault.into_error(text))
    }

    /// How the bytes travel.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The user to log on as, decoded; `None` if there is none.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, decoded, as the authenticator will get it; `None` if there is none.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The host: a name, an IPv4 address, or an IPv6 address without its brackets. Means nothing on `unix`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port. Means nothing on `unix`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path as it was given, from its first `/` up to the options: also what an HTTP preflight asks for.
    ///
    /// ```
    /// let uri = amps_client::Uri::parse("tcp://h:9007/proxy/amps/json?http_preflight=true")?;
    /// assert_eq!(uri.path(), "/proxy/amps/json");
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The header protocol: `amps`, or its other name `json`.
    pub fn protocol(&self) -> &str {
        self.protocol
    }

    /// The message type to log on with; `None` leaves it to the server. A server whose port takes several types then
    /// refuses the logon.
    pub fn message_type(&self) -> Option<&str> {
        self.message_type.as_deref()
    }

    /// The options, with their defaults where the text has none.
    pub fn options(&self) -> &TransportOptions {
        &self.options
    }
}

impl FromStr for Uri {
    type Err = Error;

    /// The same as [`Uri::parse`].
    fn from_str(text: &str) -> Result<Uri> {
        Uri::parse(text)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uri").field(&self.shown).finish()
    }
}

/// How the bytes of a connection travel.
///
/// ```
/// use amps_client::{Scheme, Uri};
///
/// let uri = Uri::parse("unix://localhost:0/amps/json?path=/run/amps.sock")?;
/// assert_eq!(uri.scheme(), Scheme::Unix);
/// assert_eq!(uri.scheme().to_string(), "unix");
/// # Ok::<(), amps_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP; needs the feature `tls` to connect.
    Tcps,
    /// A Unix stream socket; needs the option `path`.
    Unix,
}

impl Scheme {
    /// The name as it is written in a connection string.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Tcp => "tcp",
            Scheme::Tcps => "tcps",
            Scheme::Unix => "unix",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hides the password in any text that was meant as a connection string, readable or not.
///
/// In doubt it hides more: a password with a raw `/` or `@` in it is hidden in full.
pub(crate) fn without_password(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let (head, rest) = text.split_at(start);
    match rest.rsplit_once('@').and_then(|(secret, host)| Some((secret.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{head}{user}:***@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn parts(text: &str) -> (Scheme, &'static str, String, u16, String, Option<String>) {
        let uri = Uri::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let message_type = uri.message_type().map(str::to_owned);
        (uri.scheme, uri.protocol, uri.host.clone(), uri.port, uri.path.clone(), message_type)
    }

    /// `wire-protocol` 1.1: the parse vectors that are accepted.
    #[test]
    fn the_parse_vectors_of_the_protocol_are_read() {
        use Scheme::*;
        let table = [
            ("tcp://localhost:9007/amps/json", Tcp, "amps", "localhost", "/amps/json", Some("json")),
            ("tcps://localhost:9007/amps/json", Tcps, "amps", "localhost", "/amps/json", Some("json")),
            ("tcp://localhost:9007/amps", Tcp, "amps", "localhost", "/amps", None),
            ("tcp://localhost:9007/json", Tcp, "json", "localhost", "/json", None),
            ("tcp://u:p%40q@h:9007/amps/json", Tcp, "amps", "h", "/amps/json", Some("json")),
            ("tcp://u@h:9007/amps/json", Tcp, "amps", "h", "/amps/json", Some("json")),
            ("tcp://u:p@[::1]:9007/amps/json", Tcp, "amps", "::1", "/amps/json", Some("json")),
            ("tcp://[fe80::1%eth0]:9007/amps/json", Tcp, "amps", "fe80::1%eth0", "/amps/json", Some("json")),
            ("tcp://h:9007/a/b/amps/json", Tcp, "amps", "h", "/a/b/amps/json", Some("json")),
            ("tcp://h:9007/amps/json/", Tcp, "amps", "h", "/amps/json/", Some("json")),
            ("tcp://h:9007/amps/", Tcp, "amps", "h", "/amps/", None),
            ("tcp://h:9007/amps/json?", Tcp, "amps", "h", "/amps/json", Some("json")),
            ("tcp://h:9007/amps/json/?", Tcp, "amps", "h", "/amps/json/", Some("json")),
            ("tcp://h:9007/xyz/json", Tcp, "json", "h", "/xyz/json", None),
            ("tcp://h:9007/xyz/amps", Tcp, "amps", "h", "/xyz/amps", None),
            ("tcp://h:9007/amps/amps", Tcp, "amps", "h", "/amps/amps", Some("amps")),
            ("tcp://h:9007/amps/fix", Tcp, "amps", "h", "/amps/fix", Some("fix")),
            ("tcp://h:9007/amps/my-composite", Tcp, "amps", "h", "/amps/my-composite", Some("my-composite")),
            ("tcp://h:9007/amps/json?&http_preflight=true", Tcp, "amps", "h", "/amps/json", Some("json")),
        ];
        for (text, scheme, protocol, host, path, message_type) in table {
            let expected =
                (scheme, protocol, host.to_owned(), 9007, path.to_owned(), message_type.map(str::to_owned));
            assert_eq!(parts(text), expected, "{text}");
            assert_eq!(text.parse::<Uri>().unwrap(), Uri::parse(text).unwrap());
        }
        let unix = Uri::parse("unix://localhost:0/amps/json?path=/var/run/a.sock").unwrap();
        assert_eq!((unix.scheme(), unix.message_type()), (Unix, Some("json")));
        assert_eq!(unix.options().path.as_deref(), Some(std::path::Path::new("/var/run/a.sock")));
    }

    #[test]
    fn the_password_is_hidden_and_the_rest_shown_as_it_was_given() {
        let table = [
            ("tcp://alice:s3cret@h:1/amps/json?pretty=1", "tcp://alice:***@h:1/amps/json?pretty=1"),
            ("tcp://tcp:@h:1/amps/json", "tcp://tcp:***@h:1/amps/json"),
            ("tcp://a%20b:s3cret@[::1]:1/amps/json/", "tcp://a%20b:***@[::1]:1/amps/json/"),
            ("tcp://alice@h:1/amps/json", "tcp://alice@h:1/amps/json"),
            ("unix://u:s3cret@h:0/amps/json?path=/a:b@c", "unix://u:***@h:0/amps/json?path=/a:b@c"),
            ("unix://h:0/amps/json?path=/a:b@c", "unix://h:0/amps/json?path=/a:b@c"),
        ];
        for (text, shown) in table {
            let uri = Uri::parse(text).unwrap();
            assert_eq!(uri.to_string(), shown);
            assert_eq!(format!("{uri:?}"), format!("Uri({shown:?})"));
        }
    }

    #[test]
    fn an_error_carries_the_address_without_the_password() {
        let error = Uri::parse("tcp://u:s3cret@h:1/amps/json?bogus=1").unwrap_err();
        assert_eq!(error.uri(), Some("tcp://u:***@h:1/amps/json?bogus=1"));
    }

    fn percent_encoded(text: &str) -> String {
        text.bytes().map(|b| format!("%{b:02X}")).collect()
    }

    #[test]
    fn any_uri_that_is_put_together_comes_apart_again() {
        let mut random = Random::new(0x5EED_0001);
        for _ in 0..5_000 {
            let user = random.text("abz09@:/?%é ", 6);
            let password = (!random.one_in(3)).then(|| random.text("abz09@:/?%é ", 6));
            let host = *random.pick(&["localhost", "10.0.0.1", "a-b.example", "::1", "fe80::2"]);
            let port = random.next() as u16;
            let prefix = random.pick(&["", "/proxy", "/a/b", "/amps/x"]);
            let message_type = random.one_in(4).then_some("nvfix");
            let (secret, sndbuf) = (password.clone().unwrap_or_default(), random.below(1_000_000_000));
            let text = format!(
                "tcps://{}{}{}@{}:{port}{prefix}/amps{}?tcp_sndbuf={sndbuf}",
                percent_encoded(&user),
                if password.is_some() { ":" } else { "" },
                percent_encoded(&secret),
                if host.contains(':') { format!("[{host}]") } else { host.to_owned() },
                message_type.map(|m| format!("/{m}")).unwrap_or_default(),
            );
            let uri = Uri::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((uri.user().unwrap_or_default(), uri.password()), (&*user, password.as_deref()));
            assert_eq!((uri.host(), uri.port(), uri.message_type()), (host, port, message_type), "{text}");
            assert_eq!(uri.options().sndbuf, Some(sndbuf));
            assert_eq!(uri.to_string().contains(":***@"), password.is_some(), "{text}");
        }
    }
}
