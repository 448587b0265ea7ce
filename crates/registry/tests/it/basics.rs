//! Experiments and runs: names, what runs log, and how much of it there may be.

use salver_core::ErrorKind;
use salver_registry::search::{Page, PageLimits};
use salver_registry::types::{Lifecycle, View};
use salver_registry::{Logged, NewExperiment, NewLoggedModel, NewMetric, NewRun, RunChange, Search};
use salver_store::database::sql;

use crate::dice::Dice;
use crate::place::{ANN, Place, tag};

contract!(
    names_of_experiments_are_unique_for_ever,
    runs_follow_their_experiment,
    a_batch_is_logged_as_a_whole,
    the_latest_metric_does_not_depend_on_the_order,
    names_and_their_tag_are_one,
    searches_take_as_many_rows_as_they_say,
);

fn experiment(name: &str) -> NewExperiment {
    NewExperiment { name: name.to_owned(), ..NewExperiment::default() }
}

async fn names_of_experiments_are_unique_for_ever(place: Place) {
    let registry = &place.registry;
    assert_eq!(registry.experiment("0").await.unwrap().name, "Default");
    let creating = (0..8).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.create_experiment(ANN, experiment("e")).await })
    });
    let made = futures::future::join_all(creating.collect::<Vec<_>>()).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().map(|made| made.unwrap()).partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    assert!(refused.into_iter().all(|refused| refused.unwrap_err().kind() == ErrorKind::Conflict));

    let id = registry.experiment_by_name("e").await.unwrap().experiment_id.to_string();
    registry.set_experiment_lifecycle(ANN, &id, Lifecycle::Deleted).await.unwrap();
    let refused = registry.create_experiment(ANN, experiment("e")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.message().contains("deleted"), "{refused}");
    let other = registry.create_experiment(ANN, experiment("f")).await.unwrap();
    assert!(other.to_string() != id);
    assert_eq!(
        registry.experiment(&other.to_string()).await.unwrap().artifact_location,
        format!("mlflow-artifacts:/{other}")
    );
}

async fn runs_follow_their_experiment(place: Place) {
    let registry = &place.registry;
    let id = registry.create_experiment(ANN, experiment("e")).await.unwrap().to_string();
    let new = NewRun { experiment_id: id.clone(), ..NewRun::default() };
    let run = registry.create_run(ANN, new.clone()).await.unwrap().info;
    assert_eq!(run.artifact_uri, format!("mlflow-artifacts:/{id}/{}/artifacts", run.run_id));
    registry.set_experiment_lifecycle(ANN, &id, Lifecycle::Deleted).await.unwrap();
    assert_eq!(registry.run(&run.run_id).await.unwrap().info.lifecycle_stage, Lifecycle::Deleted);
    let refused = [
        registry.create_run(ANN, new).await.map(drop),
        registry.log(&run.run_id, Logged { tags: vec![tag("a", "b")], ..Logged::default() }).await,
        registry.update_run(ANN, &run.run_id, RunChange::default()).await.map(drop),
        registry.delete_run_tag(&run.run_id, "a").await,
    ];
    assert!(refused.into_iter().all(|refused| refused.unwrap_err().kind() == ErrorKind::InvalidInput));
    registry.set_experiment_lifecycle(ANN, &id, Lifecycle::Active).await.unwrap();
    registry.log(&run.run_id, Logged { tags: vec![tag("a", "b")], ..Logged::default() }).await.unwrap();
}

fn metric(value: f64, timestamp: i64, step: i64) -> NewMetric {
    NewMetric {
        key: "loss".to_owned(),
        value,
        timestamp,
        step,
        model_id: None,
        dataset_name: None,
        dataset_digest: None,
    }
}

async fn a_batch_is_logged_as_a_whole(place: Place) {
    let registry = &place.registry;
    let run = place.run().await.run_id;
    let first = Logged { params: vec![tag("lr", "1"), tag("depth", "2")], ..Logged::default() };
    registry.log(&run, first.clone()).await.unwrap();
    registry.log(&run, first).await.unwrap();
    let before = registry.run(&run).await.unwrap();
    let refused = Logged {
        metrics: vec![metric(1., 1, 1)],
        params: vec![tag("new", "1"), tag("lr", "2")],
        tags: vec![tag("a", "b")],
    };
    let error = registry.log(&run, refused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().starts_with("Changing param values is not allowed. Param with key='lr'"), "{error}");
    let no_model = NewMetric { model_id: Some("m-none".to_owned()), ..metric(1., 1, 1) };
    let refused = Logged { metrics: vec![no_model], ..Logged::default() };
    assert_eq!(registry.log(&run, refused).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.run(&run).await.unwrap(), before);
    let page = Page::new(PageLimits::METRIC_HISTORY, None, None).unwrap();
    assert_eq!(registry.metric_history(&run, "loss", page).await.unwrap().items, []);
}

