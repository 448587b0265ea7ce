//! Searches: checked filters and orders become SQL.
//!
//! Tags, parameters and metrics are rows of their own, so a condition on one is "there is such a
//! row"; that is why a row without the tag passes no comparison, `!=` included.

use salver_core::Result;
use salver_store::database::{Row, Session, Sql, sql};

use crate::runs::known_experiments;
use crate::search::{
    Attribute, Clause, DatasetField, Field, NumberOp, Order, Page, PageLimits, Subject, Test, TextOp, order_field,
    parse_filter, parse_order,
};
use crate::types::{Experiment, Found, LoggedModel, ModelVersion, RegisteredModel, Run, View};
use crate::{Registry, experiments, logged, models, runs};

/// A search as a client asks for it.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Conditions; empty: none.
    pub filter: String,
    /// What to sort by, such as `metrics.accuracy DESC`.
    pub order_by: Vec<String>,
    /// Rows of a page.
    pub max_results: Option<i64>,
    /// What the page before said.
    pub page_token: Option<String>,
    /// Whether to look at what was deleted.
    pub view: View,
}

/// One order of a search for logged models.
#[derive(Debug, Clone, Default)]
pub struct LoggedOrder {
    /// What to sort by.
    pub field_name: String,
    /// Whether large values come first.
    pub descending: bool,
}

/// A search whose parts were checked.
struct Checked {
    subject: Subject,
    clauses: Vec<Clause>,
    orders: Vec<Order>,
    page: Page,
}

impl Search {
    fn check(&self, subject: Subject) -> Result<Checked> {
        Ok(Checked {
            subject,
            clauses: parse_filter(subject, &self.filter)?,
            orders: self.order_by.iter().map(|item| parse_order(subject, item)).collect::<Result<_>>()?,
            page: Page::new(PageLimits::of(subject), self.max_results, self.page_token.as_deref())?,
        })
    }

    /// Which lifecycle stages are looked at.
    fn stages(&self) -> &'static [&'static str] {
        match self.view {
            View::Active => &["active"],
            View::Deleted => &["deleted"],
            View::All => &["active", "deleted"],
        }
    }
}

impl Registry {
    /// Searches experiments; newest first.
    ///
    /// # Errors
    /// `InvalidInput` for a filter, order or page that cannot be; those of the database.
    pub async fn search_experiments(&self, search: &Search) -> Result<Found<Experiment>> {
        let checked = search.check(Subject::Experiments)?;
        let from =
            sql("SELECT t.* FROM experiments t WHERE t.lifecycle_stage IN ").list(search.stages().iter().copied());
        let (mut session, found) = self.found(checked, from, experiments::read).await?;
        Ok(Found { items: experiments::with_tags(&mut session, found.items).await?, ..found })
    }

    /// Searches the runs of experiments; latest start first.
    ///
    /// # Errors
    /// As [`Registry::search_experiments`].
    pub async fn search_runs(&self, experiment_ids: &[String], search: &Search) -> Result<Found<Run>> {
        let checked = search.check(Subject::Runs)?;
        let ids = known_experiments(&mut self.database.read().await?, experiment_ids).await?;
        let from = sql("SELECT t.* FROM runs t WHERE t.experiment_id IN ")
            .list(ids)
            .then(" AND t.lifecycle_stage IN ")
            .list(search.stages().iter().copied());
        let (mut session, found) = self.found(checked, from, runs::read).await?;
        let items = runs::with_data(&mut session, found.items).await?;
        Ok(Found { items, next_page_token: found.next_page_token })
    }

    /// Searches registered models; by name.
    ///
    /// # Errors
    /// As [`Registry::search_experiments`].
    pub async fn search_models(&self, search: &Search) -> Result<Found<RegisteredModel>> {
        let checked = search.check(Subject::RegisteredModels)?;
        let (mut session, found) =
            self.found(checked, sql("SELECT t.* FROM registered_models t WHERE 1 = 1"), models::read).await?;
        Ok(Found { items: models::with_parts(&mut session, found.items).await?, ..found })
    }

