//! What may be reached where nothing is, unless it is listed.
//!
//! A host is listed by its name, an address by itself or by its network. The name of a listed host may
//! lead to addresses that everybody can reach, and to listed ones: whoever answers for a name cannot
//! have the server look into its own network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use salver_core::{Error, Result};
use url::Host;

use crate::address::reserved;
use crate::target::{self, Exception, Target, clip};

/// What may be reached. Clones share it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    places: Arc<[Place]>,
    /// The setting that lists it, for messages.
    setting: &'static str,
}

/// An entry of a list: a host or a network, at one port or at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    what: Exception,
    port: Option<u16>,
}

impl FromStr for Place {
    type Err = Error;

    /// Reads `api.example.com`, `*.example.com`, `10.1.2.3` or `10.0.0.0/8`, each with `:PORT` behind it
    /// or without; an address of IPv6 with a port stands in brackets.
    fn from_str(text: &str) -> Result<Self> {
        let bare = |text: &str| text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse();
        if let Ok(what) = bare(text) {
            return Ok(Self { what, port: None });
        }
        let wrong = || {
            Error::invalid_input(format!(
                "'{}': expected a host such as api.example.com, *.example.com or localhost:8000, an address, or a \
                 network such as 10.0.0.0/8",
                clip(text)
            ))
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let what = bare(host).map_err(|_| wrong())?;
        Ok(Self { what, port: Some(port) })
    }
}

impl Place {
    fn is_at(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }

    fn has_host(&self, name: &str) -> bool {
        match &self.what {
            Exception::Host(host) => host == name,
            Exception::Hosts(suffix) => name.ends_with(suffix.as_str()),
            Exception::Net(_) => false,
        }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        match &self.what {
            Exception::Net(net) => net.contains(&address.to_canonical()) || net.contains(&address),
            Exception::Host(_) | Exception::Hosts(_) => false,
        }
    }
}

impl Listed {
    /// Lists `places`; `setting` is what messages say they are listed in.
    pub fn new(places: impl IntoIterator<Item = Place>, setting: &'static str) -> Self {
        Self { places: places.into_iter().collect(), setting }
    }

    /// Whether nothing may be reached.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns how many entries there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Reads an address that is to be reached. Where its name leads is checked at each connection.
    ///
    /// # Errors
    /// `InvalidInput` for what is no address of HTTP or holds credentials, `Unsupported` for what is
    /// not listed.
    pub fn target(&self, text: &str) -> Result<Target> {
        let url = target::read(text)?;
        let port = url.port_or_known_default().unwrap_or_default();
        let at_port = || self.places.iter().filter(|place| place.is_at(port));
        let is_listed = match url.host() {
            None => return Err(Error::invalid_input("the URL names no host")),
            Some(Host::Domain(name)) => at_port().any(|place| place.has_host(name)),
            Some(Host::Ipv4(address)) => at_port().any(|place| place.has_address(address.into())),
            Some(Host::Ipv6(address)) => at_port().any(|place| place.has_address(address.into())),
        };
        if !is_listed {
            let host = url.host_str().map(clip).unwrap_or_default();
            return Err(Error::unsupported(format!(
                "'{host}' at port {port} may not be reached: whoever runs the server can allow it with {} {host}:{port}",
                self.setting
            )));
        }
        Ok(Target::new(url))
    }

    /// Says what may be reached at a port.
    pub(crate) fn at(&self, port: u16) -> ListedAt {
        ListedAt { listed: self.clone(), port }
    }
}

/// What may be reached at one port.
#[derive(Debug, Clone)]
pub(crate) struct ListedAt {
    listed: Listed,
    port: u16,
}

impl ListedAt {
    /// Says why an address that a listed name leads to may not be reached, if it may not.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> std::result::Result<(), &'static str> {
        let places = || self.listed.places.iter().filter(|place| place.is_at(self.port));
        if places().any(|place| place.has_address(address)) {
            return Ok(());
        }
        if !places().any(|place| place.has_host(host)) {
            return Err("not listed");
        }
        // Nobody else answers for this name.
        let is_local = host == "localhost" && address.to_canonical().is_loopback();
        match reserved(address) {
            Some(what) if !is_local => Err(what),
            _ => Ok(()),
        }
    }

