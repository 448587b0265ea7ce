//! Two that change the same thing at the same moment: nothing of either is lost.

use salver_registry::{NewLoggedModel, RunChange};

use crate::place::{ANN, Place, elsewhere, tag};

contract!(
    changes_of_a_run_do_not_undo_each_other,
    each_registration_of_a_logged_model_is_noted,
    the_log_tells_of_each_step
);

async fn changes_of_a_run_do_not_undo_each_other(place: Place) {
    let (registry, other) = (&place.registry, place.open_again().await.unwrap());
    for round in 0..50 {
        let run = place.run().await.run_id;
        let end = RunChange { status: Some("FINISHED".to_owned()), end_time: Some(9), ..RunChange::default() };
        let name = RunChange { run_name: Some("named".to_owned()), ..RunChange::default() };
        let (ended, named) = tokio::join!(registry.update_run(ANN, &run, end), other.update_run(ANN, &run, name));
        ended.unwrap();
        named.unwrap();
        let info = registry.run(&run).await.unwrap().info;
        assert_eq!(
            (info.status.as_str(), info.run_name.as_str(), info.end_time),
            ("FINISHED", "named", Some(9)),
            "{round}"
        );
    }
}

async fn each_registration_of_a_logged_model_is_noted(place: Place) {
    let registries = [place.registry.clone(), place.open_again().await.unwrap()];
    place.model("iris", 0).await;
    place.model("lily", 0).await;
    for round in 0..20 {
        let new = NewLoggedModel { experiment_id: "0".to_owned(), ..NewLoggedModel::default() };
        let model_id = registries[0].create_logged_model(new).await.unwrap().info.model_id;
        let registering = ["iris", "lily"].into_iter().zip(&registries).map(|(name, registry)| {
            let mut new = elsewhere(name);
            new.source = format!("models:/{model_id}");
            new.model_id = Some(model_id.clone());
            registry.create_version(ANN, new)
        });
        for made in futures::future::join_all(registering).await {
            made.unwrap();
        }
        let tags = registries[0].logged_model(&model_id, false).await.unwrap().info.tags;
        let noted: serde_json::Value = serde_json::from_str(&tags[0].value).unwrap();
        assert_eq!(noted.as_array().unwrap().len(), 2, "round {round}: {noted}");
    }
}

/// Each entry begins where the one before it ended, whoever made it.
async fn the_log_tells_of_each_step(place: Place) {
    let (registry, other) = (&place.registry, place.open_again().await.unwrap());
    place.model("iris", 3).await;
    let change = async |registry: &salver_registry::Registry, from: i64| {
        for idx in 0..30 {
            let text = format!("{from} {idx}");
            registry.set_alias(ANN, "iris", "champion", 1 + (from + idx) % 3).await.unwrap();
            registry.describe_model(ANN, "iris", &text).await.unwrap();
            registry.set_model_tag(ANN, "iris", tag("a", &text)).await.unwrap();
            registry.rename_experiment(ANN, "0", &text).await.unwrap();
        }
    };
    tokio::join!(change(registry, 0), change(&other, 1));
    for (subject, what, n_entries) in [
        ("model/iris", "model.alias", 60),
        ("model/iris", "model.describe", 60),
        ("model/iris", "model.tag", 60),
        ("experiment/0", "experiment.rename", 60),
    ] {
        let mut entries = registry.history(Some(subject), 1_000).await.unwrap();
        entries.retain(|entry| entry.what == what);
        assert_eq!(entries.len(), n_entries, "{what}");
        for pair in entries.windows(2) {
            assert_eq!(pair[0].before, pair[1].after, "{what}: {pair:#?}");
        }
    }
}
