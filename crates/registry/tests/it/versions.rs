//! Versions: numbers, stages, aliases, and what stays known of them.

use salver_core::ErrorKind;
use salver_registry::Transition;
use salver_registry::names::{Stage, VersionRef};
use salver_registry::types::ModelVersion;

use crate::consistency::check_consistency;
use crate::place::{ANN, Place, START, alone_in, elsewhere, into, numbers, tag};

contract!(
    numbers_are_never_used_again,
    a_stage_holds_who_was_put_there,
    of_two_promotions_at_once_exactly_one_wins,
    what_was_in_production_when_is_known,
    aliases_move_and_go,
    an_alias_is_never_seen_without_its_version,
    one_look_finds_what_is_in_production_and_what_is_named,
    a_new_name_keeps_everything,
    what_is_deleted_stays_in_the_log,
);

async fn numbers_are_never_used_again(place: Place) {
    let (registry, other) = (&place.registry, place.open_again().await.unwrap());
    place.model("iris", 0).await;
    let creating = (0..16).map(|idx| {
        let registry = if idx % 2 == 0 { registry.clone() } else { other.clone() };
        tokio::spawn(async move { registry.create_version(ANN, elsewhere("iris")).await.unwrap().version })
    });
    let made = futures::future::join_all(creating.collect::<Vec<_>>()).await;
    let mut made: Vec<i64> = made.into_iter().map(|version| version.unwrap()).collect();
    made.sort_unstable();
    assert_eq!(made, (1..=16).collect::<Vec<i64>>());

    for version in [16, 15, 3] {
        registry.delete_version(ANN, "iris", version).await.unwrap();
    }
    assert_eq!(registry.create_version(ANN, elsewhere("iris")).await.unwrap().version, 17);
    assert_eq!(other.version("iris", 16).await.unwrap_err().kind(), ErrorKind::NotFound);
    // A refused one takes no number.
    let nowhere = salver_registry::NewVersion { source: "/etc".to_owned(), ..elsewhere("iris") };
    assert_eq!(registry.create_version(ANN, nowhere).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(other.create_version(ANN, elsewhere("iris")).await.unwrap().version, 18);
    // Another model of the same name begins anew.
    registry.delete_model(ANN, "iris").await.unwrap();
    place.set_time(START + 1);
    place.model("iris", 1).await;
    assert_eq!(numbers(&registry.latest_versions("iris", &[]).await.unwrap()), [1]);
    check_consistency(&place.database().await, &place.blobs()).await;
}

async fn a_stage_holds_who_was_put_there(place: Place) {
    let registry = &place.registry;
    place.model("iris", 4).await;
    let latest = async |stages: &[Stage]| numbers(&registry.latest_versions("iris", stages).await.unwrap());
    registry.transition(ANN, "iris", 2, into(Stage::Production)).await.unwrap();
    registry.transition(ANN, "iris", 1, into(Stage::Production)).await.unwrap();
    assert_eq!(latest(&[Stage::Production]).await, [2]);
    assert_eq!(latest(&[Stage::None, Stage::Staging, Stage::Production]).await, [4, 2]);

    let moved = registry.transition(ANN, "iris", 3, alone_in(Stage::Production)).await.unwrap();
    assert_eq!(moved.current_stage, Stage::Production);
    assert_eq!(latest(&[Stage::Production]).await, [3]);
    assert_eq!(latest(&[Stage::Archived]).await, [2]);
    assert_eq!(registry.version("iris", 1).await.unwrap().current_stage, Stage::Archived);
    assert_eq!(registry.version("iris", 4).await.unwrap().current_stage, Stage::None);

    for stage in [Stage::None, Stage::Archived] {
        let refused = registry.transition(ANN, "iris", 3, alone_in(stage)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{stage}");
    }
    let missing = registry.transition(ANN, "iris", 9, alone_in(Stage::Production)).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(latest(&[Stage::Production]).await, [3]);
    check_consistency(&place.database().await, &place.blobs()).await;
}

async fn of_two_promotions_at_once_exactly_one_wins(place: Place) {
    let registries = [place.registry.clone(), place.open_again().await.unwrap()];
    place.model("iris", 3).await;
    place.registry.transition(ANN, "iris", 3, alone_in(Stage::Production)).await.unwrap();
    let mut current = 3;
    for round in 0..100 {
        let candidates: Vec<i64> = (1..=3).filter(|version| *version != current).collect();
        let promoting = candidates.iter().zip(registries.clone()).map(|(&version, registry)| {
            let to = Transition { replaces: Some(current), ..alone_in(Stage::Production) };
            tokio::spawn(async move { registry.transition(ANN, "iris", version, to).await })
        });
        let ended = futures::future::join_all(promoting.collect::<Vec<_>>()).await;
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        for (version, ended) in candidates.iter().zip(ended) {
            match ended.unwrap() {
                Ok(promoted) => winners.push(promoted.version),
                Err(error) => losers.push((*version, error)),
            }
        }
        let [winner] = winners[..] else { panic!("round {round}: {winners:?} were promoted, {losers:?} not") };
        assert_eq!(losers[0].1.kind(), ErrorKind::Conflict, "round {round}");
        assert!(losers[0].1.message().contains(&format!("version {winner} of 'iris'")), "{}", losers[0].1);
        assert_eq!(numbers(&registries[0].latest_versions("iris", &[Stage::Production]).await.unwrap()), [winner]);
        current = winner;
    }
    // Nobody was there: 0.
    place.model("empty", 1).await;
    let to = |replaces| Transition { replaces: Some(replaces), ..into(Stage::Staging) };
    assert_eq!(registries[0].transition(ANN, "empty", 1, to(1)).await.unwrap_err().kind(), ErrorKind::Conflict);
    registries[0].transition(ANN, "empty", 1, to(0)).await.unwrap();
    check_consistency(&place.database().await, &place.blobs()).await;
}

async fn what_was_in_production_when_is_known(place: Place) {
    let registry = &place.registry;
    place.model("iris", 4).await;
    let staged = async |time, version, to: Transition| {
        place.set_time(time);
        registry.transition("bob", "iris", version, to).await.unwrap();
    };
    staged(100, 1, into(Stage::Production)).await;
    staged(200, 2, into(Stage::Staging)).await;
    staged(300, 2, alone_in(Stage::Production)).await;
    staged(350, 2, alone_in(Stage::Production)).await; // It is there already.
    staged(400, 3, into(Stage::Production)).await;
    staged(500, 2, into(Stage::None)).await;
    staged(600, 1, into(Stage::Production)).await;
    place.set_time(700);
    registry.delete_version(ANN, "iris", 3).await.unwrap();
    place.set_time(800);
    registry.rename_model(ANN, "iris", "lily").await.unwrap();
    place.set_time(900);
    registry.delete_model(ANN, "lily").await.unwrap();

    for (at, production) in [
        (99, &[][..]),
        (100, &[1]),
        (299, &[1]),
        (300, &[2]),
        (399, &[2]),
        (400, &[3, 2]),
        (499, &[3, 2]),
        (500, &[3]),
        (600, &[1, 3]),
        (699, &[1, 3]),
        (700, &[1]),
        (899, &[1]),
        (900, &[]),
    ] {
        let then = registry.stage_times("lily", Stage::Production, Some(at)).await.unwrap();
        assert_eq!(then.iter().map(|time| time.version).collect::<Vec<_>>(), production, "at {at}");
    }
    let all = registry.stage_times("lily", Stage::Production, None).await.unwrap();
    let all: Vec<_> = all.iter().map(|time| (time.version, time.since, time.until, time.who.as_str())).collect();
    let until = Some;
    assert_eq!(
        all,
        [
            (1, 600, until(900), "bob"),
            (3, 400, until(700), "bob"),
            (2, 300, until(500), "bob"),
            (1, 100, until(300), "bob"),
        ]
    );
    let staging = registry.stage_times("lily", Stage::Staging, Some(250)).await.unwrap();
    assert_eq!(staging.iter().map(|time| time.version).collect::<Vec<_>>(), [2]);
}

async fn aliases_move_and_go(place: Place) {
    let registry = &place.registry;
    place.model("iris", 2).await;
    registry.set_alias(ANN, "iris", "champion", 1).await.unwrap();
    registry.set_alias(ANN, "iris", "champion", 2).await.unwrap();
    registry.set_alias(ANN, "iris", "first", 1).await.unwrap();
    let champion = registry.version_of_alias("iris", "champion").await.unwrap();
    assert_eq!((champion.version, champion.aliases), (2, vec!["champion".to_owned()]));
    for (alias, version, kind) in [
        ("champion", 3, ErrorKind::NotFound),
        ("latest", 1, ErrorKind::InvalidInput),
        ("v1", 1, ErrorKind::InvalidInput),
        ("a b", 1, ErrorKind::InvalidInput),
    ] {
        assert_eq!(registry.set_alias(ANN, "iris", alias, version).await.unwrap_err().kind(), kind, "{alias}");
    }
    registry.delete_version(ANN, "iris", 2).await.unwrap();
    let gone = registry.version_of_alias("iris", "champion").await.unwrap_err();
    assert_eq!(gone.message(), "Registered model alias champion not found.");
    registry.delete_alias(ANN, "iris", "first").await.unwrap();
    registry.delete_alias(ANN, "iris", "first").await.unwrap();
    assert!(registry.model("iris").await.unwrap().aliases.is_empty());
}

/// The alias is moved before the version that it leaves goes: whoever asks gets one of the two.
async fn an_alias_is_never_seen_without_its_version(place: Place) {
    let (registry, other) = (&place.registry, place.open_again().await.unwrap());
    place.model("iris", 1).await;
    registry.set_alias(ANN, "iris", "champion", 1).await.unwrap();
    let (tx, rx) = tokio::sync::watch::channel(());
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (other, rx) = (other.clone(), rx.clone());
            tokio::spawn(async move {
                while rx.has_changed().is_ok() {
                    other.version_of_alias("iris", "champion").await.unwrap();
                }
            })
        })
        .collect();
    for version in 1..100 {
        registry.create_version(ANN, elsewhere("iris")).await.unwrap();
        registry.set_alias(ANN, "iris", "champion", version + 1).await.unwrap();
        registry.delete_version(ANN, "iris", version).await.unwrap();
    }
    drop(tx);
    for reader in readers {
        reader.await.unwrap();
    }
}

