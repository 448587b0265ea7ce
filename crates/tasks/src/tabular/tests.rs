use proptest::prelude::*;
use salver_core::{CategoryEncoding, ColumnKind, ColumnSpec, DataType, Element, ErrorKind, Filling, UnknownCategory};

use super::*;

fn column(name: &str, kind: ColumnKind) -> ColumnSpec {
    ColumnSpec { name: name.to_owned(), kind, missing: None, input: None }
}

fn filled(name: &str, kind: ColumnKind, missing: Filling) -> ColumnSpec {
    ColumnSpec { missing: Some(missing), ..column(name, kind) }
}

fn into(input: &str, column: ColumnSpec) -> ColumnSpec {
    ColumnSpec { input: Some(input.to_owned()), ..column }
}

fn category(encoding: CategoryEncoding, unknown: Option<UnknownCategory>) -> ColumnKind {
    ColumnKind::Category { values: ["red", "green", "blue"].map(str::to_owned).to_vec(), encoding, unknown }
}

fn graph_of(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Signature {
    let batching = Batching::of(&inputs, &outputs);
    Signature { inputs, outputs, batching }
}

/// A graph of one table and one output.
fn graph(dtype: DataType, shape: &[i64]) -> Signature {
    graph_of(vec![TensorSpec::new("X", dtype, shape)], vec![TensorSpec::new("label", DataType::Int64, &[-1])])
}

fn task(columns: Vec<ColumnSpec>, graph: &Signature) -> Result<Arc<dyn Task>> {
    make(&TabularSpec { columns }, graph)
}

fn floats(name: &str, values: &[f64]) -> Tensor {
    Tensor::from_slice(name, [values.len()], values).unwrap()
}

fn ints(name: &str, values: &[i64]) -> Tensor {
    Tensor::from_slice(name, [values.len()], values).unwrap()
}

fn texts(name: &str, values: &[&str]) -> Tensor {
    Tensor::from_elements(name, [values.len()], values.iter().collect()).unwrap()
}

const WHOLE: PartLimits<'static> = PartLimits { max_rows: 1000, buckets: &[] };

/// Encodes into the only part.
fn encode(task: &Arc<dyn Task>, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let checked = task.signature().check("m", inputs)?;
    let mut encoded = task.encode(checked, WHOLE)?;
    assert_eq!(encoded.parts.len(), 1);
    Ok(encoded.parts.remove(0))
}

fn values<T: Element>(tensor: &Tensor) -> Vec<T> {
    tensor.to_vec().unwrap()
}

fn strings(tensor: &Tensor) -> Vec<String> {
    tensor.elements().unwrap().iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

#[track_caller]
fn check_make(columns: Vec<ColumnSpec>, graph: &Signature, expected: &str) {
    let error = task(columns, graph).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains(expected), "{error}");
}

#[track_caller]
fn check_encode(columns: Vec<ColumnSpec>, graph: &Signature, inputs: Vec<Tensor>, expected: &str) {
    let error = encode(&task(columns, graph).unwrap(), inputs).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains(expected), "{error}");
}

#[test]
fn columns_stand_side_by_side_in_their_order() {
    let columns = vec![
        filled("age", ColumnKind::Float, Filling::Number(38.5)),
        column("colour", category(CategoryEncoding::OneHot, Some(UnknownCategory::Zeros))),
        column("rooms", ColumnKind::Int),
        column("new", ColumnKind::Bool),
        column("size", category(CategoryEncoding::Index, Some(UnknownCategory::Index(-1)))),
    ];
    let task = task(columns, &graph(DataType::Fp32, &[-1, 7])).unwrap();
    let inputs = vec![
        floats("age", &[20.0, f64::NAN, 1.5]),
        texts("colour", &["green", "pink", "red"]),
        ints("rooms", &[3, 4, -5]),
        Tensor::from_slice("new", [3], &[true, false, true]).unwrap(),
        texts("size", &["blue", "red", "huge"]),
    ];
    let part = encode(&task, inputs).unwrap();
    assert_eq!((part.len(), &**part[0].name(), &part[0].shape()[..]), (1, "X", &[3, 7][..]));
    let expected: [f32; 21] = [
        20.0, 0.0, 1.0, 0.0, 3.0, 1.0, 2.0, //
        38.5, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, //
        1.5, 1.0, 0.0, 0.0, -5.0, 1.0, -1.0,
    ];
    assert_eq!(values::<f32>(&part[0]), expected);
}

