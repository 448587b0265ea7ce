//! Endpoints: what is served under a name of its own.

use super::*;

async fn set_alias(fixture: &Fixture, alias: &str, version: i64) {
    fixture.registry.set_alias("who", "iris", alias, version).await.unwrap();
}

#[track_caller]
fn labels(served: &Served, name: &str) -> Vec<String> {
    served.find(name).unwrap().labels.into_keys().collect()
}

#[tokio::test]
async fn an_endpoint_follows_its_alias_and_leaves_with_it() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&["next=models:/iris@challenger"]);
    following(&served, async {
        first_look(&served).await;
        assert_eq!(outline(&served), "next: models:/iris@challenger: there is no registered model 'iris'");
        let first = fixture.register("iris", &onnx("one")).await;
        let second = fixture.register("iris", &onnx("two")).await;
        let missing = "next: models:/iris@challenger: registered model 'iris' has no alias 'challenger'";
        shown(&served, |outline| outline == missing).await;
        assert_eq!(served.find("next").unwrap().versions.unwrap_err().kind(), ErrorKind::Gone);
        set_alias(&fixture, "challenger", first).await;
        shown(&served, |outline| outline == "next: 1").await;
        set_alias(&fixture, "challenger", second).await;
        shown(&served, |outline| outline == "next: 2").await;
        let spec = served.find("next").unwrap().versions.unwrap().remove(0);
        assert_eq!((&*spec.name, fs::read_to_string(&spec.artifact).unwrap().as_str()), ("next", "two"));
        fixture.registry.delete_alias("who", "iris", "challenger").await.unwrap();
        shown(&served, |outline| outline == missing).await;
        while fixture.folders() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        set_alias(&fixture, "challenger", second).await;
        shown(&served, |outline| outline == "next: 2").await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_follows_the_highest_version_of_its_stage() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&["next=iris/staging"]);
    for content in ["one", "two", "three"] {
        fixture.register("iris", &onnx(content)).await;
    }
    following(&served, async {
        first_look(&served).await;
        let missing = "next: models:/iris/Staging: no version of registered model 'iris' is in Staging";
        assert_eq!(outline(&served), missing);
        let beside = Transition { stage: Stage::Staging, archive_existing: false, replaces: None };
        for version in [2, 1] {
            fixture.registry.transition("who", "iris", version, beside).await.unwrap();
        }
        shown(&served, |outline| outline == "next: 2").await;
        fixture.put_into(Stage::Staging, "iris", 3).await;
        shown(&served, |outline| outline == "next: 3").await;
        fixture.promote("iris", 3).await;
        shown(&served, |outline| outline == format!("iris: 3; {missing}")).await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_of_a_models_name_takes_the_place_of_its_production() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&["iris=models:/iris/1", "rose=models:/iris/7"]);
    following(&served, async {
        for content in ["one", "two"] {
            fixture.put("iris", &onnx(content)).await;
        }
        fixture.put("rose", &onnx("three")).await;
        let missing = "rose: models:/iris/7: registered model 'iris' has no version 7";
        shown(&served, |outline| outline == format!("iris: 1; {missing}")).await;
        fixture.put("rose", &onnx("four")).await;
        fixture.put("tulip", &onnx("five")).await;
        shown(&served, |outline| outline == format!("iris: 1; {missing}; tulip: 1")).await;
        fixture.registry.delete_version("who", "iris", 1).await.unwrap();
        shown(&served, |outline| outline.starts_with("iris: models:/iris/1: registered model")).await;
    })
    .await;
}

#[tokio::test]
async fn names_that_share_a_version_share_its_files_and_each_has_its_labels() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&["a=iris@best", "b=iris/1", "c=iris/2"]);
    fixture.put("iris", &onnx("one")).await;
    fixture.register("iris", &onnx("two")).await;
    set_alias(&fixture, "best", 1).await;
    following(&served, async {
        first_look(&served).await;
        assert_eq!(outline(&served), "a: 1; b: 1; c: 2; iris: 1");
        let artifact = |name| served.find(name).unwrap().versions.unwrap()[0].artifact.clone();
        assert!(artifact("a") == artifact("b") && artifact("b") == artifact("iris"));
        assert_eq!(fixture.folders(), 2);
        assert_eq!(
            (labels(&served, "b"), labels(&served, "c")),
            (vec!["best".to_owned(), "production".to_owned()], vec![])
        );
        // The files stay while any name needs them.
        set_alias(&fixture, "best", 2).await;
        shown(&served, |outline| outline == "a: 2; b: 1; c: 2; iris: 1").await;
        let aside = Transition { stage: Stage::Archived, archive_existing: false, replaces: None };
        fixture.registry.transition("who", "iris", 1, aside).await.unwrap();
        shown(&served, |outline| outline == "a: 2; b: 1; c: 2").await;
        assert!(artifact("b").exists() && artifact("a") == artifact("c"));
        assert_eq!((labels(&served, "b"), labels(&served, "c")), (vec![], vec!["best".to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn a_version_that_serves_is_not_taken_away_by_one_that_cannot_be_served() {
    let fixture = Fixture::new().await;
    let served = fixture.served(&["next=iris@next"]);
    following(&served, async {
        let good = fixture.register("iris", &onnx("one")).await;
        let pickled = fixture.register("iris", &[("MLmodel", SKLEARN), ("model.pkl", "code")]).await;
        set_alias(&fixture, "next", good).await;
        shown(&served, |outline| outline == "next: 1").await;
        let artifact = served.find("next").unwrap().versions.unwrap()[0].artifact.clone();
        set_alias(&fixture, "next", pickled).await;
        let reason = shown(&served, |outline| outline != "next: 1").await;
        assert!(reason.starts_with("next: model 'iris': version 2: ") && reason.contains("skl2onnx"), "{reason}");
        assert_eq!(served.find("next").unwrap().versions.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(artifact.exists(), "it may have to be loaded again");
    })
    .await;
}

#[test]
fn endpoints_are_read_as_they_are_written() {
    for (text, expected) in [
        ("a=iris/2", "a=models:/iris/2"),
        ("a=models:/iris/PRODUCTION", "a=models:/iris/Production"),
        ("a=models:/two words@best", "a=models:/two words@best"),
        ("a=models:/x=y/1", "a=models:/x=y/1"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), expected);
    }
    for (text, part) in [
        ("iris", "expected NAME=MODEL"),
        ("=iris/1", "model name '' is empty"),
        ("a b=iris/1", "model name 'a b' may hold"),
        ("a=iris", "'iris': it names no version; expected models:/NAME/VERSION, models:/NAME/STAGE or"),
        ("a=", "must not be empty"),
    ] {
        let error = text.parse::<Endpoint>().unwrap_err();
        assert!(error.message().contains(part), "{text}: {error}");
    }
    let twice = ["a=iris/1", "b=iris/1", "a=iris/2"].map(|text| text.parse().unwrap());
    let error = Endpoint::check(&twice).unwrap_err();
    assert!(error.message().contains("'a' is to serve models:/iris/1 and models:/iris/2;"), "{error}");
    Endpoint::check(&twice[..2]).unwrap();
}
