//! What a person calls a model on a tracking server, and what that server calls the place of its files.

use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use salver_client::BaseUrl;
use salver_registry::names::artifact_path;

/// How a name of a registered model begins.
pub(super) const SCHEME: &str = "models:/";
/// Where any server of MLflow's hands out files.
const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts/";

/// Versions of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) wanted: Wanted,
}

/// Which of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Newest,
    Version(String),
    Stage(String),
    Alias(String),
}

impl FromStr for Source {
    type Err = anyhow::Error;

    /// Reads `models:/NAME`, `models:/NAME/VERSION`, `models:/NAME/STAGE` or `models:/NAME@ALIAS`, as
    /// MLflow's client does.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            anyhow::anyhow!(
                "'{text}': {why}; expected models:/NAME, models:/NAME/VERSION, models:/NAME/STAGE or models:/NAME@ALIAS"
            )
        };
        let Some(rest) = text.strip_prefix(SCHEME).filter(|rest| !rest.starts_with('/')) else {
            return Err(refuse("it does not begin with models:/ and a name"));
        };
        let (name, wanted) = if let Some((name, which)) = rest.split_once('/') {
            let wanted = match which {
                number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Wanted::Version(number.to_owned())
                }
                newest if newest.eq_ignore_ascii_case("latest") => Wanted::Newest,
                stage if !stage.is_empty() && !stage.contains('/') => Wanted::Stage(stage.to_owned()),
                _ => return Err(refuse("neither a version nor a stage follows the name")),
            };
            (name, wanted)
        } else if let Some((name, alias)) = rest.rsplit_once('@') {
            (name, Wanted::Alias(alias.to_owned()))
        } else {
            (rest, Wanted::All)
        };
        if name.is_empty() {
            return Err(refuse("it names no model"));
        }
        let id = name.strip_prefix("m-").unwrap_or_default();
        if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse("a logged model that is not registered; register it there first"));
        }
        Ok(Self { name: name.to_owned(), wanted })
    }
}

/// Where the files of a version are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder that the server itself hands out.
    Folder(String),
    /// With a logged model.
    Logged(String),
    /// Within what a run wrote.
    Run { run_id: String, path: String },
    /// With another version.
    Version { name: String, version: String },
    /// Where only MLflow's clients can go.
    Elsewhere,
}

impl Location {
    /// Reads the URI that the server at `base` calls them by.
    pub(super) fn read(uri: &str, base: &BaseUrl) -> Result<Self> {
        let Some((scheme, rest)) = uri.split_once(':') else {
            return Ok(Self::Elsewhere);
        };
        let plain = rest.trim_start_matches('/');
        Ok(match scheme {
            "mlflow-artifacts" => match rest.strip_prefix("//") {
                Some(there) if !there.starts_with('/') => {
                    let (host, path) = there.split_once('/').unwrap_or((there, ""));
                    ensure!(host == base.authority(), "its files are with the server at {host}: import it from there");
                    Self::Folder(checked(path)?)
                }
                _ => Self::Folder(checked(plain)?),
            },
            "http" | "https" => match uri.strip_prefix(&base.url(PROXY)) {
                Some(path) => Self::Folder(checked(path)?),
                None => Self::Elsewhere,
            },
            "models" => match plain.split_once('/') {
                None if plain.starts_with("m-") => Self::Logged(plain.to_owned()),
                Some((name, version)) => Self::Version { name: name.to_owned(), version: version.to_owned() },
                None => bail!("its files are said to be at '{uri}', which names no version"),
            },
            "runs" => {
                let (run_id, path) = plain.split_once('/').unwrap_or((plain, ""));
                let path = if path.is_empty() { String::new() } else { checked(path)? };
                Self::Run { run_id: run_id.to_owned(), path }
            }
            _ => Self::Elsewhere,
        })
    }
}

/// A path that another server tells is not followed out of its place.
fn checked(path: &str) -> Result<String> {
    Ok(artifact_path(path.trim_matches('/'))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: &str, wanted: Wanted) {
        assert_eq!(text.parse::<Source>().unwrap(), Source { name: name.to_owned(), wanted });
    }

    #[test]
    fn models_are_called_as_mlflow_calls_them() {
        check("models:/iris", "iris", Wanted::All);
        check("models:/iris/3", "iris", Wanted::Version("3".to_owned()));
        check("models:/iris/Production", "iris", Wanted::Stage("Production".to_owned()));
        check("models:/iris/latest", "iris", Wanted::Newest);
        check("models:/iris@champion", "iris", Wanted::Alias("champion".to_owned()));
        check("models:/my iris.v2/1", "my iris.v2", Wanted::Version("1".to_owned()));
        for text in ["iris", "models:/", "models:/iris/", "models:/iris/1/2", "models://iris", "models:/@x"] {
            let error = text.parse::<Source>().unwrap_err().to_string();
            assert!(error.contains(&format!("'{text}'")) && error.contains("models:/NAME/VERSION"), "{error}");
        }
        let logged = format!("models:/m-{}", "0a".repeat(16));
        assert!(logged.parse::<Source>().unwrap_err().to_string().contains("not registered"));
    }

    fn located(uri: &str) -> Result<Location> {
        Location::read(uri, &"http://localhost:5000".parse().unwrap())
    }

    #[test]
    fn folders_are_followed_to_where_the_server_hands_them_out() {
        let folder = |path: &str| Location::Folder(path.to_owned());
        assert_eq!(located("mlflow-artifacts:/1/models/m-1/artifacts").unwrap(), folder("1/models/m-1/artifacts"));
        assert_eq!(located("mlflow-artifacts://localhost:5000/1/x/").unwrap(), folder("1/x"));
        assert_eq!(located("http://localhost:5000/api/2.0/mlflow-artifacts/artifacts/1/x").unwrap(), folder("1/x"));
        assert_eq!(located("models:/m-1").unwrap(), Location::Logged("m-1".to_owned()));
        let run = Location::Run { run_id: "r".to_owned(), path: "a/b".to_owned() };
        assert_eq!(located("runs:/r/a/b").unwrap(), run);
        let version = Location::Version { name: "iris".to_owned(), version: "2".to_owned() };
        assert_eq!(located("models:/iris/2").unwrap(), version);
        for uri in ["s3://bucket/x", "file:///x", "/x", "x", "dbfs:/x", "http://other/x"] {
            assert_eq!(located(uri).unwrap(), Location::Elsewhere, "{uri}");
        }
    }

    #[test]
    fn no_server_leads_out_of_its_artifacts() {
        let hostile = ["../x", "a/../../x", "a/%2e%2e/x", "a\\x", "", "a//b", "a/%252e%252e/b", "C:/x"];
        for path in hostile {
            for uri in [format!("mlflow-artifacts:/{path}"), format!("mlflow-artifacts://localhost:5000/{path}")] {
                assert!(located(&uri).is_err(), "{uri}");
            }
        }
        assert!(located("runs:/r/../x").is_err());
        assert!(located("mlflow-artifacts://other:1/x").unwrap_err().to_string().contains("other:1"));
    }
}
