//! Where something is sent: an address that was read by one parser and checked, and what may be reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use salver_core::{Error, Result};
use url::{Host, Url};

use crate::address::reserved;

/// A longer address is refused.
const LONGEST: usize = 2048;

/// What may be reached besides the addresses that everybody can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Exception>);

/// Something that may be reached although not everybody can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// The host of this name, wherever it leads.
    Host(String),
    /// Every host whose name ends so, from a dot on.
    Hosts(String),
    /// The addresses of this network.
    Net(IpNet),
}

impl FromStr for Exception {
    type Err = Error;

    /// Reads `hooks.internal`, `*.internal`, `10.1.2.3` or `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(net) = text.parse() {
            return Ok(Self::Net(net));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Net(address.into()));
        }
        let wrong = || {
            Error::invalid_input(format!(
                "'{}': expected a host such as hooks.internal or *.internal, or a network such as 10.0.0.0/8",
                clip(text)
            ))
        };
        let (name, is_suffix) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        match Host::parse(name) {
            Ok(Host::Domain(name)) if name.contains('*') => Err(wrong()),
            Ok(Host::Domain(name)) if is_suffix => Ok(Self::Hosts(format!(".{name}"))),
            Ok(Host::Domain(name)) => Ok(Self::Host(name)),
            _ => Err(wrong()),
        }
    }
}

impl FromIterator<Exception> for Allowed {
    fn from_iter<T: IntoIterator<Item = Exception>>(exceptions: T) -> Self {
        Self(exceptions.into_iter().collect())
    }
}

impl Allowed {
    /// Reads an address that something is to be sent to. Whatever its name leads to is checked later.
    ///
    /// # Errors
    /// `InvalidInput` for what is no address of HTTP, holds credentials, or may not be reached.
    pub fn target(&self, text: &str) -> Result<Target> {
        let url = read(text)?;
        let refused = |what: &str| {
            Error::invalid_input(format!(
                "a message to {} is refused: its address is {what}; whoever runs the server can allow it",
                url.host_str().map(clip).unwrap_or_default()
            ))
        };
        match url.host() {
            None => return Err(Error::invalid_input("the URL names no host")),
            Some(Host::Ipv4(address)) => self.check(address.into()).map_err(refused)?,
            Some(Host::Ipv6(address)) => self.check(address.into()).map_err(refused)?,
            Some(Host::Domain(name)) => {
                let bare = name.strip_suffix('.').unwrap_or(name);
                let is_local = bare == "localhost" || bare.ends_with(".localhost");
                if is_local && !self.has_host(name) && self.check(IpAddr::from([127, 0, 0, 1])).is_err() {
                    return Err(refused("loopback"));
                }
            }
        }
        Ok(Target(url))
    }

    /// Whether a host may lead anywhere.
    pub(crate) fn has_host(&self, name: &str) -> bool {
        self.0.iter().any(|exception| match exception {
            Exception::Host(host) => host == name,
            Exception::Hosts(suffix) => name.ends_with(suffix.as_str()),
            Exception::Net(_) => false,
        })
    }

    /// Says what an address is that may not be reached.
    pub(crate) fn check(&self, address: IpAddr) -> std::result::Result<(), &'static str> {
        let Some(what) = reserved(address) else { return Ok(()) };
        let plain = address.to_canonical();
        let is_meant = |exception: &Exception| match exception {
            Exception::Net(net) => net.contains(&plain) || net.contains(&address),
            Exception::Host(_) | Exception::Hosts(_) => false,
        };
        if self.0.iter().any(is_meant) { Ok(()) } else { Err(what) }
    }
}