#[test]
fn columns_go_into_their_own_inputs_as_skl2onnx_makes_them() {
    let inputs = vec![
        TensorSpec::new("age", DataType::Fp32, &[-1, 1]),
        TensorSpec::new("city", DataType::Bytes, &[-1, 1]),
        TensorSpec::new("n", DataType::Int64, &[-1]),
        TensorSpec::new("rest", DataType::Fp64, &[-1, 2]),
    ];
    let graph = graph_of(inputs, vec![TensorSpec::new("p", DataType::Fp32, &[-1, 2])]);
    let columns = vec![
        into("rest", column("b", ColumnKind::Float)),
        filled("city", ColumnKind::Text, Filling::Text("unknown".to_owned())),
        column("age", ColumnKind::Float),
        into("rest", column("a", ColumnKind::Bool)),
        filled("n", ColumnKind::Int, Filling::Number(-9.0)),
    ];
    let task = task(columns, &graph).unwrap();
    let shown: Vec<(&str, DataType, bool)> =
        task.signature().inputs.iter().map(|input| (&*input.name, input.dtype, input.optional)).collect();
    let expected = [
        ("b", DataType::Fp64, false),
        ("city", DataType::Bytes, true),
        ("age", DataType::Fp64, false),
        ("a", DataType::Bool, false),
        ("n", DataType::Fp64, true),
    ];
    assert_eq!(shown, expected);
    let part = encode(
        &task,
        vec![
            floats("b", &[0.5, 0.25]),
            texts("city", &["", "Rom"]),
            floats("age", &[1.0, 2.0]),
            Tensor::from_slice("a", [2], &[false, true]).unwrap(),
        ],
    )
    .unwrap();
    assert_eq!(values::<f32>(&part[0]), [1.0, 2.0]);
    assert_eq!((strings(&part[1]), &part[1].shape()[..]), (vec!["unknown".to_owned(), "Rom".to_owned()], &[2, 1][..]));
    assert_eq!((values::<i64>(&part[2]), &part[2].shape()[..]), (vec![-9, -9], &[2][..]));
    assert_eq!(values::<f64>(&part[3]), [0.5, 0.0, 0.25, 1.0]);
}

#[test]
fn texts_without_a_filling_are_not_copied() {
    let task = task(vec![column("t", ColumnKind::Text)], &graph(DataType::Bytes, &[-1, 1])).unwrap();
    let given = texts("t", &["a", "", "ü"]);
    let buffer = given.elements().unwrap().get(0).unwrap().as_ptr();
    let part = encode(&task, vec![given]).unwrap();
    assert_eq!(strings(&part[0]), ["a", "", "ü"]);
    assert_eq!(part[0].elements().unwrap().get(0).unwrap().as_ptr(), buffer);
}

#[test]
fn a_category_may_reach_the_graph_as_text() {
    let graph = graph(DataType::Bytes, &[-1, 2]);
    let passing = category(CategoryEncoding::Text, Some(UnknownCategory::Index(0)));
    let strict = category(CategoryEncoding::Text, None);
    let columns = || vec![filled("a", strict.clone(), Filling::Text("red".to_owned())), column("b", passing.clone())];
    let part = encode(&task(columns(), &graph).unwrap(), vec![texts("b", &["pink", "red"])]).unwrap();
    assert_eq!(strings(&part[0]), ["red", "pink", "red", "red"]);
    let inputs = vec![texts("a", &["red", "pink"]), texts("b", &["red", "red"])];
    check_encode(
        columns(),
        &graph,
        inputs,
        "row 1, 'a': 'pink' is no known category; expected one of 'red', 'green', 'blue'",
    );
}

