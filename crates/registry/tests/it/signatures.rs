//! What a version's files declare to take and give is known from its registration on.

use crate::place::{ANN, Place, elsewhere, of_run, path_of, put};

contract!(
    a_version_knows_what_its_files_declare,
    a_version_whose_files_cannot_be_read_is_registered_without_a_signature,
    a_signature_comes_back_from_a_backup,
);

const MLMODEL: &str = r#"{flavors: {onnx: {data: model.onnx}}, signature: {
    inputs: '[{"name": "X", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]',
    outputs: '[{"name": "label", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'}}"#;

fn iris() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/demo/iris/model.onnx")).unwrap()
}

/// Registers files as the next version of `iris`.
async fn version(place: &Place, files: &[(&str, &[u8])]) -> i64 {
    let run = place.run().await;
    for (path, bytes) in files {
        put(&place.registry, &path_of(&run, &format!("model/{path}")), bytes.to_vec()).await.unwrap();
    }
    place.registry.create_version(ANN, of_run("iris", &run, "model")).await.unwrap().version
}

async fn a_version_knows_what_its_files_declare(place: Place) {
    place.model("iris", 0).await;
    let graph = version(&place, &[("model.onnx", &iris()), ("note.txt", b"")]).await;
    let declared = version(&place, &[("MLmodel", MLMODEL.as_bytes()), ("model.onnx", &iris())]).await;
    let cards = place.registry.cards("iris", &[graph, declared]).await.unwrap();
    let shown = |idx: usize| {
        let signature = cards[idx].signature.as_ref().unwrap();
        let fields = signature.inputs.iter().chain(&signature.outputs);
        fields.map(|field| format!("{} {field}", field.name)).collect::<Vec<_>>()
    };
    assert_eq!(shown(0), ["X FP32[-1,4]", "probabilities FP32[-1,3]"]);
    assert_eq!(shown(1), ["X FP32[-1,4]", "label INT64[-1]"]);
    let difference = cards[0].difference(&cards[1]);
    let said: Vec<String> = difference.signature.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["removed output 'probabilities': FP32[-1,3]", "added output 'label': INT64[-1]"]);
    assert_eq!(cards[0].difference(&cards[0]).signature, Some(Vec::new()));
}

async fn a_version_whose_files_cannot_be_read_is_registered_without_a_signature(place: Place) {
    place.model("iris", 0).await;
    let damaged = version(&place, &[("model.onnx", &iris()[..100])]).await;
    let other = version(&place, &[("MLmodel", b"{flavors: [")]).await;
    let none = version(&place, &[]).await;
    let foreign = place.registry.create_version(ANN, elsewhere("iris")).await.unwrap().version;
    // The blob went: whoever registers hears nothing of it here.
    let run = place.run().await;
    let file = put(&place.registry, &path_of(&run, "gone/model.onnx"), [iris(), vec![8, 9]].concat()).await.unwrap();
    std::fs::remove_file(place.blob_file(&file.digest)).unwrap();
    let gone = place.registry.create_version(ANN, of_run("iris", &run, "gone")).await.unwrap().version;
    for version in [damaged, other, none, foreign, gone] {
        let (card, _, _) = place.registry.card("iris", version).await.unwrap();
        assert_eq!(card.signature, None, "version {version}");
        assert_eq!(card.difference(&card).signature, None);
    }
}

async fn a_signature_comes_back_from_a_backup(place: Place) {
    place.model("iris", 0).await;
    let version = version(&place, &[("model.onnx", &iris())]).await;
    let folder = tempfile::tempdir().unwrap();
    place.registry.backup(folder.path()).await.unwrap();
    let other = Place::sqlite().await;
    other.registry.restore(folder.path()).await.unwrap();
    let signatures =
        [&place, &other].map(|place| async { place.registry.card("iris", version).await.unwrap().0.signature });
    let [before, after] = signatures;
    let before = before.await;
    assert!(before.is_some());
    assert_eq!(before, after.await);
}
