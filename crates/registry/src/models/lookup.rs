//! What is to be served: the production version of each model, and what references name, all as of
//! one moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use salver_core::{Error, Result};
use salver_store::database::{Row, Session, sql};

use super::versions::{read, with_parts};
use crate::Registry;
use crate::names::{Stage, VersionRef, Which};
use crate::types::ModelVersion;

/// The alias of the version that is in production, whatever its stage.
const PRODUCTION: &str = "production";

/// What one look at the registry found.
#[derive(Debug, Clone)]
pub struct ToServe {
    /// Of each model the version with the alias `production`, else the highest one in that stage.
    /// By name.
    pub in_production: Vec<ModelVersion>,
    /// What the references name, in their order; `NotFound` saying what there is not.
    pub named: Vec<Result<ModelVersion>>,
}

impl Registry {
    /// Returns what is in production and what `references` name. However many they are, it is one
    /// transaction and a fixed number of statements.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn to_serve(&self, references: &[VersionRef]) -> Result<ToServe> {
        let mut session = self.database.snapshot().await?;
        let in_production = in_production(&mut session).await?;
        let (models, meant) = meant(&mut session, references).await?;
        let key = |version: &ModelVersion| (version.name.clone(), version.version);
        let all: BTreeMap<_, _> =
            in_production.iter().chain(meant.values()).map(|version| (key(version), version.clone())).collect();
        let all = with_parts(&mut session, all.into_values().collect()).await?;
        let all: HashMap<_, _> = all.into_iter().map(|version| (key(&version), version)).collect();
        let whole = |version: &ModelVersion| all.get(&key(version)).cloned().unwrap_or_else(|| version.clone());
        let found = |reference: &VersionRef| match meant.get(reference) {
            Some(version) => Ok(whole(version)),
            None => Err(missing(reference, models.contains(&reference.name))),
        };
        let named = references.iter().map(found).collect();
        Ok(ToServe { in_production: in_production.iter().map(whole).collect(), named })
    }
}

async fn in_production(session: &mut Session) -> Result<Vec<ModelVersion>> {
    let staged = sql("SELECT v.* FROM model_versions v JOIN (SELECT name, MAX(version) AS version \
                      FROM model_versions WHERE stage = ? GROUP BY name) newest \
                      ON newest.name = v.name AND newest.version = v.version")
    .bind(Stage::Production.as_str());
    let named = sql("SELECT v.* FROM model_versions v JOIN model_aliases a \
                     ON a.name = v.name AND a.version = v.version WHERE a.alias = ?")
    .bind(PRODUCTION);
    let mut found = BTreeMap::new();
    // An alias is the finer word: it comes last and replaces the stage's.
    for statement in [staged, named] {
        for row in session.all(statement).await? {
            let version = read(&row)?;
            found.insert(version.name.clone(), version);
        }
    }
    Ok(found.into_values().collect())
}

/// Returns which of the models there are, and the version that each reference means. A statement
/// asks for every name with every number, stage or alias, and may find more than is meant.
async fn meant(
    session: &mut Session,
    references: &[VersionRef],
) -> Result<(BTreeSet<String>, HashMap<VersionRef, ModelVersion>)> {
    if references.is_empty() {
        return Ok((BTreeSet::new(), HashMap::new()));
    }
    let names: BTreeSet<&str> = references.iter().map(|reference| reference.name.as_str()).collect();
    let names = || names.iter().copied();
    let which = || references.iter().map(|reference| &reference.which);
    let numbers = which().filter_map(|which| if let Which::Number(number) = which { Some(*number) } else { None });
    let stages = which().filter_map(|which| if let Which::Stage(stage) = which { Some(stage.as_str()) } else { None });
    let aliases = which().filter_map(|which| if let Which::Alias(alias) = which { Some(alias.as_str()) } else { None });

    let statement = sql("SELECT name FROM registered_models WHERE name IN ").list(names());
    let models = session.all(statement).await?.iter().map(|row| row.text("name")).collect::<Result<_>>()?;
    let mut found = HashMap::new();
    let mut keep = |rows: Vec<Row>, which: fn(&Row, &ModelVersion) -> Result<Which>| -> Result<()> {
        for row in rows {
            let version = read(&row)?;
            let reference = VersionRef { name: version.name.clone(), which: which(&row, &version)? };
            found.insert(reference, version);
        }
        Ok(())
    };
    let statement = sql("SELECT * FROM model_versions WHERE name IN ").list(names()).then(" AND version IN ");
    keep(session.all(statement.list(numbers)).await?, |_, version| Ok(Which::Number(version.version)))?;
    let statement = sql("SELECT v.* FROM model_versions v JOIN (SELECT name, stage, MAX(version) AS version \
                         FROM model_versions WHERE name IN ")
    .list(names())
    .then(" AND stage IN ")
    .list(stages)
    .then(" GROUP BY name, stage) newest ON newest.name = v.name AND newest.version = v.version");
    keep(session.all(statement).await?, |_, version| Ok(Which::Stage(version.current_stage)))?;
    let statement = sql("SELECT v.*, a.alias AS alias FROM model_versions v JOIN model_aliases a \
                         ON a.name = v.name AND a.version = v.version WHERE a.name IN ")
    .list(names())
    .then(" AND a.alias IN ")
    .list(aliases);
    keep(session.all(statement).await?, |row, _| row.text("alias").map(Which::Alias))?;
    Ok((models, found))
}

fn missing(reference: &VersionRef, is_model: bool) -> Error {
    let name = &reference.name;
    let what = match &reference.which {
        _ if !is_model => format!("there is no registered model '{name}'"),
        Which::Number(number) => format!("registered model '{name}' has no version {number}"),
        Which::Stage(stage) => format!("no version of registered model '{name}' is in {stage}"),
        Which::Alias(alias) => format!("registered model '{name}' has no alias '{alias}'"),
    };
    Error::not_found(format!("{reference}: {what}"))
}