    /// Searches versions of registered models; latest change first.
    ///
    /// # Errors
    /// As [`Registry::search_experiments`].
    pub async fn search_versions(&self, search: &Search) -> Result<Found<ModelVersion>> {
        let checked = search.check(Subject::ModelVersions)?;
        let (mut session, found) =
            self.found(checked, sql("SELECT t.* FROM model_versions t WHERE 1 = 1"), models::read_version_row).await?;
        Ok(Found { items: models::versions_with_parts(&mut session, found.items).await?, ..found })
    }

    /// Searches logged models; newest first. With `datasets` (each a name and perhaps a digest), only
    /// metrics that were measured on one of them count.
    ///
    /// # Errors
    /// As [`Registry::search_experiments`].
    pub async fn search_logged_models(
        &self,
        experiment_ids: &[String],
        search: &Search,
        orders: &[LoggedOrder],
        datasets: &[(String, Option<String>)],
    ) -> Result<Found<LoggedModel>> {
        let subject = Subject::LoggedModels;
        let mut checked = search.check(subject)?;
        for order in orders {
            let field = order_field(subject, &order.field_name)?;
            checked.orders.push(Order { field, ascending: !order.descending });
        }
        let ids = known_experiments(&mut self.database.read().await?, experiment_ids).await?;
        let from = sql("SELECT t.* FROM logged_models t WHERE t.lifecycle_stage = 'active' AND t.experiment_id IN ");
        let mut from = from.list(ids);
        if !datasets.is_empty() {
            let conditions = checked.clauses.extract_if(.., |clause| matches!(clause.field, Field::Metric(_)));
            let conditions: Vec<Clause> = conditions.collect();
            from = measured_on(from, conditions, datasets);
        }
        let (mut session, found) = self.found(checked, from, logged::read).await?;
        let items = logged::with_data(&mut session, found.items).await?;
        Ok(Found { items, next_page_token: found.next_page_token })
    }

    async fn found<T>(
        &self,
        checked: Checked,
        from: Sql,
        read: impl Fn(&Row) -> Result<T>,
    ) -> Result<(Session, Found<T>)> {
        let Checked { subject, clauses, orders, page } = checked;
        let mut statement = from;
        for clause in clauses {
            statement = condition(statement.then(" AND "), subject, clause);
        }
        statement = statement.then(" ORDER BY ");
        for order in orders {
            statement = sort(statement, subject, order).then(", ");
        }
        let statement = statement
            .then(default_order(subject))
            .then(" LIMIT ? OFFSET ?")
            .bind(i64::from(page.limit()) + 1)
            .bind(page.offset().cast_signed());
        let mut session = self.database.read().await?;
        let rows = session.all(statement).await?.iter().map(read).collect::<Result<_>>()?;
        Ok((session, Found::page(page, rows)))
    }
}

fn default_order(subject: Subject) -> &'static str {
    match subject {
        // The databases disagree on where a run without a start comes.
        Subject::Runs => "t.start_time DESC NULLS LAST, t.run_id",
        Subject::Experiments => "t.creation_time DESC, t.experiment_id DESC",
        Subject::RegisteredModels => "t.name",
        Subject::ModelVersions => "t.last_update_time DESC, t.name, t.version DESC",
        Subject::LoggedModels => "t.creation_time DESC, t.model_id DESC",
    }
}

/// Returns an attribute's column. Ids of experiments are numbers here and texts outside.
fn column(subject: Subject, attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::RunId => "t.run_id",
        Attribute::RunName => "t.run_name",
        Attribute::Status if subject == Subject::LoggedModels => "REPLACE(t.status, 'LOGGED_MODEL_', '')",
        Attribute::Status => "t.status",
        Attribute::UserId => "t.user_id",
        Attribute::ArtifactUri => "t.artifact_uri",
        Attribute::StartTime => "t.start_time",
        Attribute::EndTime => "t.end_time",
        Attribute::Name => "t.name",
        Attribute::ExperimentId => "CAST(t.experiment_id AS TEXT)",
        Attribute::CreationTime => "t.creation_time",
        Attribute::LastUpdated => "t.last_update_time",
        Attribute::SourcePath => "t.source",
        Attribute::VersionNumber => "t.version",
        Attribute::ModelId => "t.model_id",
        Attribute::ModelType => "t.model_type",
        Attribute::SourceRunId if subject == Subject::LoggedModels => "t.source_run_id",
        Attribute::SourceRunId => "t.run_id",
    }
}

