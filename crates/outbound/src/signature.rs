//! Signs messages as Standard Webhooks has it (www.standardwebhooks.com, version 1.0.0): HMAC-SHA-256
//! over `ID.TIMESTAMP.BODY`, so that libraries in most languages can verify it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use salver_core::{Error, Result};
use sha2::Sha256;

/// A shorter key could be guessed.
const SHORTEST_KEY: usize = 24;
const PREFIX: &str = "whsec_";

/// Signs with one key or several; while one is replaced, receivers know either the old or the new one.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

impl Signer {
    /// Reads keys with spaces between them: `whsec_` and base64, or text that is taken as it is.
    ///
    /// # Errors
    /// `InvalidInput` where there is none, or one is too short or no base64. Keys are not repeated.
    pub fn new(secret: &str) -> Result<Self> {
        let keys: Vec<_> = secret.split_whitespace().map(key).collect::<Result<_>>()?;
        if keys.is_empty() {
            return Err(wrong("it is empty"));
        }
        Ok(Self(keys))
    }

    /// Returns the headers of a message: its id, the seconds since 1970, and the signatures of both
    /// with the body.
    pub fn headers(&self, id: &str, timestamp: i64, body: &[u8]) -> [(&'static str, String); 3] {
        let sign = |key: &Hmac<Sha256>| {
            let mut mac = key.clone();
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let signatures: Vec<String> = self.0.iter().map(sign).collect();
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ]
    }
}

fn key(text: &str) -> Result<Hmac<Sha256>> {
    let bytes = match text.strip_prefix(PREFIX) {
        Some(text) => STANDARD.decode(text).map_err(|_| wrong("what follows whsec_ is no base64"))?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() < SHORTEST_KEY {
        return Err(wrong(&format!("it has {} bytes", bytes.len())));
    }
    Hmac::new_from_slice(&bytes).map_err(|_| wrong("it cannot be used"))
}

fn wrong(what: &str) -> Error {
    Error::invalid_input(format!(
        "the secret that signs messages: {what}; expected whsec_ and base64, or a text, of at least {SHORTEST_KEY} \
         bytes, such as whsec_$(openssl rand -base64 32)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_message_is_signed_as_the_standard_says() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let [id, timestamp, signature] =
            signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(id, ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".into()));
        assert_eq!(timestamp, ("webhook-timestamp", "1614265330".into()));
        assert_eq!(signature, ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".into()));
    }

    #[test]
    fn while_a_key_is_replaced_both_sign() {
        let (old, new) = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a-text-that-is-long-enough");
        let sign = |secret: &str| Signer::new(secret).unwrap().headers("a", 1, b"x")[2].1.clone();
        assert_eq!(sign(&format!("{old} {new}")), format!("{} {}", sign(old), sign(new)));
    }

    #[test]
    fn a_bad_key_is_refused_and_not_repeated() {
        for secret in ["", " ", "short", "whsec_", "whsec_c2hvcnQ=", "whsec_secret-but-no-base64-at-all-really"] {
            let error = Signer::new(secret).unwrap_err();
            assert!(error.message().contains("openssl rand"), "{error}");
            assert!(secret.trim().is_empty() || secret == "whsec_" || !error.message().contains(secret), "{error}");
        }
        assert_eq!(format!("{:?}", Signer::new(&"k".repeat(24)).unwrap()), "Signer(***)");
    }
}