#[test]
fn what_is_wrong_with_a_value_names_its_row_and_column() {
    let table = graph(DataType::Fp32, &[-1, 1]);
    let age = || vec![column("age", ColumnKind::Float)];
    check_encode(age(), &table, vec![floats("age", &[1.0, f64::NAN])], "row 1, 'age': the value is missing");
    check_encode(age(), &table, vec![floats("age", &[1e39])], "row 0, 'age': 1e39 does not fit into FP32");
    check_encode(age(), &table, vec![], "'age'");
    let rooms = || vec![filled("rooms", ColumnKind::Int, Filling::Number(0.0))];
    check_encode(rooms(), &table, vec![floats("rooms", &[1.0, 2.5])], "row 1, 'rooms': 2.5 is not a whole number");
    let flag = || vec![filled("flag", ColumnKind::Bool, Filling::Number(0.0))];
    check_encode(flag(), &table, vec![floats("flag", &[2.0])], "row 0, 'flag': expected true or false (1 or 0), got 2");
    let colour = || vec![column("colour", category(CategoryEncoding::Index, None))];
    check_encode(
        colour(),
        &table,
        vec![texts("colour", &["red", ""])],
        "row 1, 'colour': the value is missing or empty",
    );
    let small = graph(DataType::Int8, &[-1, 1]);
    let rooms = || vec![column("rooms", ColumnKind::Int)];
    check_encode(rooms(), &small, vec![ints("rooms", &[127, 128])], "row 1, 'rooms': 128 does not fit into INT8");
}

#[test]
fn messages_list_a_bounded_number_of_categories_and_characters() {
    let values: Vec<String> = (0..1000).map(|idx| format!("c{idx}")).collect();
    let kind = ColumnKind::Category { values, encoding: CategoryEncoding::Index, unknown: None };
    let task = task(vec![column("c", kind)], &graph(DataType::Int64, &[-1, 1])).unwrap();
    let error = encode(&task, vec![texts("c", &[&"\u{1b}x".repeat(10_000)])]).unwrap_err();
    assert!(error.message().ends_with("and 980 more") && error.message().len() < 1000, "{error}");
    assert!(!error.message().contains('\u{1b}'));
}

#[test]
fn what_does_not_fit_the_graph_is_found_when_the_task_is_made() {
    let table = graph(DataType::Fp32, &[-1, 3]);
    let float = |name: &str| column(name, ColumnKind::Float);
    check_make(vec![], &table, "there are no columns");
    check_make(vec![float("a"), float("a")], &table, "column 'a': names must not be empty, and each");
    check_make(
        vec![float("a"), column("b", category(CategoryEncoding::OneHot, None))],
        &table,
        "the graph's input 'X' (FP32 [-1, 3]) make 4 values for each row, but it takes 3: 'a', 'b' (3 values)",
    );
    check_make(
        vec![into("Y", float("a"))],
        &table,
        "column 'a': the graph has no input 'Y'; its inputs are 'X' (FP32 [-1, 3])",
    );
    check_make(vec![column("t", ColumnKind::Text)], &table, "column 't': a column of type text does not fit into");
    check_make(vec![float("a")], &graph(DataType::Int64, &[-1, 1]), "use type = \"int\"".trim_start_matches("use "));
    check_make(vec![column("n", ColumnKind::Int)], &graph(DataType::Bool, &[-1, 1]), "of type int does not fit");
    check_make(
        vec![column("c", category(CategoryEncoding::Text, None))],
        &table,
        "encoding = \"index\" or \"one-hot\"",
    );
    check_make(vec![float("a")], &graph(DataType::Fp32, &[-1, 3, 8]), "which is no table");
    check_make(vec![float("a")], &graph(DataType::Fp32, &[4, 1]), "takes only that many rows");
    let two = graph_of(
        vec![TensorSpec::new("x", DataType::Fp32, &[-1, 1]), TensorSpec::new("y", DataType::Fp32, &[-1, 1])],
        vec![],
    );
    check_make(vec![float("x")], &two, "no column goes into the graph's input 'y' (FP32 [-1, 1])");
    check_make(vec![float("x"), float("z")], &two, "column 'z': no input of the graph is called so");
    let odd = graph_of(
        vec![TensorSpec::new("X", DataType::Fp32, &[-1, 1])],
        vec![TensorSpec::new("mean", DataType::Fp32, &[])],
    );
    check_make(vec![float("a")], &odd, "output 'mean' has the shape []");
}

