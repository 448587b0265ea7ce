//! What a URL of Redis says: where it is, and whom to trust there.

use std::fs;

use redis::{Client, ClientTlsConfig, IntoConnectionInfo as _, RedisError, TlsCertificates};
use salver_core::{Error, Result};
use url::Url;

/// The parameters that each kind of address has.
const TCP: &[&str] = &["protocol"];
const TLS: &[&str] = &["protocol", "sslrootcert", "sslcert", "sslkey"];
const UNIX: &[&str] = &["protocol", "db", "user", "pass"];

/// Reads a URL, and the files that it names.
///
/// # Errors
/// `InvalidInput`; the message says what was expected, and never repeats a part that may be a
/// password.
pub(super) fn client(url: &str, what: &str) -> Result<Client> {
    let parsed = Url::parse(url).map_err(|_| wrong(what, "it is no URL"))?;
    let known = match parsed.scheme() {
        "redis" | "valkey" => TCP,
        "rediss" | "valkeys" => TLS,
        _ => UNIX,
    };
    if let Some((key, _)) = parsed.query_pairs().find(|(key, _)| !known.contains(&&**key)) {
        let text = format!("the URL of {what} has the parameter '{key}'; expected one of {}", known.join(", "));
        return Err(Error::invalid_input(text));
    }
    if parsed.fragment().is_some() {
        // The library would take `#insecure`; a password with a '#' that is not escaped ends up here too.
        let text = "it has a '#': write %23 in a password; certificates are always checked, so name their authority \
                    with sslrootcert=FILE";
        return Err(wrong(what, text));
    }
    let info = url.into_connection_info().map_err(|error| refused(what, &error))?;
    let client = match known == TLS {
        true => Client::build_with_tls(info, certificates(&parsed, what)?),
        false => Client::open(info),
    };
    client.map_err(|error| refused(what, &error))
}

/// The certificates that a URL names, in the way PostgreSQL's URLs do.
fn certificates(url: &Url, what: &str) -> Result<TlsCertificates> {
    // Somebody else in this process may have done so before; any provider will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = |name: &str| {
        let Some((_, path)) = url.query_pairs().find(|(key, _)| key == name) else { return Ok(None) };
        let bytes = fs::read(&*path).map_err(|error| {
            Error::invalid_input(format!("the URL of {what}: {name}: cannot read '{path}': {error}"))
        })?;
        // The library takes a file without certificates as one that trusts nobody.
        match bytes.windows(10).any(|part| part == b"-----BEGIN") {
            true => Ok(Some(bytes)),
            false => Err(Error::invalid_input(format!("the URL of {what}: {name}: '{path}' is no PEM file"))),
        }
    };
    let client_tls = match (file("sslcert")?, file("sslkey")?) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        (None, None) => None,
        _ => return Err(wrong(what, "sslcert and sslkey go together")),
    };
    Ok(TlsCertificates { client_tls, root_cert: file("sslrootcert")? })
}

/// Says that the library refuses a URL. Its words may repeat a part of it.
pub(super) fn refused(what: &str, error: &RedisError) -> Error {
    wrong(what, &format!("{:?}", error.kind()))
}

fn wrong(what: &str, why: &str) -> Error {
    Error::invalid_input(format!(
        "the URL of {what} cannot be used: {why}; expected redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS"
    ))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn refusal(url: &str) -> String {
        let error = client(url, "the cache").unwrap_err();
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        error.message().to_owned()
    }

    #[test]
    fn what_a_url_says_is_understood_or_refused() {
        for good in ["redis://h", "redis://u:p@h:1/2?protocol=3", "rediss://h", "valkeys://h:1", "redis+unix:///x?db=3"]
        {
            client(good, "the cache").unwrap();
        }
        for (bad, why) in [
            ("secret", "it is no URL"),
            ("http://:secret@h", "redis://"),
            ("redis://:secret@", "redis://"),
            ("redis://:secret@h/x", "redis://"),
            ("redis://:secret@h?sslrootcert=/x", "'sslrootcert'"),
            ("rediss://:secret@h?ssl=no", "expected one of protocol, sslrootcert, sslcert, sslkey"),
            ("rediss://:secret@h#insecure", "sslrootcert=FILE"),
            ("redis://:se#secret@h", "redis://"),
            ("rediss://:secret@h?sslcert=/dev/null", "'/dev/null' is no PEM file"),
            ("rediss://:secret@h?sslrootcert=/nowhere", "cannot read '/nowhere'"),
        ] {
            assert!(refusal(bad).contains(why), "{bad}: {}", refusal(bad));
        }
    }

    #[test]
    fn a_certificate_needs_its_key_and_both_must_be_ones() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.pem");
        fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        let url = format!("rediss://h?sslcert={}", path.display());
        assert!(refusal(&url).contains("sslcert and sslkey go together"));
        refusal(&format!("{url}&sslkey={}", path.display()));
        refusal(&format!("rediss://h?sslrootcert={}", path.display()));
    }
}
