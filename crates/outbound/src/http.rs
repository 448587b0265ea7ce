//! Makes the HTTP client that everything here sends with: no redirects, no proxies, no second tries.

use std::error::Error as _;

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

use crate::resolver::Astray;

/// Makes a client. `configure` says what differs; `lost` what does not work without certificates.
pub(crate) fn make(
    configure: impl Fn(ClientBuilder) -> ClientBuilder,
    lost: &'static str,
) -> reqwest::Result<reqwest::Client> {
    // The client takes the provider of the process; one that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        let builder = reqwest::Client::builder();
        configure(builder.redirect(Policy::none()).retry(reqwest::retry::never()).no_proxy().http1_only())
    };
    builder().build().or_else(|error| {
        let reason = root_of(&error);
        tracing::warn!(reason, "this machine has no certificates to trust: {lost}");
        builder().tls_certs_only([]).build()
    })
}

/// Returns the innermost cause, which names neither the URL nor what a library made of it.
pub(crate) fn root_of(error: &reqwest::Error) -> String {
    let Some(mut cause) = error.source() else { return "the request could not be sent".into() };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Returns why a name was not followed, if that is what went wrong.
pub(crate) fn astray(error: &reqwest::Error) -> Option<Astray> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(astray) = found.downcast_ref() {
            return Some(*astray);
        }
        cause = found.source();
    }
    None
}