/// Begins `SELECT … FROM the rows of one key`, whose table is `x`.
fn rows_of_key(subject: Subject, field: &Field) -> &'static str {
    match (subject, field) {
        (Subject::Runs, Field::Tag(_)) => " FROM run_tags x WHERE x.run_id = t.run_id AND x.key = ?",
        (Subject::Runs, Field::Param(_)) => " FROM params x WHERE x.run_id = t.run_id AND x.key = ?",
        (Subject::Runs, Field::Metric(_)) => " FROM latest_metrics x WHERE x.run_id = t.run_id AND x.key = ?",
        (Subject::Experiments, _) => " FROM experiment_tags x WHERE x.experiment_id = t.experiment_id AND x.key = ?",
        (Subject::RegisteredModels, _) => " FROM registered_model_tags x WHERE x.name = t.name AND x.key = ?",
        (Subject::ModelVersions, _) => {
            " FROM model_version_tags x WHERE x.name = t.name AND x.version = t.version AND x.key = ?"
        }
        (Subject::LoggedModels, Field::Param(_)) => {
            " FROM logged_model_params x WHERE x.model_id = t.model_id AND x.key = ?"
        }
        (Subject::LoggedModels, Field::Metric(_)) => {
            " FROM logged_model_metrics x WHERE x.model_id = t.model_id AND x.key = ?"
        }
        (Subject::LoggedModels, _) => " FROM logged_model_tags x WHERE x.model_id = t.model_id AND x.key = ?",
        (Subject::Runs, Field::Attribute(_) | Field::Dataset(_)) => {
            " FROM dataset_input_tags x WHERE x.run_id = t.run_id AND x.key = ?"
        }
    }
}

/// The tag of prompts, which are registered models too: every search for models leaves them out.
const PROMPT_TAG: &str = "mlflow.prompt.is_prompt";
const CONTEXT_TAG: &str = "mlflow.data.context";

fn condition(statement: Sql, subject: Subject, clause: Clause) -> Sql {
    let Clause { field, test } = clause;
    match &field {
        Field::Attribute(attribute) => compare(statement, column(subject, *attribute), test),
        Field::Dataset(DatasetField::Name) => dataset(statement, "x.name", test),
        Field::Dataset(DatasetField::Digest) => dataset(statement, "x.digest", test),
        Field::Dataset(DatasetField::Context) => {
            let statement = statement.then("EXISTS (SELECT 1").then(rows_of_key(subject, &field)).bind(CONTEXT_TAG);
            compare(statement.then(" AND "), "x.value", test).then(")")
        }
        Field::Tag(key) | Field::Param(key) | Field::Metric(key) => {
            if let Test::Null { negated } = test {
                let exists = if negated { "EXISTS (SELECT 1" } else { "NOT EXISTS (SELECT 1" };
                return statement.then(exists).then(rows_of_key(subject, &field)).bind(key).then(")");
            }
            let (exists, test) = match test {
                Test::Text { op: TextOp::NotEqual, value } if key == PROMPT_TAG => {
                    ("NOT EXISTS (SELECT 1", Test::Text { op: TextOp::Equal, value })
                }
                test => ("EXISTS (SELECT 1", test),
            };
            let statement = statement.then(exists).then(rows_of_key(subject, &field)).bind(key);
            let is_number = if matches!(field, Field::Metric(_)) { " AND x.is_nan = 0 AND " } else { " AND " };
            compare(statement.then(is_number), "x.value", test).then(")")
        }
    }
}

