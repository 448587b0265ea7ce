//! `task` and its tables.

use std::path::PathBuf;

use salver_core::{
    CategoryEncoding, Colours, ColumnKind, ColumnSpec, Filling, Filter, ImageSpec, Overlong, Pooling, PoolingMode,
    Resize, ScoreRule, TaskSpec, TextSpec, TextTask, UnknownCategory,
};

use super::*;

#[track_caller]
fn task(text: &str) -> TaskSpec {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    let draft = manifest.task.expect("a task");
    draft.finish(vec!["a".to_owned()], |name| Ok(PathBuf::from(name))).unwrap_or_else(|error| panic!("{error}"))
}

fn text(task: TextTask) -> TextSpec {
    TextSpec {
        task,
        tokenizer: "tokenizer.json".into(),
        max_length: None,
        overlong: Overlong::Cut,
        pad_to: None,
        labels: vec!["a".to_owned()],
    }
}

#[track_caller]
fn columns(text: &str) -> Vec<ColumnSpec> {
    match task(text) {
        TaskSpec::Tabular(table) => table.columns,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_of_texts_is_read_with_its_table() {
    let expected = TextSpec {
        tokenizer: "t/tokenizer.json".into(),
        max_length: Some(256),
        overlong: Overlong::Refuse,
        pad_to: Some(128),
        ..text(TextTask::Classification { scores: ScoreRule::Sigmoid, top_k: Some(3) })
    };
    let read = task(
        "task = 'text-classification'\n[text]\ntokenizer = 't/tokenizer.json'\nmax_length = 256\noverlong = \
         'refuse'\npad_to = 128\nscores = 'sigmoid'\ntop_k = 3",
    );
    assert_eq!(read, TaskSpec::Text(expected));
    let pooling = Pooling { mode: PoolingMode::Last, normalize: true };
    let read = task("task = 'text-embedding'\n[text]\npooling = 'last'\nnormalize = true");
    assert_eq!(read, TaskSpec::Text(text(TextTask::Embedding(pooling))));
    let zero_shot = TextTask::ZeroShot {
        pooling: Pooling { mode: PoolingMode::Cls, normalize: false },
        template: "On {}?".to_owned(),
        scale: 20.0,
    };
    let read = task("task = 'zero-shot'\n[text]\npooling = 'cls'\nnormalize = false\ntemplate = 'On {}?'\nscale = 20");
    assert_eq!(read, TaskSpec::Text(text(zero_shot)));
}

#[test]
fn the_name_of_a_task_is_enough() {
    let pooling = |normalize| Pooling { mode: PoolingMode::Mean, normalize };
    for (name, expected) in [
        ("text-classification", TextTask::Classification { scores: ScoreRule::Softmax, top_k: None }),
        ("text-embedding", TextTask::Embedding(pooling(false))),
        ("token-classification", TextTask::TokenClassification),
        (
            "zero-shot",
            TextTask::ZeroShot { pooling: pooling(true), template: "This text is about {}.".to_owned(), scale: 100.0 },
        ),
    ] {
        assert_eq!(task(&format!("task = '{name}'")), TaskSpec::Text(text(expected)));
    }
    let image = task("task = 'image-classification'");
    assert_eq!(
        (image.name(), task("task = 'tabular'"), task("task = 'tensor'")),
        ("image-classification", TaskSpec::Rows, TaskSpec::Tensor)
    );
}

#[test]
fn a_task_of_pictures_is_read_with_its_table() {
    let read = task(
        "task = 'image-classification'\n[image]\nresize = 256\ncrop = [224, 200]\nfilter = 'bicubic'\ncolours = \
         'bgr'\nrescale = 0.5\nmean = [0.5, 1, 0]\nstd = [1, 2, 3]\ninvert = true\nscores = 'as-is'\ntop_k = 2",
    );
    let expected = ImageSpec {
        labels: vec!["a".to_owned()],
        scores: ScoreRule::AsIs,
        top_k: Some(2),
        resize: Some(Resize::Shortest(256)),
        crop: Some((224, 200)),
        filter: Filter::Bicubic,
        colours: Some(Colours::Bgr),
        rescale: Some(0.5),
        mean: vec![0.5, 1.0, 0.0],
        std: vec![1.0, 2.0, 3.0],
        invert: true,
    };
    assert_eq!(read, TaskSpec::Image(expected));
    for (size, expected) in
        [("[20, 30]\ncrop = 20", Resize::Exact { height: 20, width: 30 }), ("'keep'\ncrop = 8000", Resize::Keep)]
    {
        let TaskSpec::Image(image) = task(&format!("task = 'image-classification'\n[image]\nresize = {size}")) else {
            panic!("{size}");
        };
        assert_eq!(image.resize, Some(expected));
    }
}

#[test]
fn columns_are_read_with_what_stands_for_missing_and_unknown_values() {
    let read = columns(
        "[[column]]\nname = 'age'\ntype = 'float'\nmissing = 38\n[[column]]\nname = 'n'\ntype = 'int'\ninput = \
         'X'\n[[column]]\nname = 'on'\ntype = 'bool'\nmissing = true\n[[column]]\nname = 'note'\ntype = \
         'text'\nmissing = ''",
    );
    let column = |name: &str, kind, missing| ColumnSpec { name: name.to_owned(), kind, missing, input: None };
    let expected = [
        column("age", ColumnKind::Float, Some(Filling::Number(38.0))),
        ColumnSpec { input: Some("X".to_owned()), ..column("n", ColumnKind::Int, None) },
        column("on", ColumnKind::Bool, Some(Filling::Number(1.0))),
        column("note", ColumnKind::Text, Some(Filling::Text(String::new()))),
    ];
    assert_eq!(read, expected);
    for (rest, encoding, unknown) in [
        ("", CategoryEncoding::Index, None),
        ("unknown = -1", CategoryEncoding::Index, Some(UnknownCategory::Index(-1))),
        ("encoding = 'one-hot'\nunknown = 'zeros'", CategoryEncoding::OneHot, Some(UnknownCategory::Zeros)),
        ("encoding = 'text'\nunknown = 'pass'", CategoryEncoding::Text, Some(UnknownCategory::Index(-1))),
    ] {
        let start =
            "task = 'tabular'\n[[column]]\nname = 'c'\ntype = 'category'\ncategories = ['b', 'a']\nmissing = 'a'";
        let values = vec!["b".to_owned(), "a".to_owned()];
        let expected =
            column("c", ColumnKind::Category { values, encoding, unknown }, Some(Filling::Text("a".to_owned())));
        assert_eq!(columns(&format!("{start}\n{rest}")), [expected], "{rest}");
    }
    let nan = columns("[[column]]\nname = 'x'\ntype = 'int'\nmissing = nan");
    assert!(matches!(nan[0].missing, Some(Filling::Number(number)) if number.is_nan()));
}

#[test]
fn what_belongs_to_another_task_is_refused_with_its_line() {
    let texts = "text-classification, text-embedding, token-classification or zero-shot";
    let needs = "needs `task` at the top of the file, which says what it is for";
    for (text, expected) in [
        ("[text]\nmax_length = 4", format!("line 1: text: {needs}: {texts}")),
        ("[image]\ncrop = 4", format!("line 1: image: {needs}: image-classification")),
        (
            "task = 'text-embedding'\n[image]",
            "line 2: image: belongs to task image-classification, not to text-embedding; leave it out".to_owned(),
        ),
        (
            "task = 'image-classification'\n[text]",
            format!("line 2: text: belongs to task {texts}, not to image-classification; leave it out"),
        ),
        (
            "task = 'tensor'\n[[column]]\nname = 'a'\ntype = 'int'",
            "line 2: column: belongs to task tabular, not to tensor; leave it out".to_owned(),
        ),
        (
            "task = 'zero-shot'\n[[input]]\nname = 'X'\ncolumns = ['a']",
            "line 4: input.columns: belongs to task tabular, not to zero-shot; leave it out".to_owned(),
        ),
        (
            "task = 'text-embedding'\nlabels = ['a']",
            "line 2: labels: text-embedding has no classes; leave it out".to_owned(),
        ),
        (
            "[[column]]\nname = 'a'\ntype = 'int'\n[[input]]\nname = 'X'\ncolumns = ['a']",
            "line 6: input.columns: names columns, and so does [[column]]; keep one of the two".to_owned(),
        ),
    ] {
        check_error(text, ErrorKind::InvalidInput, &expected);
    }
}

#[test]
fn keys_of_another_task_of_texts_are_refused() {
    let all = ["text-classification", "text-embedding", "token-classification", "zero-shot"];
    for (key, of) in [
        ("scores = 'softmax'", &["text-classification"][..]),
        ("top_k = 1", &["text-classification"]),
        ("pooling = 'mean'", &["text-embedding", "zero-shot"]),
        ("normalize = true", &["text-embedding", "zero-shot"]),
        ("template = '{}'", &["zero-shot"]),
        ("scale = 1", &["zero-shot"]),
        ("max_length = 1", &all),
        ("pad_to = 1", &all),
    ] {
        for task in all {
            let read = parse(&format!("task = '{task}'\n[text]\n\n{key}"));
            let name = key.split(' ').next().unwrap();
            let expected =
                format!("line 4: text.{name}: belongs to task {}, not to {task}; leave it out", of.join(" and "));
            match read {
                Ok(_) => assert!(of.contains(&task), "{task}: {key}"),
                Err(error) => assert_eq!((of.contains(&task), error.message()), (false, expected.as_str())),
            }
        }
    }
}

#[test]
fn values_that_cannot_be_are_refused_with_line_and_key() {
    for (task, lines, expected) in [
        ("zero-shot", "[text]\ntokenizer = 3", "text.tokenizer: invalid type: integer `3`, expected a string"),
        ("zero-shot", "[text]\nmax_length = 0", "text.max_length must be from 1 to 16777216, got 0"),
        ("zero-shot", "[text]\npad_to = -1", "text.pad_to must be from 0 to 16777216, got -1"),
        ("zero-shot", "[text]\noverlong = 'drop'", "text.overlong: unknown variant `drop`, expected `cut` or `refuse`"),
        ("zero-shot", "[text]\npooling = 'min'", "text.pooling: unknown variant `min`, expected one of `mean`, "),
        ("zero-shot", "[text]\nlength = 3", "text: unknown field `length`, expected one of `tokenizer`, "),
        (
            "zero-shot",
            "[text]\ntemplate = 'about'",
            "text.template must hold {} once, where the label goes, got it 0 times in 'about'",
        ),
        (
            "zero-shot",
            "[text]\ntemplate = '{} or {}'",
            "text.template must hold {} once, where the label goes, got it 2",
        ),
        ("zero-shot", "[text]\nscale = 0", "text.scale must be a number above zero, got 0"),
        ("zero-shot", "[text]\nscale = inf", "text.scale must be a number above zero, got inf"),
        ("text-classification", "[text]\ntop_k = 0", "text.top_k must be from 1 to 1000000, got 0"),
        ("text-classification", "[text]\nscores = 'max'", "text.scores: unknown variant `max`, expected one of "),
        (
            "image-classification",
            "[image]\nresize = -1",
            "image.resize must be the shorter side, [height, width] (whole numbers from 1 to 8192) or \"keep\"",
        ),
        ("image-classification", "[image]\nresize = [2]", "image.resize must be the shorter side, "),
        ("image-classification", "[image]\nresize = 'fit'", "image.resize must be the shorter side, "),
        (
            "image-classification",
            "[image]\ncrop = [2, 0]",
            "image.crop must be a side or [height, width], whole numbers from 1 to 8192",
        ),
        (
            "image-classification",
            "[image]\nresize = 8\n# smaller\ncrop = 9",
            "image.crop must not be larger than resize (8 high, 8 wide), got 9 high, 9 wide",
        ),
        ("image-classification", "[image]\nmean = [1, 2]", "image.mean must be one or three numbers, got [1.0, 2.0]"),
        ("image-classification", "[image]\nstd = [0]", "image.std must be one or three numbers above zero, got [0.0]"),
        ("image-classification", "[image]\nstd = [nan]", "image.std must be one or three numbers above zero, got "),
        (
            "image-classification",
            "[image]\nmean = [1]\nstd = [1, 2, 3]",
            "image.std must have as many numbers as mean (1), got 3",
        ),
        (
            "image-classification",
            "[image]\ncolours = 'grey'\nmean = [1, 2, 3]",
            "image.mean must have one number where colours = \"grey\", got 3",
        ),
        ("image-classification", "[image]\nrescale = 0", "image.rescale must be a number above zero, got 0"),
        ("image-classification", "[image]\nfilter = 'box'", "image.filter: unknown variant `box`, expected one of "),
        ("image-classification", "[image]\ncolours = 'red'", "image.colours: unknown variant `red`, expected one of "),
        ("image-classification", "[image]\ntop_k = 0", "image.top_k must be from 1 to 1000000, got 0"),
    ] {
        check_last_line(&format!("task = '{task}'\n{lines}"), expected);
    }
}

#[track_caller]
fn check_last_line(text: &str, expected: &str) {
    let error = parse(text).expect_err(text);
    let line = text.lines().count();
    assert!(error.message().starts_with(&format!("line {line}: {expected}")), "{text:?}: {error}");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn columns_that_cannot_be_are_refused_with_line_and_key() {
    let category = "name = 'a'\ntype = 'category'\ncategories = ['r', 'g']";
    for (column, expected) in [
        (
            "name = 'b'\ntype = 'int'\n[[column]]\ntype = 'int'\nname = 'b'",
            "column.name must not be empty and not be given twice, got 'b'",
        ),
        ("type = 'int'\nname = ''", "column.name must not be empty and not be given twice, got ''"),
        ("name = 'a'\ntype = 'date'", "column.type: unknown variant `date`, expected one of `float`, `int`, "),
        (
            "name = 'a'\ntype = 'category'",
            "column.type: category needs categories beside it: the texts, in the order of training",
        ),
        ("name = 'a'\ncategories = []\ntype = 'category'", "column.type: category needs categories beside it"),
        (
            "name = 'a'\ntype = 'category'\ncategories = ['r', 'r']",
            "column.categories must not name a category twice, got 'r'",
        ),
        (
            "name = 'a'\ntype = 'float'\ncategories = ['r']",
            "column.categories: belongs to a column of type = \"category\" only; leave it out",
        ),
        ("name = 'a'\ntype = 'text'\nencoding = 'index'", "column.encoding: belongs to a column of type"),
        ("name = 'a'\ntype = 'int'\nunknown = 1", "column.unknown: belongs to a column of type"),
        ("name = 'a'\ntype = 'int'\ninput = ''", "column.input must be the name of an input of the graph, got ''"),
        ("name = 'a'\ntype = 'float'\nmissing = 'no'", "column.missing must be a number or nan, got 'no'"),
        ("name = 'a'\ntype = 'float'\nmissing = inf", "column.missing must be a number or nan, got inf"),
        ("name = 'a'\ntype = 'int'\nmissing = 1.5", "column.missing must be a whole number or nan, got 1.5"),
        ("name = 'a'\ntype = 'bool'\nmissing = 2", "column.missing must be true, false or nan, got 2"),
        ("name = 'a'\ntype = 'text'\nmissing = 2", "column.missing must be a text, got 2"),
        ("name = 'a'\ntype = 'int'\nmissing = [1]", "column.missing must be a number, true, false or a text"),
        (&format!("{category}\nmissing = 'b'"), "column.missing must be one of the column's categories, got 'b'"),
        (
            &format!("{category}\nunknown = 'zeros'"),
            "column.unknown must be a whole number where encoding = \"index\", got \"zeros\"",
        ),
        (
            &format!("{category}\nencoding = 'one-hot'\nunknown = -1"),
            "column.unknown must be \"zeros\" where encoding = \"one-hot\", got -1",
        ),
        (
            &format!("{category}\nencoding = 'text'\nunknown = -1"),
            "column.unknown must be \"pass\" where encoding = \"text\", got -1",
        ),
        (&format!("{category}\nunknown = 1.5"), "column.unknown must be a whole number, \"zeros\" or \"pass\""),
        (
            &format!("{category}\nencoding = 'hash'"),
            "column.encoding: unknown variant `hash`, expected one of `index`, ",
        ),
    ] {
        check_last_line(&format!("[[column]]\n{column}"), expected);
    }
    let error = parse("[[column]]\nname = 'a'").expect_err("no type");
    assert_eq!(error.message(), "line 1: column: missing field `type`");
}

#[test]
fn a_crop_needs_a_size_once_everything_is_known() {
    let draft = parse("task = 'image-classification'\n[image]\ncrop = 8").unwrap().task.unwrap();
    let error = draft.finish(Vec::new(), |_| panic!("no file")).unwrap_err();
    assert_eq!(error.message(), "image.crop: needs resize beside it: the size before the crop, or \"keep\"");
}
