//! Opening: a new database, one that is there, and one that is too new.

use salver_core::ErrorKind;
use salver_registry::names::Stage;
use salver_registry::types::View;
use salver_registry::{Search, Transition};
use salver_store::Database;
use salver_store::database::{Sql, sql};

use crate::place::{ANN, Place, START, into, path_of, put, tag};

contract!(a_newer_database_is_refused, opening_changes_nothing, servers_may_open_at_once, changes_are_told);

async fn a_newer_database_is_refused(place: Place) {
    place.model("iris", 1).await;
    let mut session = place.database().await.write().await.unwrap();
    let newer =
        sql("INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
                     SELECT 99, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations \
                     WHERE version = 1");
    session.execute(newer).await.unwrap();
    session.commit().await.unwrap();
    let refusal = place.open_again().await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Unsupported);
    let expected = "the database was written by a newer Salver (its schema has step 99, this program knows";
    assert!(refusal.message().starts_with(expected), "{refusal}");
    assert!(refusal.message().ends_with("use that version or a newer one"), "{refusal}");
    // It was left as it was.
    assert_eq!(place.registry.version("iris", 1).await.unwrap().version, 1);
}

macro_rules! counts {
    ($($table:literal),+) => {
        [$(($table, sql(concat!("SELECT COUNT(*) AS n FROM ", $table)))),+]
    };
}

/// How many rows each table has, and the rows that opening might touch.
async fn contents(database: &Database) -> Vec<String> {
    let count: [(&str, Sql); 22] = counts!(
        "counters",
        "experiments",
        "experiment_tags",
        "runs",
        "run_tags",
        "params",
        "metrics",
        "latest_metrics",
        "datasets",
        "dataset_inputs",
        "dataset_input_tags",
        "run_models",
        "logged_models",
        "registered_models",
        "registered_model_tags",
        "model_versions",
        "model_version_files",
        "model_version_tags",
        "model_aliases",
        "stage_times",
        "artifacts",
        "audit"
    );
    let mut session = database.read().await.unwrap();
    let mut found = Vec::new();
    for (table, statement) in count {
        found.push(format!("{table}: {}", session.first(statement).await.unwrap().unwrap().int("n").unwrap()));
    }
    for statement in [
        sql("SELECT name || ' ' || CAST(value AS TEXT) AS line FROM counters ORDER BY name"),
        sql("SELECT name || ' ' || CAST(last_update_time AS TEXT) AS line FROM experiments ORDER BY name"),
        sql("SELECT CAST(version AS TEXT) || ' ' || CAST(installed_on AS TEXT) AS line FROM _sqlx_migrations \
             ORDER BY version"),
    ] {
        found.extend(session.all(statement).await.unwrap().iter().map(|row| row.text("line").unwrap()));
    }
    found
}

async fn opening_changes_nothing(place: Place) {
    let run = place.run().await;
    put(&place.registry, &path_of(&run, "model"), "x").await.unwrap();
    place.model("iris", 2).await;
    place.registry.transition(ANN, "iris", 1, into(Stage::Staging)).await.unwrap();
    place.registry.set_experiment_tag(ANN, "0", tag("a", "b")).await.unwrap();
    place.registry.rename_experiment(ANN, "0", "Everything").await.unwrap();
    let database = place.database().await;
    let search = Search { max_results: Some(9), view: View::All, ..Search::default() };
    let before = (contents(&database).await, place.registry.history(None, 100).await.unwrap());
    let experiments = place.registry.search_experiments(&search).await.unwrap();
    place.set_time(START + 60_000);
    let again = place.open_again().await.unwrap();
    assert_eq!((contents(&database).await, again.history(None, 100).await.unwrap()), before);
    assert_eq!(again.search_experiments(&search).await.unwrap(), experiments);
}

async fn servers_may_open_at_once(place: Place) {
    for _ in 0..3 {
        let place = place.new_database().await;
        let opened = futures::future::join_all((0..4).map(|_| place.open())).await;
        for registry in opened {
            let registry = registry.unwrap();
            assert_eq!(registry.experiment("0").await.unwrap().name, "Default");
            assert_eq!(registry.history(None, 9).await.unwrap(), []);
        }
    }
}

async fn changes_are_told(place: Place) {
    let other = place.open_again().await.unwrap();
    let (mut here, mut there) = (place.registry.changes(), other.changes());
    here.mark_unchanged();
    there.mark_unchanged();
    place.model("iris", 1).await;
    assert!(here.has_changed().unwrap() && !there.has_changed().unwrap());
    other.look_for_changes().await.unwrap();
    assert!(there.has_changed().unwrap());
    assert_eq!(*here.borrow_and_update(), *there.borrow_and_update());
    other.look_for_changes().await.unwrap();
    assert!(!there.has_changed().unwrap());
    // A change that is refused is none.
    let to = Transition { replaces: Some(9), ..into(Stage::Staging) };
    place.registry.transition(ANN, "iris", 1, to).await.unwrap_err();
    assert!(!here.has_changed().unwrap());
}