/// Appends conditions on metrics of logged models that were measured on one of `datasets`; without
/// conditions, that there is one.
fn measured_on(mut statement: Sql, conditions: Vec<Clause>, datasets: &[(String, Option<String>)]) -> Sql {
    let on_these = |statement: Sql| {
        let mut statement = statement.then(" AND (1 = 0");
        for (name, digest) in datasets {
            statement = statement.then(" OR (x.dataset_name = ?").bind(name);
            if let Some(digest) = digest {
                statement = statement.then(" AND x.dataset_digest = ?").bind(digest);
            }
            statement = statement.then(")");
        }
        statement.then(")")
    };
    if conditions.is_empty() {
        let any = " AND EXISTS (SELECT 1 FROM logged_model_metrics x WHERE x.model_id = t.model_id";
        return on_these(statement.then(any)).then(")");
    }
    for clause in conditions {
        let Field::Metric(key) = &clause.field else {
            continue;
        };
        let rows = rows_of_key(Subject::LoggedModels, &clause.field);
        statement = statement.then(" AND EXISTS (SELECT 1").then(rows).bind(key).then(" AND x.is_nan = 0 AND ");
        statement = on_these(compare(statement, "x.value", clause.test)).then(")");
    }
    statement
}

fn dataset(statement: Sql, column: &'static str, test: Test) -> Sql {
    let statement = statement.then("EXISTS (SELECT 1 FROM dataset_inputs x WHERE x.run_id = t.run_id AND ");
    compare(statement, column, test).then(")")
}

fn compare(statement: Sql, column: &'static str, test: Test) -> Sql {
    match test {
        Test::Text { op: TextOp::Equal, value } => statement.then(column).then(" = ?").bind(value),
        Test::Text { op: TextOp::NotEqual, value } => statement.then(column).then(" <> ?").bind(value),
        // Databases disagree on what escapes; here nothing does.
        Test::Text { op: TextOp::Like, value } => {
            statement.then(column).then(" LIKE ? ESCAPE '~'").bind(value.replace('~', "~~"))
        }
        Test::Text { op: TextOp::ILike, value } => {
            // Texts are compared by their bytes, so LOWER is about ASCII alone; that of a value would
            // follow the language of the database.
            let statement = statement.then("LOWER(").then(column).then(") LIKE ? ESCAPE '~'");
            statement.bind(value.to_ascii_lowercase().replace('~', "~~"))
        }
        Test::Number { op, value } => {
            let op = match op {
                NumberOp::Equal => " = ?",
                NumberOp::NotEqual => " <> ?",
                NumberOp::Greater => " > ?",
                NumberOp::GreaterOrEqual => " >= ?",
                NumberOp::Less => " < ?",
                NumberOp::LessOrEqual => " <= ?",
            };
            statement.then(column).then(op).bind(value)
        }
        Test::In { values, negated } => {
            statement.then(column).then(if negated { " NOT IN " } else { " IN " }).list(values)
        }
        Test::Null { negated } => statement.then(column).then(if negated { " IS NOT NULL" } else { " IS NULL" }),
    }
}

/// Appends what sorts by a field; rows without it come last, NaN before them.
fn sort(statement: Sql, subject: Subject, order: Order) -> Sql {
    let direction = if order.ascending { "" } else { " DESC" };
    // Only logged models have several values of a metric: the newest counts.
    let one = if subject == Subject::LoggedModels { " ORDER BY x.timestamp DESC, x.step DESC LIMIT 1)" } else { ")" };
    let rows = rows_of_key(subject, &order.field);
    match &order.field {
        Field::Attribute(attribute) => {
            let column = match attribute {
                Attribute::ExperimentId => "t.experiment_id",
                attribute => column(subject, *attribute),
            };
            let is_absent = statement.then("CASE WHEN ").then(column).then(" IS NULL THEN 1 ELSE 0 END, ");
            is_absent.then(column).then(direction)
        }
        Field::Metric(key) => statement
            .then("COALESCE((SELECT x.is_nan")
            .then(rows)
            .bind(key)
            .then(one)
            .then(", 2), (SELECT x.value")
            .then(rows)
            .bind(key)
            .then(one)
            .then(direction),
        Field::Tag(key) | Field::Param(key) => statement
            .then("CASE WHEN EXISTS (SELECT 1")
            .then(rows)
            .bind(key)
            .then(") THEN 0 ELSE 1 END, (SELECT x.value")
            .then(rows)
            .bind(key)
            .then(")")
            .then(direction),
        Field::Dataset(_) => statement.then("1"),
    }
}