    /// Returns the setting that lists it.
    pub(crate) fn setting(&self) -> &'static str {
        self.listed.setting
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Exception::Host(host) => f.write_str(host)?,
            Exception::Hosts(suffix) => write!(f, "*{suffix}")?,
            Exception::Net(net) => write!(f, "{net}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use salver_core::ErrorKind;

    use super::*;

    fn listed(places: &str) -> Listed {
        Listed::new(places.split_whitespace().map(|text| text.parse().unwrap()), "--list")
    }

    #[track_caller]
    fn refused(places: &str, urls: &[&str]) {
        for url in urls {
            let Err(error) = listed(places).target(url) else { panic!("{url} was taken") };
            let kinds = [ErrorKind::InvalidInput, ErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{url}: {error}");
            assert!(error.kind() != ErrorKind::Unsupported || error.message().contains("--list"), "{error}");
        }
    }

    #[test]
    fn nothing_is_reached_that_is_not_listed() {
        refused("", &["https://example.com", "http://8.8.8.8", "http://[2606:4700::1111]", "http://localhost"]);
        refused("a.example 10.0.0.0/8", &["https://b.example", "http://a.example.b", "http://11.0.0.1", "http://a"]);
        refused("*.example", &["http://example", "http://evilexample", "http://a.example.evil"]);
        refused("a.example:8000", &["http://a.example", "https://a.example", "http://a.example:8001"]);
    }

    #[test]
    fn no_spelling_of_what_is_inside_gets_through() {
        let inside = [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://[::ffff:169.254.169.254]",
            "http://localhost",
            "http://LOCALHOST.:80",
            "http://127.1",
            "http://2130706433",
            "http://0177.0.0.1",
            "http://[::1]",
            "http://0",
            "http://①②⑦.0.0.1/",
            "http://a.example@127.0.0.1/",
            "http://a.example\\@127.0.0.1/",
            "http://127.0.0.1#@a.example/",
            "http://127.0.0.1?@a.example/",
            "file:///etc/passwd",
            "gopher://a.example/",
        ];
        refused("a.example 8.8.8.8", &inside);
    }

    #[test]
    fn what_is_listed_is_reached_in_every_spelling() {
        for (places, url) in [
            ("a.example", "https://A.example/v1"),
            ("a.example:443", "https://a.example/v1"),
            ("*.example", "http://a.b.example:1"),
            ("127.0.0.0/8", "http://127.1:9"),
            ("127.0.0.1:9", "http://0x7f.1:9"),
            ("[::1]:9", "http://[::1]:9"),
            ("::1", "http://[::1]:9"),
            ("10.0.0.0/8:80", "http://10.1.2.3"),
            ("localhost", "http://localhost:5"),
        ] {
            listed(places).target(url).unwrap_or_else(|error| panic!("{places} {url}: {error}"));
        }
        for text in ["", "*", "a b", "http://a", "a:0", "a:65536", "a:x", "a:", ":80", "10.0.0.0/33", "0x7f.1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        for text in ["a.example:80", "*.a:1", "10.0.0.0/8", "127.0.0.1/32:9"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_listed_name_leads_outside_or_where_it_is_listed() {
        let check = |places: &str, host: &str, address: &str| {
            listed(places).at(80).check(host, address.parse().unwrap()).is_ok()
        };
        assert!(check("a.example", "a.example", "8.8.8.8"));
        for inside in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1"] {
            assert!(!check("a.example localhost", "a.example", inside), "{inside}");
            assert!(check(&format!("a.example {inside}"), "a.example", inside), "{inside}");
            assert!(!check(&format!("a.example {inside}/32:81").replace("::1/32", "::1/128"), "a.example", "10.9.9.9"));
        }
        assert!(check("localhost", "localhost", "127.0.0.1") && check("localhost", "localhost", "::1"));
        assert!(!check("localhost", "localhost", "10.0.0.1") && !check("127.0.0.1:81", "localhost", "127.0.0.1"));
        assert!(!check("a.example", "b.example", "8.8.8.8"));
    }
}
