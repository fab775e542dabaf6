//! Reading a connection string, part by part.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::{Scheme, TransportOptions, Uri, without_password};
use crate::error::{Error, ErrorKind};

/// Reads a whole connection string from left to right; the first fault ends it.
pub(super) fn read(text: &str) -> Result<Uri, Fault<'_>> {
    let (scheme, rest) = text.split_once("://").ok_or(Fault::plain("no `://` after a transport"))?;
    let scheme = transport(scheme)?;
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    let slash = place.find('/').ok_or(Fault::plain(NO_PATH))?;
    let (authority, path) = place.split_at(slash);
    let (secret, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials(secret)?;
    let (host, port) = host_and_port(address)?;
    let (protocol, message_type) = protocol(path)?;
    let shown = match (&password, secret.split_once(':'), rest.get(secret.len()..)) {
        (Some(_), Some((user, _)), Some(rest)) => format!("{scheme}://{user}:***{rest}"),
        _ => text.to_owned(),
    };
    Ok(Uri {
        shown,
        scheme,
        user,
        password,
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        protocol,
        message_type: message_type.map(str::to_owned),
        options: TransportOptions::read(scheme, options)?,
    })
}

const NO_PATH: &str = "no path such as `/amps/json`";

fn transport(name: &str) -> Result<Scheme, Fault<'_>> {
    match name {
        "tcp" => Ok(Scheme::Tcp),
        "tcps" => Ok(Scheme::Tcps),
        "unix" => Ok(Scheme::Unix),
        _ if is_scheme(name) => {
            Err(Fault::naming("the transport is not available", name).of_kind(ErrorKind::TransportType))
        }
        _ => Err(Fault::plain("no transport before the `://`")),
    }
}

fn is_scheme(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// User and password; an empty user counts as none.
fn credentials(text: &str) -> Result<(Option<String>, Option<String>), Fault<'_>> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (text, None),
    };
    let user = percent_decoded(user)?;
    let password = password.map(percent_decoded).transpose()?;
    Ok(((!user.is_empty()).then_some(user), password))
}

fn percent_decoded(text: &str) -> Result<String, Fault<'_>> {
    if text.contains([':', '@']) {
        return Err(Fault::plain("a raw `:` or `@` (to be written `%3A` or `%40`) in the user or password"));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_pair(&mut bytes).ok_or(Fault::plain(BAD_PERCENT))?,
            _ => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| Fault::plain("a user or password that is not UTF-8"))
}

const BAD_PERCENT: &str = "a `%` without two hexadecimal digits in the user or password";

fn hex_pair(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    u8::try_from(digit()? << 4 | digit()?).ok()
}

fn host_and_port(text: &str) -> Result<(&str, u16), Fault<'_>> {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) if is_ipv6(host) => (host, port),
        Some(_) => return Err(Fault::naming("no IPv6 address in the brackets", text)),
        None => text.split_at(text.rfind(':').unwrap_or(text.len())),
    };
    let port = port.strip_prefix(':').ok_or(Fault::naming("no port after the host", text))?;
    if !text.starts_with('[') {
        check_name(host)?;
    }
    match port.parse() {
        Ok(number) if port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, number)),
        _ => Err(Fault::naming("a port that is no number up to 65535", port)),
    }
}

fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains(is_blank)
}

fn check_name(host: &str) -> Result<(), Fault<'_>> {
    match host {
        "" => Err(Fault::plain("no host")),
        _ if host.contains(':') => Err(Fault::naming("an IPv6 address without its brackets", host)),
        _ if host.contains(is_blank) || host.contains(['[', ']']) => {
            Err(Fault::naming("a host that cannot be one", host))
        }
        _ => Ok(()),
    }
}

/// Header protocol and message type, read from the right.
fn protocol(path: &str) -> Result<(&'static str, Option<&str>), Fault<'_>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
    if path.is_empty() {
        return Err(Fault::plain(NO_PATH));
    }
    if path.split('/').any(str::is_empty) || before.contains(is_blank) {
        return Err(Fault::naming("an empty part or a blank in the path", path));
    }
    match (before.rsplit('/').next(), last) {
        (Some("amps"), message_type) if message_type.contains(is_blank) => {
            Err(Fault::naming("a blank or control character in the message type", message_type)
                .of_kind(ErrorKind::MessageType))
        }
        (Some("amps"), message_type) => Ok(("amps", Some(message_type))),
        (_, "amps") => Ok(("amps", None)),
        (_, "json") => Ok(("json", None)),
        _ => Err(Fault::naming("unsupported protocol", last)),
    }
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// What is wrong with a text, before it is known which parts of the text may be shown.
pub(super) struct Fault<'a> {
    kind: ErrorKind,
    problem: Cow<'static, str>,
    part: Option<&'a str>,
}

