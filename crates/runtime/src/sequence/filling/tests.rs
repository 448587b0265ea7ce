//! What is added to the inputs of a request, and which settings do not fit a graph.

use salver_core::{Batching, SequenceStrategy};

use super::*;

fn graph() -> Signature {
    Signature {
        inputs: vec![
            TensorSpec::new("start", DataType::Fp32, &[-1, 1]),
            TensorSpec::new("x", DataType::Fp32, &[-1, 2]),
            TensorSpec::new("id", DataType::Bytes, &[-1]),
            TensorSpec::new("sum", DataType::Int64, &[-1, 2]),
        ],
        outputs: vec![
            TensorSpec::new("y", DataType::Fp32, &[-1, 2]),
            TensorSpec::new("new_sum", DataType::Int64, &[-1, 2]),
        ],
        batching: Batching::Rows { limit: None },
    }
}

fn config() -> SequenceBatching {
    let control = |input: &str, kind| SequenceControl { input: input.to_owned(), kind };
    SequenceBatching {
        strategy: SequenceStrategy::default(),
        max_idle: SequenceBatching::DEFAULT_IDLE,
        controls: vec![
            control("start", ControlKind::Start(FalseTrue::Fp32([-1.0, 2.0]))),
            control("id", ControlKind::CorrelationId(DataType::Bytes)),
        ],
        states: vec![SequenceState {
            input: "sum".to_owned(),
            output: "new_sum".to_owned(),
            dtype: DataType::Int64,
            dims: vec![Dim::Fixed(2)],
            initial: None,
        }],
    }
}

fn x() -> Tensor {
    Tensor::from_slice("x", [1, 2], &[5f32, 6.]).unwrap()
}

#[test]
fn controls_and_states_stand_where_the_graph_has_them() {
    let filling = Filling::new(&graph(), true, &config()).unwrap();
    let (id, place) = (SequenceId::Text("a".into()), Place { starts: true, ends: false });
    let filled = filling.fill(&[x()], Row { id: &id, place, is_ready: true }, None).unwrap();
    assert_eq!(filled.iter().map(|tensor| &**tensor.name()).collect::<Vec<_>>(), ["start", "x", "id", "sum"]);
    assert_eq!((filled[0].to_vec::<f32>().unwrap(), &**filled[0].shape()), (vec![2.0], &[1, 1][..]));
    assert_eq!(filled[2].elements().unwrap().get(0), Some(&b"a"[..]));
    assert_eq!(filled[3].to_vec::<i64>().unwrap(), [0, 0]);

    let kept = filling.keep(&[x(), Tensor::from_slice("new_sum", [1, 2], &[3i64, 4]).unwrap()]).unwrap();
    let empty = Row { id: &SequenceId::Number(0), place, is_ready: false };
    let filled = filling.fill(&[x()], empty, Some(&kept)).unwrap();
    assert_eq!(filled[0].to_vec::<f32>().unwrap(), [-1.0], "a row without a request starts nothing");
    assert_eq!(filled[3].to_vec::<i64>().unwrap(), [3, 4]);
}

#[test]
fn a_run_that_is_nobodys_has_all_its_rows_filled() {
    let filling = Filling::new(&graph(), true, &config()).unwrap();
    let x = Tensor::from_slice("x", [3, 2], &[0f32; 6]).unwrap();
    let filled = filling.fill_sample(&[x], 3).unwrap();
    assert!(filled.iter().all(|tensor| tensor.rows() == 3), "{filled:?}");
}

#[test]
fn an_initial_state_comes_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sum.bin");
    std::fs::write(&path, [7i64, 8].map(i64::to_le_bytes).concat()).unwrap();
    let mut config = config();
    let file = Some(("sum.bin".to_owned(), path.clone()));
    config.states[0].initial = Some(InitialState { name: "s".to_owned(), dims: vec![2], file });
    let filling = Filling::new(&graph(), true, &config).unwrap();
    assert_eq!(filling.states[0].initial.to_vec::<i64>().unwrap(), [7, 8]);
    std::fs::write(&path, [0; 15]).unwrap();
    let error = Filling::new(&graph(), true, &config).unwrap_err();
    assert_eq!(error.message(), "state 'sum': tensor 'sum': INT64 [1,2] takes 16 bytes, got 15");
}

#[track_caller]
fn check(change: impl FnOnce(&mut SequenceBatching), expected: &str) {
    let mut config = config();
    change(&mut config);
    assert_eq!(Filling::new(&graph(), true, &config).unwrap_err().message(), expected);
}

#[test]
fn settings_that_do_not_fit_the_graph_are_refused() {
    check(|config| config.controls[0].input = "q".to_owned(), "control_input 'q' is not an input of the graph");
    check(
        |config| config.controls[0].kind = ControlKind::Start(FalseTrue::Bool([false, true])),
        "control_input 'start' is declared as BOOL, but the graph has FP32",
    );
    check(
        |config| config.controls[0].input = "x".to_owned(),
        "control_input 'x' has shape [-1, 2] in the graph; expected one value for each row",
    );
    check(|config| config.states[0].output = "q".to_owned(), "state 'sum': 'q' is not an output of the graph");
    check(
        |config| config.states[0].dims = vec![Dim::Fixed(3)],
        "state 'sum': declared as INT64 [-1, 3] (batch dimension included), but 'sum' is INT64 [-1, 2] in the graph",
    );
}

#[test]
fn an_id_has_to_fit_its_input() {
    for (id, dtype, fits) in [
        (SequenceId::Number(u64::MAX), DataType::Uint64, true),
        (SequenceId::Number(u64::MAX), DataType::Int64, false),
        (SequenceId::Number(1 << 31), DataType::Int32, false),
        (SequenceId::Number(1 << 31), DataType::Uint32, true),
        (SequenceId::Number(12), DataType::Bytes, true),
        (SequenceId::Text("12".into()), DataType::Uint64, false),
    ] {
        assert_eq!(encode_id(&id, dtype).is_some(), fits, "{id} {dtype}");
    }
}