#[test]
fn fillings_and_unknown_categories_have_to_fit_too() {
    let table = graph(DataType::Fp32, &[-1, 1]);
    let whole = graph(DataType::Uint8, &[-1, 1]);
    let number = |value: f64| Filling::Number(value);
    let text = |text: &str| Filling::Text(text.to_owned());
    let index = |unknown: Option<i64>| category(CategoryEncoding::Index, unknown.map(UnknownCategory::Index));
    check_make(
        vec![filled("a", ColumnKind::Float, text("x"))],
        &table,
        "`missing` must be a number here, got the text 'x'",
    );
    check_make(
        vec![filled("a", ColumnKind::Int, number(0.5))],
        &table,
        "`missing` must be a value of the column's type",
    );
    check_make(vec![filled("a", ColumnKind::Int, number(300.0))], &whole, "`missing` is 300, which does not fit");
    check_make(vec![filled("a", ColumnKind::Int, number(f64::NAN))], &whole, "`missing` is NaN, which does not fit");
    check_make(vec![filled("a", ColumnKind::Bool, number(2.0))], &table, "`missing` must be a value");
    check_make(vec![filled("a", index(None), text("pink"))], &table, "missing: 'pink' is no known category");
    check_make(vec![column("a", index(Some(-1)))], &whole, "the index -1 does not fit into");
    check_make(
        vec![column("a", category(CategoryEncoding::OneHot, Some(UnknownCategory::Index(1))))],
        &table,
        "`unknown` must be \"zeros\"",
    );
    check_make(
        vec![column("a", category(CategoryEncoding::Index, Some(UnknownCategory::Zeros)))],
        &table,
        "`unknown` must be a number",
    );
    let one_hot = filled("a", category(CategoryEncoding::OneHot, None), number(0.0));
    check_make(vec![one_hot], &graph(DataType::Fp32, &[-1, 3]), "`missing` must be a category");
    // What people do with trees: NaN for what is missing.
    let nan = task(vec![filled("a", index(Some(-1)), number(f64::NAN))], &table).unwrap();
    let part = encode(&nan, vec![texts("a", &["", "blue", "pink"])]).unwrap();
    let numbers: Vec<f32> = values(&part[0]);
    assert!(numbers[0].is_nan() && numbers[1..] == [2.0, -1.0], "{numbers:?}");
}

#[test]
fn rows_are_cut_into_parts_and_come_back_in_order() {
    let outputs =
        vec![TensorSpec::new("label", DataType::Bytes, &[-1]), TensorSpec::new("p", DataType::Fp32, &[-1, 2])];
    let graph = graph_of(vec![TensorSpec::new("X", DataType::Fp32, &[-1, 1])], outputs);
    let task = task(vec![column("a", ColumnKind::Float)], &graph).unwrap();
    let limits = PartLimits { max_rows: 2, buckets: &[] };
    let encoded = task.encode(vec![floats("a", &[1.0, 2.0, 3.0, 4.0, 5.0])], limits).unwrap();
    let sizes: Vec<usize> = encoded.parts.iter().map(|part| part[0].rows()).collect();
    assert_eq!(sizes, [2, 2, 1]);
    let answer = |part: &Vec<Tensor>| {
        let rows: Vec<f32> = values(&part[0]);
        let labels: Elements = rows.iter().map(|value| format!("l{value}")).collect();
        let scores: Vec<f32> = rows.iter().flat_map(|&value| [value, -value]).collect();
        vec![
            Tensor::from_elements("label", [rows.len()], labels).unwrap(),
            Tensor::from_slice("p", [rows.len(), 2], &scores).unwrap(),
        ]
    };
    let answered = task.decode(encoded.parts.iter().map(answer).collect(), encoded.notes).unwrap();
    assert_eq!(strings(&answered[0]), ["l1", "l2", "l3", "l4", "l5"]);
    assert_eq!(values::<f32>(&answered[1]), [1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0, 5.0, -5.0]);
    let lost = task.decode(vec![answer(&encoded.parts[0])], Box::new(5usize)).unwrap_err();
    assert_eq!((lost.kind(), lost.message()), (ErrorKind::Engine, "output 'label' has shape [2], expected 5 rows"));
    let none = task.encode(vec![floats("a", &[])], limits).unwrap();
    assert!(none.parts.is_empty());
    let answered = task.decode(Vec::new(), none.notes).unwrap();
    assert_eq!((&answered[0].shape()[..], &answered[1].shape()[..]), (&[0][..], &[0, 2][..]));
}

