//! Tells others over HTTP that their jobs have ended: signed, and only where that is allowed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use salver_core::{BoxFuture, Error};
use salver_jobs::{CallbackOptions, Job, Messenger, Sent, system_clock};
use salver_outbound::{Client, ClientOptions, Failure, Signer, SystemLookup};

use crate::settings::ServeOptions;

/// Attempts at a time to one receiver, a fraction of all.
const MOST_PER_HOST: usize = 8;

/// Makes who sends; none: there is no secret to sign with.
///
/// # Errors
/// Where the secret is none.
pub(crate) fn messenger(options: &ServeOptions) -> Result<Option<Arc<dyn Messenger>>> {
    let Some(secret) = &options.callback_secret else { return Ok(None) };
    let signer = Signer::new(secret.expose()).context("--callback-secret")?;
    let client = ClientOptions {
        allowed: options.callback_allow.iter().cloned().collect(),
        time_limit: time_limit(options),
        most_per_host: MOST_PER_HOST,
        user_agent: format!("salver/{}", env!("CARGO_PKG_VERSION")),
    };
    Ok(Some(Arc::new(Webhooks { signer, client: Client::new(client, Arc::new(SystemLookup)) })))
}

/// Returns how messages are sent.
pub(crate) fn options(options: &ServeOptions) -> CallbackOptions {
    CallbackOptions {
        time_limit: time_limit(options),
        first_wait: Duration::from_millis(options.callback_retry_ms),
        grace: options.shutdown_grace().min(time_limit(options)),
        ..CallbackOptions::default()
    }
}

fn time_limit(options: &ServeOptions) -> Duration {
    Duration::from_millis(options.callback_timeout_ms)
}

/// Sends messages as Standard Webhooks has it.
#[derive(Debug)]
struct Webhooks {
    signer: Signer,
    client: Client,
}

impl Messenger for Webhooks {
    fn check(&self, url: &str) -> salver_core::Result<String> {
        let target = self.client.target(url);
        let named = |error: Error| Error::new(error.kind(), format!("callback_url: {}", error.message()));
        Ok(target.map_err(named)?.as_str().to_owned())
    }

    fn send<'a>(&'a self, url: &'a str, job: &'a Job) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            // What was taken once may not be allowed any more.
            let target = match self.client.target(url) {
                Ok(target) => target,
                Err(error) => return Sent::Failed(error.message().to_owned()),
            };
            let body = salver_server::job_event(job);
            let headers = self.signer.headers(&job.id.to_string(), system_clock()() / 1000, &body);
            told(self.client.post(&target, &headers, body).await)
        })
    }
}

fn told(answer: Result<u16, Failure>) -> Sent {
    match answer {
        Ok(status @ 200..=299) => Sent::Arrived(status.to_string()),
        Ok(410) => Sent::Unwanted("410".into()),
        Ok(status @ 300..=399) => Sent::Failed(format!("{status}, and no redirect is followed")),
        Ok(status) => Sent::Failed(status.to_string()),
        Err(Failure::Busy) => Sent::Busy,
        Err(Failure::Refused(text) | Failure::Failed(text)) => Sent::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_success_is_one() {
        let failed = |text: &str| Sent::Failed(text.into());
        assert_eq!([200, 299].map(|status| told(Ok(status))), ["200", "299"].map(|text| Sent::Arrived(text.into())));
        assert_eq!(told(Ok(410)), Sent::Unwanted("410".into()));
        assert_eq!(told(Ok(302)), failed("302, and no redirect is followed"));
        assert_eq!([199, 404, 500].map(|status| told(Ok(status))), ["199", "404", "500"].map(failed));
        assert_eq!(told(Err(Failure::Busy)), Sent::Busy);
        assert_eq!(told(Err(Failure::Refused("no".into()))), failed("no"));
    }
}