/// The latest is the greatest of step, time and value, NaN above a zero; infinities are the greatest.
async fn the_latest_metric_does_not_depend_on_the_order(place: Place) {
    let registry = &place.registry;
    let mut dice = Dice::new(4);
    for round in 0..40 {
        let mut metrics: Vec<NewMetric> = (0..6)
            .map(|_| {
                let value = *dice.pick(&[0., f64::NAN, -1., 1., f64::INFINITY, f64::NEG_INFINITY]);
                metric(value, dice.below(2) as i64, dice.below(2) as i64 - 1)
            })
            .collect();
        let rank = |metric: &NewMetric| {
            let value = metric.value.clamp(f64::MIN, f64::MAX);
            (metric.step, metric.timestamp, if value.is_nan() { 0. } else { value }, value.is_nan())
        };
        let greatest = metrics.iter().map(rank).max_by(|a, b| a.partial_cmp(b).unwrap()).unwrap();
        let run = place.run().await.run_id;
        while !metrics.is_empty() {
            let batch = metrics.split_off(metrics.len() - 1 - dice.below(metrics.len()));
            registry.log(&run, Logged { metrics: batch, ..Logged::default() }).await.unwrap();
        }
        let latest = registry.run(&run).await.unwrap().data.metrics.remove(0);
        let value = if latest.value.is_nan() { 0. } else { latest.value };
        assert_eq!((latest.step, latest.timestamp, value, latest.value.is_nan()), greatest, "round {round}");
    }
}

async fn names_and_their_tag_are_one(place: Place) {
    let registry = &place.registry;
    let run = place.run().await;
    let named = async |name: &str| {
        let run = registry.run(&run.run_id).await.unwrap();
        let tag = run.data.tags.iter().find(|tag| tag.key == "mlflow.runName").unwrap();
        assert_eq!((run.info.run_name.as_str(), tag.value.as_str()), (name, name));
    };
    named(&run.run_name).await;
    registry
        .update_run(ANN, &run.run_id, RunChange { run_name: Some("a".to_owned()), ..RunChange::default() })
        .await
        .unwrap();
    named("a").await;
    let tags = vec![tag("mlflow.runName", "b"), tag("mlflow.runName", "c")];
    registry.log(&run.run_id, Logged { tags, ..Logged::default() }).await.unwrap();
    named("c").await;
    registry.delete_run_tag(&run.run_id, "missing").await.unwrap_err();
}

/// More than SQLite takes values in one statement.
async fn searches_take_as_many_rows_as_they_say(place: Place) {
    const MANY: i64 = 33_000;
    let registry = &place.registry;
    let new = NewLoggedModel { experiment_id: "0".to_owned(), ..NewLoggedModel::default() };
    let model = registry.create_logged_model(new).await.unwrap().info.model_id;
    registry.set_logged_model_tags(&model, &[tag("a", "b")]).await.unwrap();
    registry.set_experiment_tag(ANN, "0", tag("a", "b")).await.unwrap();
    let mut session = place.database().await.write().await.unwrap();
    for statement in [
        sql("WITH RECURSIVE n(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n < ?) \
             INSERT INTO experiments SELECT n, 'e' || CAST(n AS TEXT), '', 'active', 0, 0 FROM n"),
        sql("WITH RECURSIVE n(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM n WHERE n < ?) \
             INSERT INTO logged_models SELECT 'm-' || CAST(n AS TEXT), 0, 'm', '', '', NULL, NULL, 0, 0, 'active' FROM n"),
    ] {
        session.execute(statement.bind(MANY)).await.unwrap();
    }
    session.commit().await.unwrap();

    let search = Search { max_results: Some(50_000), view: View::All, ..Search::default() };
    let found = registry.search_experiments(&search).await.unwrap().items;
    assert_eq!(found.len() as i64, MANY + 1);
    assert_eq!(found[0].tags, [tag("a", "b")]);
    let found = registry.search_logged_models(&["0".to_owned()], &search, &[], &[]).await.unwrap().items;
    assert_eq!(found.len() as i64, MANY + 1);
    assert_eq!(found[0].info.tags, [tag("a", "b")]);
    // An experiment may be named as often as one likes; its runs are found once.
    let run = place.run().await.run_id;
    let often = vec!["0".to_owned(); 70_000];
    let found = registry.search_runs(&often, &search).await.unwrap().items;
    assert_eq!(found.iter().map(|run| run.info.run_id.as_str()).collect::<Vec<_>>(), [run]);
}
