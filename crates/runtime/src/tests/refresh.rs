//! One model that is read again, and files that must hold what they did.

use std::fs;

use salver_core::Checksum;

use super::*;

/// Waits until the index says this of the model.
async fn shows(fixture: &Fixture, name: &str, expected: &[(u64, ModelState)]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let index = fixture.runtime.index();
        let of_model = index.iter().filter(|status| status.name == name);
        let states: Vec<_> = of_model.filter_map(|status| Some((status.version?, status.state?))).collect();
        if states == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{index:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_refresh_follows_one_model_in_every_mode_and_leaves_the_others() {
    for control in [ControlMode::None, ControlMode::Explicit] {
        let options = RuntimeOptions { control, ..RuntimeOptions::default() };
        let fixture = Fixture::start(FakeEngine::new(), vec![version(1)], options).await;
        let name = |name| ModelName::new(name).unwrap();
        fixture.source.set("m", Ok(vec![version(2)]));
        fixture.source.set("n", Ok(vec![ModelSpec { name: name("n"), ..version(1) }]));
        fixture.runtime.refresh(name("m"));
        let before = if control == ControlMode::None { vec![(1, ModelState::Gone)] } else { vec![] };
        shows(&fixture, "m", &[before, vec![(2, ModelState::Ready)]].concat()).await;
        shows(&fixture, "n", &[]).await;
        fixture.source.remove("m");
        fixture.runtime.refresh(name("m"));
        shows(&fixture, "m", &[]).await;
        assert!(fixture.answer(&[0., 0.]).await.is_err());
    }
}

#[tokio::test]
async fn a_model_whose_version_was_taken_away_leaves_with_a_reason_and_comes_back() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let name = ModelName::new("m").unwrap();
    fixture.source.set("m", Err(Error::new(ErrorKind::Engine, "the disk says no")));
    fixture.runtime.refresh(name.clone());
    while fixture.runtime.index().iter().all(|status| status.version.is_some()) {
        tokio::task::yield_now().await;
    }
    fixture.answer(&[0., 0.]).await.expect("what cannot be read takes nothing away");
    fixture.source.set("m", Err(Error::new(ErrorKind::Gone, "nothing is in Staging")));
    fixture.runtime.refresh(name.clone());
    shows(&fixture, "m", &[(1, ModelState::Gone)]).await;
    let error = fixture.answer(&[0., 0.]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotReady && error.message().contains("nothing is in Staging"), "{error}");
    assert!(fixture.runtime.is_ready(), "nothing is wrong with the server");
    fixture.source.set("m", Ok(vec![version(1)]));
    fixture.runtime.refresh(name);
    shows(&fixture, "m", &[(1, ModelState::Ready)]).await;
    fixture.answer(&[0., 0.]).await.unwrap();
}

#[tokio::test]
async fn of_two_readings_the_later_one_counts() {
    let fixture = Fixture::serving(FakeEngine::new()).await;
    let entry = |number| ModelEntry {
        name: ModelName::new("m").unwrap(),
        labels: Default::default(),
        versions: Ok(vec![Arc::new(version(number))]),
    };
    fixture.runtime.lifecycle.apply(entry(3), Extent::Missing, 9).await.unwrap();
    fixture.runtime.lifecycle.apply(entry(2), Extent::Missing, 8).await.unwrap();
    fixture.runtime.lifecycle.forget("m", 8).await;
    assert!(fixture.runtime.lifecycle.serves("m", 3) && !fixture.runtime.lifecycle.serves("m", 2));
    fixture.runtime.lifecycle.forget("m", 10).await;
    assert!(!fixture.runtime.lifecycle.serves("m", 3));
}

#[tokio::test]
async fn a_file_that_lost_a_bit_never_reaches_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    // SHA-256 of "abc", from FIPS 180-2.
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let sha256 = std::array::from_fn(|idx| u8::from_str_radix(&text[2 * idx..2 * idx + 2], 16).unwrap());
    let with = |number| ModelSpec { checksums: vec![Checksum { path: path.clone(), sha256 }], ..version(number) };
    fs::write(&path, "abc").unwrap();
    let fixture = Fixture::start(FakeEngine::new(), vec![with(1)], RuntimeOptions::default()).await;
    shows(&fixture, "m", &[(1, ModelState::Ready)]).await;
    for bit in 0..24 {
        let mut bytes = *b"abc";
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        fixture.source.set("m", Ok(vec![ModelSpec { fingerprint: 100 + bit as u64, ..with(2) }]));
        fixture.runtime.sync().await.unwrap();
        shows(&fixture, "m", &[(1, ModelState::Ready), (2, ModelState::Failed)]).await;
        let index = fixture.runtime.index();
        assert!(index[1].reason.contains("is damaged") && index[1].reason.contains(text), "{index:?}");
        fixture.answer(&[0., 0.]).await.unwrap();
    }
}