impl<'a> Fault<'a> {
    pub(super) fn plain(problem: &'static str) -> Fault<'a> {
        Fault { kind: ErrorKind::InvalidUri, problem: problem.into(), part: None }
    }

    pub(super) fn naming(problem: &'static str, part: &'a str) -> Fault<'a> {
        Fault { part: Some(part), ..Fault::plain(problem) }
    }

    /// Always names the option, whatever else the text holds: everything before the options has been read.
    pub(super) fn option(option: &str, why: &str) -> Fault<'a> {
        let problem = format!("option `{}`: {why}", option.escape_debug()).into();
        Fault { kind: ErrorKind::InvalidTransportOptions, problem, part: None }
    }

    pub(super) fn of_kind(self, kind: ErrorKind) -> Fault<'a> {
        Fault { kind, ..self }
    }

    pub(super) fn into_error(self, text: &str) -> Error {
        let shown = without_password(text);
        let part = match self.part {
            Some(part) if is_quotable(text) => format!(": `{}`", part.escape_debug()),
            _ => String::new(),
        };
        let sentence = format!("{}{part} in the connection string `{}`", self.problem, shown.escape_debug());
        Error::new(self.kind, sentence).with_uri(&shown)
    }
}

/// A raw `/`, `?` or `@` in a password shifts the parts after it, so that a part may be a piece of the password.
fn is_quotable(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    rest.rfind('@').is_none_or(|at| at < authority_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// 8, `wire-protocol` 1.1, `api-surface` 3, and the local lines of the error vectors.
    #[test]
    fn what_cannot_be_read_is_refused_by_kind_and_named() {
        use ErrorKind::*;
        let table = [
            ("", InvalidUri, ""),
            ("::::", InvalidUri, "::::"),
            ("://h:1/amps/json", InvalidUri, "no transport"),
            ("h:9007/amps/json", InvalidUri, "no `://`"),
            ("tcp:/bad", InvalidUri, "tcp:/bad"),
            ("tcp:h:9007/amps/json", InvalidUri, "no `://`"),
            (" tcp://h:9007/amps/json", InvalidUri, "no transport"),
            ("foo://h:1/amps/json", TransportType, "not available: `foo`"),
            ("ws://h:1/amps/json", TransportType, "`ws`"),
            ("wss://h:1/amps/json", TransportType, "`wss`"),
            ("TCP://h:1/amps/json", TransportType, "`TCP`"),
            ("tcp://h:9007", InvalidUri, "no path"),
            ("tcp://h:9007?pretty=1", InvalidUri, "no path"),
            ("tcp://h:9007/", InvalidUri, "no path"),
            ("tcp://h:9007//", InvalidUri, "no path"),
            ("tcp://h:9007//amps/json", InvalidUri, "empty part"),
            ("tcp://h:9007/amps//json", InvalidUri, "empty part"),
            ("tcp://h:9007/amps/json//", InvalidUri, "empty part"),
            ("tcp://h/amps/json", InvalidUri, "no port after the host: `h`"),
            ("tcp://[::1]/amps/json", InvalidUri, "no port after the host: `[::1]`"),
            ("tcp://h:/amps/json", InvalidUri, "port"),
            ("tcp://h:abc/amps/json", InvalidUri, "`abc`"),
            ("tcp://h:99999/amps/json", InvalidUri, "`99999`"),
            ("tcp://h:+1/amps/json", InvalidUri, "`+1`"),
            ("tcp://h:-1/amps/json", InvalidUri, "`-1`"),
            ("tcp://:9007/amps/json", InvalidUri, "no host"),
            ("tcp:///amps/json", InvalidUri, "no port"),
            ("tcp://::1:9007/amps/json", InvalidUri, "without its brackets: `::1`"),
            ("tcp://[h]:9007/amps/json", InvalidUri, "brackets: `[h]:9007`"),
            ("tcp://[::1]x:9007/amps/json", InvalidUri, "no port"),
            ("tcp://[::1:9007/amps/json", InvalidUri, "brackets: `[::1:9007`"),
            ("tcp://h]:9007/amps/json", InvalidUri, "`h]`"),
            ("tcp://a b:9007/amps/json", InvalidUri, "`a b`"),
            ("tcp://h:9007/fix", InvalidUri, "unsupported protocol: `fix`"),
            ("tcp://h:9007/nvfix", InvalidUri, "unsupported protocol: `nvfix`"),
            ("tcp://h:9007/xml", InvalidUri, "unsupported protocol: `xml`"),
            ("tcp://h:9007/a/b/c", InvalidUri, "unsupported protocol: `c`"),
            ("tcp://h:9007/a\nb/amps/json", InvalidUri, "a\\nb/amps/json"),
            ("tcp://h:9007/amps/json?x", InvalidUri, "`x`"),
            ("tcp://a:b:c@h:9007/amps/json", InvalidUri, "%3A"),
            ("tcp://a:b@c@h:9007/amps/json", InvalidUri, "%40"),
            ("tcp://a%4@h:9007/amps/json", InvalidUri, "hexadecimal"),
            ("tcp://a:%zz@h:9007/amps/json", InvalidUri, "hexadecimal"),
            ("tcp://a:%+1@h:9007/amps/json", InvalidUri, "hexadecimal"),
            ("tcp://a:%ff@h:9007/amps/json", InvalidUri, "UTF-8"),
        ];
        for (text, kind, named) in table {
            let error = Uri::parse(text).expect_err(text);
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(named), "{error} does not name {named}");
        }
    }

    /// `resilience` table 1.2.
    #[test]
    fn a_message_type_with_a_control_character_is_a_matter_of_the_message_type() {
        for (text, named) in [
            ("tcp://h:1/amps/js\u{1}on", "js\\u{1}on"),
            ("tcp://h:1/amps/json\n", "json\\n"),
            ("tcp://h:1/amps/json\r\nHost: x", "json\\r\\nHost: x"),
            ("tcp://h:1/amps/my type", "my type"),
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageType, "{text:?}");
            assert!(error.to_string().contains(&format!("`{named}`")), "{error}");
        }
    }

    #[test]
    fn user_and_password_are_decoded() {
        let table = [
            ("", None, None),
            ("u@", Some("u"), None),
            ("u:@", Some("u"), Some("")),
            ("u:p%40q@", Some("u"), Some("p@q")),
            ("u%3a%2F:%25%3F@", Some("u:/"), Some("%?")),
            (":token@", None, Some("token")),
            ("@", None, None),
            ("j%C3%B6rg:päss@", Some("jörg"), Some("päss")),
            ("dom\\u:a=b&c@", Some("dom\\u"), Some("a=b&c")),
        ];
        for (credentials, user, password) in table {
            let uri = Uri::parse(&format!("tcp://{credentials}h:1/amps/json")).unwrap();
            assert_eq!((uri.user(), uri.password()), (user, password), "{credentials}");
            assert_eq!(uri.host(), "h");
        }
    }

    #[test]
    fn no_error_shows_a_piece_of_the_password_wherever_a_stray_character_stands() {
        for stray in "/?@:#%&=[] \n\\".chars() {
            for at in (0..=16).step_by(2) {
                let (first, second) = "αβγδεζηθ".split_at(at);
                for rest in ["h:1/amps/json", "h/amps/json", "h:1/fix", "h:1", "h:1/amps/json?bogus=1"] {
                    let text = format!("tcp://alice:{first}{stray}{second}@{rest}");
                    let shown = match Uri::parse(&text) {
                        Ok(uri) => format!("{uri} {uri:?}"),
                        Err(error) => format!("{error} {error:?} {:?}", error.uri()),
                    };
                    for shown in [shown, without_password(&text)] {
                        assert!(!shown.contains(|c| "αβγδεζηθ".contains(c)), "{text:?} is shown as {shown}");
                    }
                }
            }
        }
        assert_eq!(without_password("alice:s3cret@h:1/amps"), "alice:***@h:1/amps");
        assert_eq!(without_password("nonsense"), "nonsense");
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let mut random = Random::new(0x5EED_0002);
        let alphabet = "tcp:/@[]?&=%amsjon19é\n ";
        for _ in 0..20_000 {
            let mut text = random.text(alphabet, 40);
            if random.one_in(2) {
                text = format!("tcp://{text}");
            }
            if let Ok(uri) = Uri::parse(&text) {
                assert_eq!(Uri::parse(&text).unwrap(), uri);
            }
            without_password(&text);
        }
    }
}