#[test]
fn a_graph_of_one_row_gets_one_at_a_time() {
    let graph = graph_of(
        vec![TensorSpec::new("X", DataType::Fp32, &[1, 2])],
        vec![TensorSpec::new("y", DataType::Fp32, &[1, 1])],
    );
    let task = task(vec![column("a", ColumnKind::Float), column("b", ColumnKind::Int)], &graph).unwrap();
    assert_eq!(task.signature().outputs[0].wire_shape(), [-1, 1]);
    let encoded = task.encode(vec![floats("a", &[1.0, 2.0]), ints("b", &[3, 4])], WHOLE).unwrap();
    let rows: Vec<Vec<f32>> = encoded.parts.iter().map(|part| values(&part[0])).collect();
    assert_eq!(rows, [[1.0, 3.0], [2.0, 4.0]]);
    let answer = |part: &Vec<Tensor>| vec![Tensor::from_slice("y", [1, 1], &values::<f32>(&part[0])[..1]).unwrap()];
    let answered = task.decode(encoded.parts.iter().map(answer).collect(), encoded.notes).unwrap();
    assert_eq!((values::<f32>(&answered[0]), &answered[0].shape()[..]), (vec![1.0, 2.0], &[2, 1][..]));
}

#[test]
fn a_request_cannot_be_made_huge_by_wide_columns() {
    let values: Vec<String> = (0..100_000).map(|idx| format!("c{idx}")).collect();
    let kind =
        ColumnKind::Category { values, encoding: CategoryEncoding::OneHot, unknown: Some(UnknownCategory::Zeros) };
    let wide = task(vec![column("c", kind)], &graph(DataType::Fp32, &[-1, 100_000])).unwrap();
    let many = vec![""; 1000];
    let error = wide.encode(vec![texts("c", &many)], WHOLE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("1000 rows make more than 256 MiB of the model's input 'X'"), "{error}");
    assert!(!wide.is_quick(&[texts("c", &["c1"])]));
    let filling = filled("t", ColumnKind::Text, Filling::Text("x".repeat(1 << 20)));
    let long = task(vec![filling], &graph(DataType::Bytes, &[-1, 1])).unwrap();
    assert_eq!(long.encode(vec![texts("t", &many)], WHOLE).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn the_example_is_accepted() {
    let inputs = vec![TensorSpec::new("X", DataType::Fp32, &[-1, 6]), TensorSpec::new("t", DataType::Bytes, &[-1, 2])];
    let graph = graph_of(inputs, vec![]);
    let columns = vec![
        into("X", column("a", ColumnKind::Float)),
        into("X", filled("b", ColumnKind::Int, Filling::Number(f64::NAN))),
        into("X", column("c", ColumnKind::Bool)),
        into("X", column("d", category(CategoryEncoding::OneHot, None))),
        column("t", ColumnKind::Text),
        into("t", column("u", category(CategoryEncoding::Text, None))),
    ];
    let task = task(columns, &graph).unwrap();
    assert!(task.is_quick(&task.example()));
    let part = encode(&task, task.example()).unwrap();
    assert_eq!(values::<f32>(&part[0]), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(strings(&part[1]), ["text", "red"]);
}

#[test]
fn columns_that_are_all_left_out_make_one_row() {
    let task = task(vec![filled("a", ColumnKind::Float, Filling::Number(2.0))], &graph(DataType::Fp64, &[-1])).unwrap();
    assert_eq!(values::<f64>(&encode(&task, vec![]).unwrap()[0]), [2.0]);
}

/// What a column may be, and cells of it with what they become.
#[derive(Debug, Clone)]
enum Any {
    Float(Option<f64>),
    Int,
    OneHot,
    Index,
}

impl Any {
    fn spec(&self, name: &str) -> ColumnSpec {
        match self {
            Self::Float(None) => column(name, ColumnKind::Float),
            Self::Float(Some(missing)) => filled(name, ColumnKind::Float, Filling::Number(*missing)),
            Self::Int => column(name, ColumnKind::Int),
            Self::OneHot => column(name, category(CategoryEncoding::OneHot, Some(UnknownCategory::Zeros))),
            Self::Index => column(name, category(CategoryEncoding::Index, Some(UnknownCategory::Index(7)))),
        }
    }

    /// The column of `seeds`, and the values of each row in the graph.
    fn data(&self, name: &str, seeds: &[i16]) -> (Tensor, Vec<Vec<f64>>) {
        let names = ["red", "green", "blue", "none"];
        let text = |seed: i16| names[usize::from(seed.unsigned_abs()) % 4];
        let place = |seed: i16| usize::from(seed.unsigned_abs()) % 4;
        match self {
            Self::Float(missing) => {
                let is_missing = |seed: i16| missing.is_some() && seed % 3 == 0;
                let cell = |seed: i16| if is_missing(seed) { f64::NAN } else { f64::from(seed) / 4.0 };
                let wire: Vec<f64> = seeds.iter().map(|&seed| cell(seed)).collect();
                let made = |&value: &f64| vec![if value.is_nan() { missing.unwrap_or_default() } else { value }];
                (floats(name, &wire), wire.iter().map(made).collect())
            }
            Self::Int => {
                let wire: Vec<i64> = seeds.iter().map(|&seed| seed.into()).collect();
                (ints(name, &wire), seeds.iter().map(|&seed| vec![seed.into()]).collect())
            }
            Self::OneHot => {
                let wire: Vec<&str> = seeds.iter().map(|&seed| text(seed)).collect();
                let hot = |&seed: &i16| (0..3).map(|idx| f64::from(u8::from(idx == place(seed)))).collect();
                (texts(name, &wire), seeds.iter().map(hot).collect())
            }
            Self::Index => {
                let wire: Vec<&str> = seeds.iter().map(|&seed| text(seed)).collect();
                let index = |&seed: &i16| vec![[0.0, 1.0, 2.0, 7.0][place(seed)]];
                (texts(name, &wire), seeds.iter().map(index).collect())
            }
        }
    }
}

fn any_column() -> impl Strategy<Value = Any> {
    prop_oneof![
        Just(Any::Float(None)),
        (-9.0..9.0f64).prop_map(|missing| Any::Float(Some(missing))),
        Just(Any::Int),
        Just(Any::OneHot),
        Just(Any::Index)
    ]
}

proptest! {
    #[test]
    fn every_cell_lands_in_its_row_and_place(
        kinds in prop::collection::vec(any_column(), 1..6),
        seeds in prop::collection::vec(any::<i16>(), 1..40),
        max_rows in 1usize..50,
        shift in any::<i16>(),
    ) {
        let named: Vec<(String, &Any)> = kinds.iter().enumerate().map(|(idx, kind)| (format!("c{idx}"), kind)).collect();
        let specs: Vec<ColumnSpec> = named.iter().map(|(name, kind)| kind.spec(name)).collect();
        let mut inputs = Vec::new();
        let mut expected: Vec<Vec<f64>> = vec![Vec::new(); seeds.len()];
        for (idx, (name, kind)) in named.iter().enumerate() {
            let moved: Vec<i16> = seeds.iter().map(|seed| seed.wrapping_add(shift.wrapping_mul(idx as i16))).collect();
            let (tensor, rows) = kind.data(name, &moved);
            inputs.push(tensor);
            expected.iter_mut().zip(rows).for_each(|(row, cells)| row.extend(cells));
        }
        let width = i64::try_from(expected[0].len()).unwrap();
        for dtype in [DataType::Fp32, DataType::Fp64] {
            let task = task(specs.clone(), &graph(dtype, &[-1, width])).unwrap();
            let encoded = task.encode(inputs.clone(), PartLimits { max_rows, buckets: &[] }).unwrap();
            let mut cells: Vec<f64> = Vec::new();
            for part in &encoded.parts {
                prop_assert!(part[0].rows() <= max_rows);
                match dtype {
                    DataType::Fp32 => cells.extend(values::<f32>(&part[0]).into_iter().map(f64::from)),
                    _ => cells.extend(values::<f64>(&part[0])),
                }
            }
            let flat: Vec<f64> = expected.iter().flatten().copied().collect();
            prop_assert_eq!(cells.len(), flat.len());
            for (cell, expected) in cells.iter().zip(&flat) {
                prop_assert!((cell - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{} {}", cell, expected);
            }
        }
    }
}
