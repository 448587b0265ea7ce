//! Clearing away, saving and bringing back, and one step back in production.

use std::time::Duration;

use salver_core::ErrorKind;
use salver_registry::names::Stage;
use salver_registry::{Logged, NewMetric, Registry};

use crate::place::{ANN, Ground, Place, alone_in, elsewhere, of_run, path_of, put, read, tag};

contract!(
    only_what_nothing_refers_to_is_cleared_away,
    what_was_acknowledged_while_clearing_away_is_there,
    a_backup_brings_back_everything_into_either_database,
    a_rollback_goes_to_the_version_before_and_says_when_there_is_none,
    cards_show_what_was_measured,
);

const NOW: Duration = Duration::ZERO;

async fn only_what_nothing_refers_to_is_cleared_away(place: Place) {
    let registry = &place.registry;
    let run = place.run().await;
    let kept = put(registry, &path_of(&run, "model/a.bin"), "kept").await.unwrap();
    registry.create_model(ANN, "m", "", &[]).await.unwrap();
    registry.create_version(ANN, of_run("m", &run, "model")).await.unwrap();
    let lost = put(registry, &path_of(&run, "other/b.bin"), "lost").await.unwrap();
    registry.delete_files(&path_of(&run, "other")).await.unwrap();
    let young = registry.collect_garbage(Duration::from_secs(3600), false).await.unwrap();
    assert_eq!((young.blobs, young.kept), (0, 2));
    let counted = registry.collect_garbage(NOW, true).await.unwrap();
    assert_eq!((counted.blobs, counted.bytes, counted.kept), (1, 4, 1));
    assert!(place.blob_file(&lost.digest).exists());
    let cleared = registry.collect_garbage(NOW, false).await.unwrap();
    assert_eq!((cleared.blobs, cleared.kept), (1, 1));
    assert!(!place.blob_file(&lost.digest).exists() && place.blob_file(&kept.digest).exists());
    // The same bytes may come again.
    put(registry, &path_of(&run, "other/b.bin"), "lost").await.unwrap();
    assert_eq!(read(registry, &path_of(&run, "other/b.bin")).await.unwrap(), b"lost");
}