async fn one_look_finds_what_is_in_production_and_what_is_named(place: Place) {
    let registry = &place.registry;
    for (name, n_versions) in [("iris", 4), ("rose", 3), ("bare", 0)] {
        place.model(name, n_versions).await;
    }
    for (name, version, stage) in [
        ("iris", 1, Stage::Production),
        ("iris", 2, Stage::Staging),
        ("iris", 3, Stage::Staging),
        ("rose", 2, Stage::Production),
    ] {
        registry.transition(ANN, name, version, into(stage)).await.unwrap();
    }
    for (name, alias, version) in
        [("iris", "best", 4), ("iris", "next", 4), ("rose", "production", 3), ("rose", "best", 1)]
    {
        registry.set_alias(ANN, name, alias, version).await.unwrap();
    }
    let asked = [
        "iris/2",
        "iris/staging",
        "iris/none",
        "iris@best",
        "iris@next",
        "iris/production",
        "rose@best",
        "rose/production",
        "rose@production",
        "rose/3",
        "iris/9",
        "rose/staging",
        "rose@next",
        "bare/1",
        "never/1",
        "never@best",
    ];
    let asked: Vec<VersionRef> = asked.iter().map(|text| text.parse().unwrap()).collect();
    let found = registry.to_serve(&asked).await.unwrap();
    let outline = |version: &ModelVersion| format!("{}/{}", version.name, version.version);
    assert_eq!(found.in_production.iter().map(outline).collect::<Vec<_>>(), ["iris/1", "rose/3"]);
    let named: Vec<String> = found
        .named
        .iter()
        .map(|named| match named {
            Ok(version) => outline(version),
            Err(error) => error.message().rsplit_once(": ").unwrap().1.to_owned(),
        })
        .collect();
    assert_eq!(
        named,
        [
            "iris/2",
            "iris/3",
            "iris/4",
            "iris/4",
            "iris/4",
            "iris/1",
            "rose/1",
            "rose/2",
            "rose/3",
            "rose/3",
            "registered model 'iris' has no version 9",
            "no version of registered model 'rose' is in Staging",
            "registered model 'rose' has no alias 'next'",
            "registered model 'bare' has no version 1",
            "there is no registered model 'never'",
            "there is no registered model 'never'",
        ]
    );
    // Whoever names a version gets its aliases and tags.
    for idx in [2, 3, 4] {
        assert_eq!(found.named[idx].as_ref().unwrap().aliases, ["best", "next"]);
    }
    assert_eq!(found.in_production[1].aliases, ["production"]);
    assert!(registry.to_serve(&[]).await.unwrap().named.is_empty());
    // A name of both kinds of database is that of its letters.
    let upper: VersionRef = "IRIS/1".parse().unwrap();
    assert_eq!(registry.to_serve(&[upper]).await.unwrap().named[0].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
}

async fn a_new_name_keeps_everything(place: Place) {
    let registry = &place.registry;
    registry.create_model(ANN, "iris", "flowers", &[tag("kind", "tree")]).await.unwrap();
    for _ in 0..2 {
        let new = salver_registry::NewVersion { tags: vec![tag("a", "b")], ..elsewhere("iris") };
        registry.create_version(ANN, new).await.unwrap();
    }
    registry.set_alias(ANN, "iris", "champion", 2).await.unwrap();
    registry.transition(ANN, "iris", 2, into(Stage::Production)).await.unwrap();
    place.model("taken", 0).await;
    let before = registry.model("iris").await.unwrap();

    let refused = registry.rename_model(ANN, "iris", "taken").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(registry.model("iris").await.unwrap(), before);

    place.set_time(START + 5);
    let mut after = registry.rename_model(ANN, "iris", "lily").await.unwrap();
    assert_eq!(after, registry.model("lily").await.unwrap());
    assert_eq!(registry.model("iris").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.version("lily", 1).await.unwrap().tags, [tag("a", "b")]);
    assert_eq!(registry.version_of_alias("lily", "champion").await.unwrap().version, 2);
    assert_eq!(registry.stage_times("lily", Stage::Production, Some(START + 9)).await.unwrap().len(), 1);
    assert!(registry.stage_times("iris", Stage::Production, None).await.unwrap().is_empty());
    assert_eq!(registry.create_version(ANN, elsewhere("lily")).await.unwrap().version, 3);
    // The old name is free, and what comes under it has nothing to do with the new one.
    place.model("iris", 1).await;
    assert_eq!(registry.version("lily", 1).await.unwrap().tags, [tag("a", "b")]);
    assert!(registry.version("iris", 1).await.unwrap().tags.is_empty());

    // But for the name and the time, nothing changed.
    "iris".clone_into(&mut after.name);
    after.last_updated_timestamp = before.last_updated_timestamp;
    for version in &mut after.latest_versions {
        "iris".clone_into(&mut version.name);
    }
    assert_eq!(after, before);
}

async fn what_is_deleted_stays_in_the_log(place: Place) {
    let registry = &place.registry;
    place.model("iris", 2).await;
    registry.set_alias(ANN, "iris", "champion", 1).await.unwrap();
    registry.transition("bob", "iris", 1, into(Stage::Production)).await.unwrap();
    let before = registry.history(Some("model/iris"), 100).await.unwrap();
    place.set_time(START + 7);
    registry.delete_model("eve", "iris").await.unwrap();

    let after = registry.history(Some("model/iris"), 100).await.unwrap();
    assert_eq!(after[1..], before);
    assert_eq!((after[0].what.as_str(), after[0].who.as_str(), after[0].time), ("model.delete", "eve", START + 7));
    let gone = after[0].before.as_ref().unwrap();
    assert_eq!(gone["aliases"][0]["version"], "1");
    let times = registry.stage_times("iris", Stage::Production, None).await.unwrap();
    assert_eq!((times[0].version, times[0].until), (1, Some(START + 7)));
    assert_eq!(times[0].who, "bob");
    check_consistency(&place.database().await, &place.blobs()).await;
}