/// Reads an address by the parser that the connection uses, and nothing that others read differently.
///
/// # Errors
/// `InvalidInput` for what is no address of HTTP, or holds credentials.
pub(crate) fn read(text: &str) -> Result<Url> {
    if text.len() > LONGEST {
        return Err(Error::invalid_input(format!("a URL has at most {LONGEST} bytes here, this one {}", text.len())));
    }
    // Parsers take these for other characters or for none; whoever means it writes it differently.
    if text.contains(|c: char| c == '\\' || c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid_input("a URL has no backslashes, spaces or control characters"));
    }
    let mut url = Url::parse(text).map_err(|error| Error::invalid_input(format!("that is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let text = format!("expected a URL with http:// or https://, got '{}:'", clip(url.scheme()));
        return Err(Error::invalid_input(text));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::invalid_input("a URL must not hold a user or a password here"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// An address that may be sent to, as far as it can be told without asking where its name leads.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Url);

impl Target {
    pub(crate) fn new(url: Url) -> Self {
        Self(url)
    }

    /// Returns it in its one spelling.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// Returns the host and the port.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default())
    }
}

/// What stands behind the host may be a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.place()).finish()
    }
}

/// Returns the beginning of a text that others wrote, fit to be shown.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn allowed(exceptions: &str) -> Allowed {
        exceptions.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn refused(texts: &[&str], exceptions: &str, because: &str) {
        for text in texts {
            let Err(error) = allowed(exceptions).target(text) else { panic!("{text} was taken") };
            assert!(error.message().contains(because), "{text}: {error}");
        }
    }

    #[track_caller]
    fn taken(text: &str, exceptions: &str, as_: &str) {
        assert_eq!(allowed(exceptions).target(text).unwrap().as_str(), as_);
    }

    #[test]
    fn public_addresses_are_taken() {
        taken("https://Example.com/a?b=c#d", "", "https://example.com/a?b=c");
        taken("http://8.8.8.8:81", "", "http://8.8.8.8:81/");
        taken("https://[2606:4700::1111]/x", "", "https://[2606:4700::1111]/x");
        taken("https://bücher.example/", "", "https://xn--bcher-kva.example/");
    }

    #[test]
    fn what_is_no_address_of_http_is_refused() {
        refused(&["", "nothing", "//host/x", "http://", "http://a b", "http://[::1", "http://1.2.3.4.5"], "", "");
        refused(&["ftp://example.com", "file:///etc/passwd", "gopher://x", "unix:/x", "data:,x"], "", "http://");
        refused(&["http://a:b@example.com", "http://a@example.com", "https://:b@example.com/"], "", "password");
        refused(&["http://ok\\@evil", "http:\\\\example.com", "http://exa\tmple.com", " http://a"], "", "backslashes");
        refused(&[&format!("http://example.com/{}", "a".repeat(2048))], "", "2048");
    }

    #[test]
    fn no_spelling_of_a_private_address_is_taken() {
        let loopback = [
            "http://127.0.0.1/",
            "http://127.1",
            "http://2130706433",
            "http://0x7f.1",
            "http://0177.0.0.1",
            "http://0x7f000001",
            "http://127.0.0.1.",
            "http://localhost",
            "http://LOCALHOST.:8080/",
            "http://a.localhost/",
            "http://[::1]",
            "http://[0:0:0:0:0:0:0:1]:80/",
            "http://①②⑦.0.0.1/",
            "http://127。0。0。1",
            "http://loc%61lhost",
        ];
        refused(&loopback, "", "loopback");
        refused(&["http://0", "http://0.0.0.0", "http://0x0"], "", "this network");
        refused(&["http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]", "http://[::ffff:8.8.8.8]"], "", "IPv4");
        refused(&["http://169.254.169.254/latest/meta-data", "http://2852039166"], "", "link-local");
        let private =
            ["http://10.0.0.1", "http://192.168.1.1", "http://172.16.0.1", "http://[fd00::1]", "http://012.1"];
        refused(&private, "", "private");
        refused(&["http://[fe80::1]"], "", "link-local");
        refused(&["http://[2002:7f00:1::]"], "", "6to4");
        refused(&["http://[64:ff9b::169.254.169.254]"], "", "link-local");
    }

    #[test]
    fn what_is_allowed_is_taken_in_every_spelling() {
        taken("http://0x7f.1:9/x", "127.0.0.0/8", "http://127.0.0.1:9/x");
        taken("http://[::ffff:127.0.0.1]/", "127.0.0.1", "http://[::ffff:7f00:1]/");
        taken("http://localhost/", "localhost", "http://localhost/");
        taken("http://localhost/", "127.0.0.0/8", "http://localhost/");
        taken("http://a.localhost/", "*.localhost", "http://a.localhost/");
        taken("http://[fd00::1]/", "fd00::/8", "http://[fd00::1]/");
        refused(&["http://127.0.0.2", "http://10.0.0.1"], "127.0.0.1 localhost", "refused");
        refused(&["http://localhost"], "*.localhost 10.0.0.0/8", "loopback");
    }

    #[test]
    fn exceptions_are_hosts_or_networks() {
        assert!(allowed("Hooks.Internal").has_host("hooks.internal"));
        assert!(!allowed("*.internal").has_host("internal") && !allowed("*.internal").has_host("evilinternal"));
        assert!(allowed("*.internal").has_host("a.b.internal") && !allowed("10.0.0.0/8").has_host("10.0.0.1"));
        for text in ["", "*", "10.0.0.0/33", "a b", "http://a", "*.", "[::1]", "0x7f.1"] {
            assert!(text.parse::<Exception>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let target = Allowed::default().target("https://example.com/hook?token=secret").unwrap();
        assert_eq!(format!("{target:?}"), "Target(\"example.com:443\")");
    }

    proptest! {
        /// However it is written: what was taken is what a client reads from the text again, and it is
        /// not an address that may not be reached.
        #[test]
        fn what_is_taken_reads_the_same_again(text in "(https?:)?(//)?[ -~]{0,40}") {
            if let Ok(target) = Allowed::default().target(&text) {
                let again = Allowed::default().target(target.as_str()).unwrap();
                prop_assert_eq!(&again, &target);
                let literal = match target.url().host() {
                    Some(Host::Ipv4(address)) => Some(IpAddr::from(address)),
                    Some(Host::Ipv6(address)) => Some(IpAddr::from(address)),
                    Some(Host::Domain(_)) | None => None,
                };
                prop_assert!(literal.is_none_or(|address| reserved(address).is_none()), "{}", text);
                prop_assert!(target.url().username().is_empty() && target.url().has_host());
            }
        }

        #[test]
        fn numbers_in_any_base_are_the_address_they_stand_for(bits: u32, base in 0..4usize, path in "[a-z]{0,5}") {
            let address = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = address.octets();
            let host = match base {
                0 => format!("{bits}"),
                1 => format!("{bits:#x}"),
                2 => format!("0{a:o}.0{b:o}.{c:#x}.{d}"),
                _ => format!("{a}.{}", bits & 0xff_ffff),
            };
            let target = Allowed::default().target(&format!("http://{host}/{path}"));
            prop_assert_eq!(target.is_ok(), reserved(address.into()).is_none(), "{}", host);
            if let Ok(target) = target {
                prop_assert_eq!(target.as_str(), format!("http://{address}/{path}"));
            }
        }
    }
}