/// Everybody puts, loses and clears away the same bytes at once.
async fn what_was_acknowledged_while_clearing_away_is_there(place: Place) {
    let run = place.run().await;
    let tasks = (0..4).map(|task| {
        let (registry, run) = (place.registry.clone(), run.clone());
        tokio::spawn(async move {
            let path = path_of(&run, &format!("{task}.bin"));
            for _ in 0..15 {
                if task == 0 {
                    registry.collect_garbage(NOW, false).await.unwrap();
                    continue;
                }
                match put(&registry, &path, "the same").await {
                    Ok(_) => assert_eq!(read(&registry, &path).await.unwrap(), b"the same"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotReady, "{error:?}"),
                }
                registry.delete_files(&path).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

async fn filled(place: &Place) {
    let registry = &place.registry;
    let run = place.run().await;
    put(registry, &path_of(&run, "model/ä b.bin"), "bytes").await.unwrap();
    let metric = |value, step| NewMetric {
        key: "loss".to_owned(),
        value,
        timestamp: 1,
        step,
        model_id: None,
        dataset_name: None,
        dataset_digest: None,
    };
    let metrics = vec![metric(0.1 + 0.2, 1), metric(f64::NAN, 2), metric(f64::INFINITY, 3), metric(-1e-300, 4)];
    let logged = Logged { metrics, params: vec![tag("p", "ü")], tags: vec![tag("t", "")] };
    registry.log(&run.run_id, logged).await.unwrap();
    registry.create_model(ANN, "m", "# Model", &[tag("a", "b")]).await.unwrap();
    registry.create_version(ANN, of_run("m", &run, "model")).await.unwrap();
    registry.transition(ANN, "m", 1, alone_in(Stage::Production)).await.unwrap();
    registry.set_alias(ANN, "m", "best", 1).await.unwrap();
}

/// Everything that can be asked for, as text.
async fn everything(registry: &Registry) -> String {
    let runs = registry.search_runs(&["0".to_owned()], &salver_registry::Search::default()).await.unwrap();
    let page = salver_registry::search::Page::new(salver_registry::search::PageLimits::METRIC_HISTORY, None, None);
    let history = registry.metric_history(&runs.items[0].info.run_id, "loss", page.unwrap()).await.unwrap();
    let audit = registry.history(None, 1_000).await.unwrap();
    let audit: Vec<_> = audit.into_iter().map(|entry| (entry.time, entry.what, entry.subject, entry.after)).collect();
    let (card, files, stages) = registry.card("m", 1).await.unwrap();
    let model = registry.model("m").await.unwrap();
    format!("{runs:?} {history:?} {audit:?} {card:?} {files:?} {stages:?} {model:?}")
}

async fn a_backup_brings_back_everything_into_either_database(place: Place) {
    filled(&place).await;
    let saved = tempfile::tempdir().unwrap();
    let folder = saved.path().join("today");
    let told = place.registry.backup(&folder).await.unwrap();
    assert_eq!((told.blobs, told.bytes), (1, 5));
    assert_eq!(place.registry.backup(&folder).await.unwrap_err().kind(), ErrorKind::Conflict);
    let before = everything(&place.registry).await;
    let mut others = vec![Place::sqlite().await];
    others.extend(Place::postgres().await);
    for other in others {
        assert_eq!(other.registry.restore(&folder).await.unwrap(), told);
        assert_eq!(everything(&other.registry).await, before);
        assert_eq!(other.registry.restore(&folder).await.unwrap_err().kind(), ErrorKind::Conflict);
        // Numbers go on where they were.
        other.registry.create_version(ANN, elsewhere("m")).await.unwrap();
        assert_eq!(other.registry.version("m", 2).await.unwrap().version, 2);
        let new = salver_registry::NewExperiment { name: "new".to_owned(), ..Default::default() };
        other.registry.create_experiment(ANN, new).await.unwrap();
    }
    half_of_it_is_refused(&folder).await;
    std::fs::remove_file(folder.join("registry.json")).unwrap();
    let unfinished = Place::sqlite().await.registry.restore(&folder).await.unwrap_err();
    assert_eq!(unfinished.kind(), ErrorKind::NotFound);
}

/// What a copy of a backup that broke off may have lost.
async fn half_of_it_is_refused(folder: &std::path::Path) {
    let check = async |expected: &str| {
        let place = Place::sqlite().await;
        let error = place.registry.restore(folder).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(expected), "{error}");
        assert!(place.registry.model("m").await.is_err());
    };
    let table = folder.join("tables/params.jsonl");
    let rows = std::fs::read(&table).unwrap();
    std::fs::write(&table, "").unwrap();
    check("is damaged: expected").await;
    std::fs::write(&table, rows).unwrap();
    std::fs::remove_dir_all(folder.join("blobs")).unwrap();
    check("expected 1 files, found 0").await;
}

async fn a_rollback_goes_to_the_version_before_and_says_when_there_is_none(place: Place) {
    let registry = &place.registry;
    place.model("m", 3).await;
    assert_eq!(registry.rollback(ANN, "m").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    for (time, version) in [(1, 1), (2, 2), (3, 3)] {
        place.set_time(crate::place::START + time);
        registry.transition(ANN, "m", version, alone_in(Stage::Production)).await.unwrap();
    }
    place.set_time(crate::place::START + 4);
    registry.delete_version(ANN, "m", 2).await.unwrap();
    let back = registry.rollback(ANN, "m").await.unwrap();
    assert_eq!((back.version, back.current_stage), (1, Stage::Production));
    assert_eq!(registry.version("m", 3).await.unwrap().current_stage, Stage::Archived);
}

async fn cards_show_what_was_measured(place: Place) {
    filled(&place).await;
    let card = place.registry.cards("m", &[1]).await.unwrap().remove(0);
    assert_eq!((card.metrics["loss"], card.params["p"].as_str(), card.size), (-1e-300, "ü", Some(5)));
    assert_eq!(place.registry.cards("m", &[]).await.unwrap().len(), 1);
    assert_eq!(place.registry.cards("m", &[7]).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_backup_of_a_newer_program_is_refused() {
    let place = Place::on(Ground::sqlite()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("registry.json"), r#"{"schema":99,"rows":0,"blobs":0,"bytes":0}"#).unwrap();
    let refused = place.registry.restore(folder.path()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
