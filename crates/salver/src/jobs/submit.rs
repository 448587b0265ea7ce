//! Hands a job in.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use salver_client::{HttpClient, JobForm, NewJob};
use salver_core::ModelRef;

use super::Queue;
use crate::cli::SubmitOptions;
use crate::input::Input;
use crate::{out, predict};

/// The media type of several requests.
const LINES: &str = "application/x-ndjson";

/// What a job is made of.
#[derive(Debug, PartialEq)]
enum Body {
    /// One request on each line.
    Lines(Bytes),
    /// One request.
    One(Input),
}

impl Queue {
    pub(super) async fn submit(&self, options: &SubmitOptions) -> Result<ExitCode> {
        let model: ModelRef = options.model.parse()?;
        let form = if options.v2 { JobForm::Oip } else { JobForm::Plain };
        let body = Body::read(&options.body, options.lines)?;
        let (content_type, body) = body.encode(&self.client, &model, form).await?;
        let job = NewJob { model, form, content_type, body, options: options.treatment.options() };
        let submitted = self.client.submit_job(job).await;
        let submitted = submitted.with_context(|| format!("model {} at {}", options.model, self.client.base()))?;
        if options.wait {
            // The result goes to standard output; whoever interrupts this needs the id.
            out::error(out::printable(&format!("job {}", submitted.id)));
            return self.wait(&submitted.id, options.timeout).await;
        }
        if self.json {
            out::json(&submitted)?;
        } else {
            out::line(out::printable(&submitted.id));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Body {
    /// Reads what `text` stands for.
    fn read(text: &str, lines: bool) -> Result<Self> {
        let path = Path::new(text.strip_prefix('@').unwrap_or(text));
        let has_lines = path.extension().is_some_and(|ext| ["jsonl", "ndjson"].iter().any(|known| ext == *known));
        if has_lines && text != "-" {
            let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            return Ok(Self::Lines(bytes.into()));
        }
        match (Input::read(text)?, lines) {
            (input, false) => Ok(Self::One(input)),
            (Input::Json(bytes), true) => Ok(Self::Lines(bytes)),
            (Input::Csv(_) | Input::Npy(_), true) => bail!("--lines: expected one JSON text on each line"),
        }
    }

    /// Returns its media type and its bytes, as the model takes them.
    async fn encode(self, client: &HttpClient, model: &ModelRef, form: JobForm) -> Result<(&'static str, Bytes)> {
        let input = match (self, form) {
            (Self::Lines(bytes), _) => return Ok((LINES, bytes)),
            (Self::One(Input::Csv(_) | Input::Npy(_)), JobForm::Oip) => {
                bail!("--v2: expected a request of the Open Inference Protocol, which is JSON")
            }
            (Self::One(input), _) => input,
        };
        let columns = match &input {
            Input::Csv(_) => predict::columns(&client.description(model).await?),
            Input::Json(_) | Input::Npy(_) => Vec::new(),
        };
        Ok((input.content_type(), input.body(&columns)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_by_the_name_of_their_file_or_by_a_flag() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let lines = Body::Lines(Bytes::from_static(b"[1]\n[2]\n"));
        let jsonl = write("a.jsonl", "[1]\n[2]\n");
        assert_eq!(Body::read(&jsonl, false).unwrap(), lines);
        assert_eq!(Body::read(&format!("@{jsonl}"), false).unwrap(), lines);
        let txt = format!("@{}", write("a.txt", "[1]\n[2]\n"));
        assert_eq!(Body::read(&txt, true).unwrap(), lines);
        assert!(matches!(Body::read(&txt, false).unwrap(), Body::One(Input::Json(_))));
        assert!(matches!(Body::read("[[1]]", false).unwrap(), Body::One(Input::Json(_))));
        let error = Body::read(&write("a.csv", "x\n1\n"), true).unwrap_err();
        assert!(error.to_string().contains("--lines"), "{error}");
        let error = Body::read("nowhere.ndjson", false).unwrap_err();
        assert!(format!("{error:#}").contains("read nowhere.ndjson"), "{error:#}");
    }

    #[tokio::test]
    async fn a_request_of_the_protocol_is_json() {
        let (client, model) = (HttpClient::new("http://127.0.0.1:1").unwrap(), "iris".parse().unwrap());
        let body = Body::One(Input::Csv(b"a\n1\n".to_vec()));
        let error = body.encode(&client, &model, JobForm::Oip).await.unwrap_err();
        assert!(error.to_string().contains("--v2"), "{error}");
    }
}
