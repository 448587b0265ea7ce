"""MLflow's tracking, driven by its own client: experiments, runs, searches and artifacts."""

import math
import random
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import (
    Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag, ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

BIGGEST = 1.7976931348623157e308


def fails(code, call, *args, **options):
    """The call raises, and the exception has the server's code."""
    with pytest.raises(MlflowException) as caught:
        call(*args, **options)
    codes = code if isinstance(code, tuple) else (code,)
    assert caught.value.error_code in codes, f"{caught.value.error_code}: {caught.value}"
    return caught.value


def pages(call, size, **options):
    """Every page of a search."""
    token = None
    while True:
        page = call(max_results=size, page_token=token, **options)
        yield list(page)
        token = page.token
        if not token:
            return


def dataset(name, digest, context=None):
    tags = [InputTag("mlflow.data.context", context)] if context else []
    return DatasetInput(Dataset(name, digest, "local", f"/data/{name}", schema="{}", profile="{}"), tags)


@pytest.fixture(scope="module")
def experiment(client, tracking):
    """An experiment for the tests that only need some run."""
    return client.create_experiment(tracking.name("shared"))


@pytest.fixture
def run(client, experiment):
    return client.create_run(experiment).info.run_id


# Experiments


def test_the_default_experiment_is_there_from_the_start(client):
    default = client.get_experiment("0")
    assert (default.name, default.lifecycle_stage) == ("Default", "active")


def test_an_experiment_is_what_was_created(client, tracking):
    name = tracking.name("Größe / 1")
    before = int(time.time() * 1000)
    made = client.create_experiment(name, tags={"team": "red"})
    got = client.get_experiment(made)
    assert (got.experiment_id, got.name, got.tags, got.lifecycle_stage) == (made, name, {"team": "red"}, "active")
    assert got.artifact_location == f"mlflow-artifacts:/{made}"
    assert abs(got.creation_time - before) < 60_000 and got.last_update_time >= got.creation_time
    assert dict(client.get_experiment_by_name(name)) == dict(got)
    assert client.get_experiment_by_name(tracking.name("never")) is None
    fails("RESOURCE_DOES_NOT_EXIST", client.get_experiment, "999999999")


def test_an_experiment_keeps_the_artifact_location_it_is_given(client, tracking):
    made = client.create_experiment(tracking.name("elsewhere"), artifact_location="s3://bucket/folder")
    assert client.get_experiment(made).artifact_location == "s3://bucket/folder"
    run = client.create_run(made)
    assert run.info.artifact_uri == f"s3://bucket/folder/{run.info.run_id}/artifacts"


def test_names_of_experiments_are_unique_among_the_deleted_too(client, tracking):
    name = tracking.name("once")
    made = client.create_experiment(name)
    fails("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)
    client.delete_experiment(made)
    fails("RESOURCE_ALREADY_EXISTS", client.create_experiment, name)


def test_an_experiment_can_be_renamed(client, tracking):
    old, new, other = (tracking.name("name") for _ in range(3))
    made = client.create_experiment(old)
    client.create_experiment(other)
    client.rename_experiment(made, new)
    assert client.get_experiment(made).name == new
    assert client.get_experiment_by_name(old) is None
    fails(("BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"), client.rename_experiment, made, other)
    assert client.create_experiment(old) != made


def test_runs_are_deleted_and_restored_with_their_experiment(client, tracking):
    made = client.create_experiment(tracking.name("doomed"))
    run = client.create_run(made).info.run_id
    client.delete_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "deleted"
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    fails("INVALID_PARAMETER_VALUE", client.create_run, made)
    client.restore_experiment(made)
    assert client.get_experiment(made).lifecycle_stage == "active"
    assert client.get_run(run).info.lifecycle_stage == "active"
    fails("RESOURCE_DOES_NOT_EXIST", client.delete_experiment, "999999999")


def test_tags_of_experiments_are_set_replaced_and_deleted(client, tracking):
    made = client.create_experiment(tracking.name("tagged"))
    client.set_experiment_tag(made, "a b", "1")
    client.set_experiment_tag(made, "ключ", "значение")
    client.set_experiment_tag(made, "a b", 2)
    assert client.get_experiment(made).tags == {"a b": "2", "ключ": "значение"}
    client.delete_experiment_tag(made, "a b")
    assert client.get_experiment(made).tags == {"ключ": "значение"}


@pytest.fixture(scope="module")
def experiments(client, tracking):
    """Three experiments by the last letter of their names, and the tag that only they have."""
    mark = tracking.name("mark")
    made = {}
    for letter, tags in {"a": {"team": "red"}, "B": {"team": "Red"}, "c": {}}.items():
        made[letter] = client.create_experiment(f"{mark}/{letter}", tags={"mark": mark, **tags})
        time.sleep(0.005)  # times of their own: the order is by milliseconds
    client.delete_experiment(client.create_experiment(f"{mark}/gone", tags={"mark": mark}))
    return mark, made


@pytest.mark.parametrize(
    "clause, expected",
    [
        ("name LIKE '%/a'", "a"), ("name LIKE '%/b'", ""), ("name ILIKE '%/b'", "B"), ("name LIKE '%/_'", "aBc"),
        ("attribute.name = '{mark}/a'", "a"), ("name != '{mark}/a'", "Bc"), ('name = "{mark}/c"', "c"),
        ("tags.team = 'red'", "a"), ("tag.team != 'red'", "B"), ("tags.team ILIKE 'RED'", "aB"),
        ("tags.`team` LIKE 'R%'", "B"), ('tags."team" = \'red\'', "a"),
        ("tags.team IS NULL", "c"), ("tags.team IS NOT NULL", "aB"), ("tags.team is not null", "aB"),
        ("creation_time > 0", "aBc"), ("creation_time <= 5", ""), ("last_update_time >= 5", "aBc"),
        ("experiment_id = '{b}'", "B"), ("experiment_id IN ('{a}', '{b}')", "aB"), ("experiment_id != '{a}'", "Bc"),
        ("name LIKE '%/a' and tags.team = 'red'", "a"), ("tags.team = 'red' AND name LIKE '%/B'", ""),
    ],
)
def test_experiments_are_found_by_filters(client, experiments, clause, expected):
    mark, made = experiments
    clause = clause.format(mark=mark, a=made["a"], b=made["B"])
    found = client.search_experiments(filter_string=f"tags.mark = '{mark}' AND {clause}", order_by=["creation_time"])
    assert "".join(e.name[-1] for e in found) == expected


@pytest.mark.parametrize(
    "order, expected",
    [
        (None, "cBa"), (["name"], "Bac"), (["name DESC"], "caB"), (["name ASC"], "Bac"), (["creation_time ASC"], "aBc"),
        (["last_update_time DESC"], "cBa"), (["experiment_id ASC"], "aBc"), (["experiment_id desc"], "cBa"),
    ],
)
def test_experiments_are_ordered(client, experiments, order, expected):
    mark, _ = experiments
    found = client.search_experiments(filter_string=f"tags.mark = '{mark}'", order_by=order)
    assert "".join(e.name[-1] for e in found) == expected


@pytest.mark.parametrize(
    "view, expected", [(ViewType.ACTIVE_ONLY, "aBc"), (ViewType.DELETED_ONLY, "e"), (ViewType.ALL, "aBce")]
)
def test_experiments_are_found_by_their_stage_of_life(client, experiments, view, expected):
    mark, _ = experiments
    found = client.search_experiments(view, filter_string=f"tags.mark = '{mark}'", order_by=["creation_time"])
    assert "".join(e.name[-1] for e in found) == expected


def test_experiments_come_in_pages(client, experiments):
    mark, _ = experiments
    got = list(pages(client.search_experiments, 2, filter_string=f"tags.mark = '{mark}'", order_by=["creation_time"]))
    assert ["".join(e.name[-1] for e in page) for page in got] == ["aB", "c"]


@pytest.mark.parametrize("clause", ["name = a", "color = 'red'", "name ** 'a'", "name = 'a' OR name = 'b'", "name > 'a'"])
def test_filters_of_experiments_that_mean_nothing_are_refused(client, clause):
    fails("INVALID_PARAMETER_VALUE", client.search_experiments, filter_string=clause)


# Runs


def test_a_run_is_what_was_created(client, experiment):
    made = client.create_run(experiment, start_time=1234, tags={"mlflow.user": "ann", "x": "1"}, run_name="first try")
    info = client.get_run(made.info.run_id).info
    assert len(info.run_id) == 32 and int(info.run_id, 16) >= 0 and info.run_id == info.run_id.lower()
    assert (info.run_name, info.user_id, info.status, info.lifecycle_stage) == ("first try", "ann", "RUNNING", "active")
    assert (info.start_time, info.end_time, info.experiment_id) == (1234, None, experiment)
    assert info.artifact_uri == f"mlflow-artifacts:/{experiment}/{info.run_id}/artifacts"
    tags = client.get_run(info.run_id).data.tags
    assert tags == {"mlflow.user": "ann", "x": "1", "mlflow.runName": "first try"}
    fails("RESOURCE_DOES_NOT_EXIST", client.get_run, "0" * 32)
    fails("RESOURCE_DOES_NOT_EXIST", client.create_run, "999999999")


def test_a_run_without_a_name_gets_one(client, experiment):
    made = client.create_run(experiment)
    assert made.info.run_name
    assert made.data.tags["mlflow.runName"] == made.info.run_name


def test_the_name_of_a_run_and_its_tag_are_one(client, experiment):
    by_tag = client.create_run(experiment, tags={"mlflow.runName": "by tag"})
    assert by_tag.info.run_name == "by tag"
    run = by_tag.info.run_id
    client.update_run(run, name="by update")
    assert client.get_run(run).info.run_name == "by update"
    assert client.get_run(run).data.tags["mlflow.runName"] == "by update"
    client.set_tag(run, "mlflow.runName", "by set_tag")
    assert client.get_run(run).info.run_name == "by set_tag"
    client.log_batch(run, tags=[RunTag("mlflow.runName", "by batch")])
    assert client.get_run(run).info.run_name == "by batch"


def test_a_run_ends(client, run):
    client.update_run(run, status="SCHEDULED")
    assert client.get_run(run).info.status == "SCHEDULED"
    client.set_terminated(run, "FAILED", end_time=99)
    assert (client.get_run(run).info.status, client.get_run(run).info.end_time) == ("FAILED", 99)
    client.set_terminated(run)
    got = client.get_run(run).info
    assert got.status == "FINISHED" and got.end_time > 99


def test_a_deleted_run_takes_nothing_until_it_is_restored(client, run):
    client.log_param(run, "kept", 1)
    client.delete_run(run)
    client.delete_run(run)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    for call, args in (
        (client.log_metric, ("m", 1.0)), (client.log_param, ("p", 1)), (client.set_tag, ("t", 1)), (client.delete_tag, ("t",)),
    ):
        fails("INVALID_PARAMETER_VALUE", call, run, *args)
    fails("INVALID_PARAMETER_VALUE", client.log_batch, run, params=[Param("q", "1")])
    fails("INVALID_PARAMETER_VALUE", client.update_run, run, status="FINISHED")
    client.restore_run(run)
    assert client.get_run(run).info.lifecycle_stage == "active"
    client.log_metric(run, "m", 1.0)
    assert client.get_run(run).data.params == {"kept": "1"}


def test_tags_of_runs_are_set_replaced_and_deleted(client, run):
    client.set_tag(run, "a/b c", "1")
    client.set_tag(run, "a/b c", 2.5)
    client.set_tag(run, "empty", "")
    client.set_tag(run, "text", "zwei\nZeilen \U0001f600")
    tags = client.get_run(run).data.tags
    assert (tags["a/b c"], tags["empty"], tags["text"]) == ("2.5", "", "zwei\nZeilen \U0001f600")
    client.delete_tag(run, "a/b c")
    assert "a/b c" not in client.get_run(run).data.tags
    fails("RESOURCE_DOES_NOT_EXIST", client.delete_tag, run, "a/b c")


# Metrics


def history(client, run, key):
    return [(m.timestamp, m.step, m.value) for m in client.get_metric_history(run, key)]


def test_a_metric_keeps_its_history(client, run):
    rows = [(10, 0, 0.5), (20, 1, 0.25), (30, 2, 0.125), (40, -3, 7.0)]
    for timestamp, step, value in reversed(rows):
        client.log_metric(run, "loss", value, timestamp=timestamp, step=step)
    assert history(client, run, "loss") == rows
    assert client.get_run(run).data.metrics == {"loss": 0.125}
    assert history(client, run, "never logged") == []


def test_the_same_metric_twice_is_stored_once(client, run):
    for _ in range(2):
        client.log_metric(run, "m", 1.5, timestamp=1, step=1)
        client.log_batch(run, metrics=[Metric("m", 1.5, 1, 1), Metric("m", 2.5, 1, 1), Metric("m", 2.5, 1, 1)])
    assert history(client, run, "m") == [(1, 1, 1.5), (1, 1, 2.5)]


@pytest.mark.parametrize(
    "rows, latest",
    [
        ([(1, 5, 1.0), (9, 2, 2.0)], 1.0),
        ([(5, 1, 1.0), (4, 1, 2.0)], 1.0),
        ([(1, 1, 3.0), (1, 1, 2.0)], 3.0),
        ([(1, -5, 1.0), (1, -9, 2.0)], 1.0),
        ([(1, 0, 1.0), (1, -1, 2.0)], 1.0),
    ],
    ids=["step first", "then time", "then value", "negative steps", "zero above minus one"],
)
def test_the_latest_metric_is_not_simply_the_last_written(client, run, rows, latest):
    for timestamp, step, value in rows:
        client.log_metric(run, "m", value, timestamp=timestamp, step=step)
    assert client.get_run(run).data.metrics["m"] == latest
    client.log_batch(run, metrics=[Metric("n", value, timestamp, step) for timestamp, step, value in rows])
    assert client.get_run(run).data.metrics["n"] == latest


def test_values_that_are_no_finite_numbers_come_back(client, run):
    client.log_metric(run, "nan", float("nan"), step=1)
    client.log_metric(run, "inf", float("inf"))
    client.log_metric(run, "minus", float("-inf"))
    client.log_metric(run, "tiny", 5e-324)
    client.log_metric(run, "exact", 0.1)
    client.log_batch(run, metrics=[Metric("nan in batch", math.nan, 1, 0), Metric("inf in batch", math.inf, 1, 0)])
    got = client.get_run(run).data.metrics
    assert math.isnan(got["nan"]) and math.isnan(got["nan in batch"])
    assert (got["inf"], got["minus"], got["inf in batch"]) == (BIGGEST, -BIGGEST, BIGGEST)
    assert (got["tiny"], got["exact"]) == (5e-324, 0.1)
    assert math.isnan(history(client, run, "nan")[0][2])


@pytest.mark.parametrize("key", ["a b", "a.b-c_d/e:f", "größe", "точность", "UPPER", "1"])
def test_keys_may_hold_what_mlflow_allows(client, run, key):
    client.log_metric(run, key, 1.0, timestamp=1)
    client.log_param(run, key, "v")
    client.set_tag(run, key, "t")
    got = client.get_run(run).data
    assert (got.metrics[key], got.params[key], got.tags[key]) == (1.0, "v", "t")
    assert history(client, run, key) == [(1, 0, 1.0)]


def test_a_long_history_comes_whole(client, run):
    for start in range(0, 3000, 1000):
        client.log_batch(run, metrics=[Metric("m", float(i), i, i) for i in range(start, start + 1000)])
    assert history(client, run, "m") == [(i, i, float(i)) for i in range(3000)]
    assert client.get_run(run).data.metrics["m"] == 2999.0


# Params and batches


def test_params_never_change(client, run):
    client.log_param(run, "p", 1)
    client.log_param(run, "p", 1)
    client.log_param(run, "empty", "")
    fails("INVALID_PARAMETER_VALUE", client.log_param, run, "p", 2)
    assert client.get_run(run).data.params == {"p": "1", "empty": ""}


def test_a_batch_with_a_conflict_stores_nothing(client, run):
    client.log_param(run, "p", "old")
    before = client.get_run(run).data.to_dictionary()
    batch = {
        "metrics": [Metric("m", 1.0, 1, 0)], "params": [Param("q", "1"), Param("p", "new")], "tags": [RunTag("t", "1")],
    }
    fails("INVALID_PARAMETER_VALUE", client.log_batch, run, **batch)
    assert client.get_run(run).data.to_dictionary() == before
    fails("INVALID_PARAMETER_VALUE", client.log_batch, run, params=[Param("twice", "1"), Param("twice", "2")])
    assert client.get_run(run).data.to_dictionary() == before


def test_a_batch_stores_all_kinds_at_once(client, run):
    client.log_batch(
        run,
        metrics=[Metric(f"m{i}", float(i), 1, 0) for i in range(800)],
        params=[Param(f"p{i}", str(i)) for i in range(100)],
        tags=[RunTag(f"t{i}", str(i)) for i in range(100)],
    )
    data = client.get_run(run).data
    assert data.metrics == {f"m{i}": float(i) for i in range(800)}
    assert data.params == {f"p{i}": str(i) for i in range(100)}
    assert {k: v for k, v in data.tags.items() if k.startswith("t")} == {f"t{i}": str(i) for i in range(100)}
    client.log_batch(run)


def test_many_writers_of_one_run_lose_nothing(client, run):
    operations = [mlflow.log_metric(f"m{i % 4}", float(i), step=i, run_id=run, synchronous=False) for i in range(40)]
    for operation in operations:
        operation.wait()
    assert sum(len(history(client, run, f"m{i}")) for i in range(4)) == 40


# Inputs and outputs


def test_datasets_are_inputs_of_runs(client, experiment):
    first, second = (client.create_run(experiment).info.run_id for _ in range(2))
    client.log_inputs(first, [dataset("iris", "d1", "train"), dataset("wine", "d2")])
    client.log_inputs(first, [dataset("iris", "d1", "train")])
    client.log_inputs(second, [dataset("iris", "d1", "eval")])
    inputs = client.get_run(first).inputs.dataset_inputs
    got = {i.dataset.name: (i.dataset.digest, i.dataset.source_type, i.dataset.source, i.dataset.schema, i.dataset.profile)
           for i in inputs}
    assert len(inputs) == 2
    assert got == {"iris": ("d1", "local", "/data/iris", "{}", "{}"), "wine": ("d2", "local", "/data/wine", "{}", "{}")}
    tags = {i.dataset.name: [(t.key, t.value) for t in i.tags] for i in inputs}
    assert tags == {"iris": [("mlflow.data.context", "train")], "wine": []}
    (other,) = client.get_run(second).inputs.dataset_inputs
    assert [(t.key, t.value) for t in other.tags] == [("mlflow.data.context", "eval")]


def test_logged_models_are_inputs_and_outputs_of_runs(client, experiment):
    maker, user = (client.create_run(experiment).info.run_id for _ in range(2))
    model = client.create_logged_model(experiment, name="net", source_run_id=maker)
    client.log_outputs(maker, [LoggedModelOutput(model.model_id, step=3)])
    client.log_inputs(user, models=[LoggedModelInput(model.model_id)])
    (output,) = client.get_run(maker).outputs.model_outputs
    assert (output.model_id, output.step) == (model.model_id, 3)
    (used,) = client.get_run(user).inputs.model_inputs
    assert used.model_id == model.model_id


# Search of runs


@pytest.fixture(scope="module")
def zoo(client, tracking):
    """Four runs named a, b, c, d."""
    experiment = client.create_experiment(tracking.name("zoo"))
    ids = {}

    def make(name, start, user, end=None, status=None, metrics=(), params=(), tags=()):
        run = client.create_run(experiment, start, {"mlflow.user": user, **dict(tags)}, name).info.run_id
        client.log_batch(run, [Metric(k, v, 1, 0) for k, v in dict(metrics).items()], [Param(k, v) for k, v in dict(params).items()])
        if end:
            client.set_terminated(run, status, end)
        ids[name] = run

    make("a", 1000, "ann", 1500, "FINISHED", {"acc": 0.9, "val loss": 0.1, "loss": 1.0}, {"alpha": "0.1", "kind": "Linear", "l r": "1"},
         {"team": "red", "a b": "x y", "note": "this AND that", "quote": "it's"})
    make("b", 2000, "bob", 2500, "FAILED", {"acc": 0.5, "val loss": 0.5, "loss": math.nan}, {"alpha": "0.2", "kind": "linear"},
         {"team": "blue"})
    make("c", 3000, "ann", None, None, {"acc": 0.7, "loss": math.inf}, {"alpha": "0.3", "kind": "tree_1"}, {"100%": "x"})
    make("d", 4000, "Dan", 5000, "KILLED")
    client.log_inputs(ids["a"], [dataset("iris", "d1", "train")])
    client.log_inputs(ids["b"], [dataset("wine", "d2", "eval")])
    return experiment, ids


def names(found):
    return "".join(run.info.run_name for run in found)


FILTERS = [
    ("", "abcd"),
    ("metrics.acc = 0.9", "a"), ("metrics.acc != 0.9", "bc"), ("metric.acc > 0.5", "ac"), ("metrics.acc >= 0.5", "abc"),
    ("metrics.acc < 0.7", "b"), ("metrics.acc <= 0.7", "bc"), ("metrics.acc > -1", "abc"), ("metrics.acc > 5e-1", "ac"),
    ("metrics.`val loss` < 0.3", "a"), ('metrics."val loss" >= 0.5', "b"), ("metrics.loss > 5", "c"), ("metrics.none > 0", ""),
    ("params.kind = 'Linear'", "a"), ('params.kind = "Linear"', "a"), ("param.kind != 'Linear'", "bc"),
    ("parameter.kind = 'linear'", "b"), ("parameters.kind = 'linear'", "b"),
    ("params.kind LIKE 'L%'", "a"), ("params.kind ILIKE 'L%'", "ab"), ("params.kind LIKE '_inear'", "ab"),
    ("params.kind LIKE 'inear'", ""), ("params.kind LIKE 'tree__'", "c"), ("params.`l r` = '1'", "a"), ('params."l r" = "1"', "a"),
    ("params.kind IS NULL", "d"), ("params.kind IS NOT NULL", "abc"), ("params.alpha = '0.1'", "a"),
    ("tags.team = 'red'", "a"), ("tag.team != 'red'", "b"), ("tags.team ILIKE 'RE%'", "a"), ("tags.team LIKE 'RE%'", ""),
    ("tags.team IS NULL", "cd"), ("tags.team IS NOT NULL", "ab"), ("tags.`a b` = 'x y'", "a"), ("tags.`100%` = 'x'", "c"),
    ("tags.note = 'this AND that'", "a"), ('tags.quote = "it\'s"', "a"),
    ("attributes.status = 'FINISHED'", "a"), ("status != 'FINISHED'", "bcd"), ("attr.status LIKE 'F%'", "ab"),
    ("attribute.status ILIKE 'run%'", "c"), ("run.status = 'KILLED'", "d"),
    ("run_name = 'a'", "a"), ("attributes.run_name ILIKE 'A'", "a"), ("attributes.`run name` = 'b'", "b"), ("run_name != 'a'", "bcd"),
    ("user_id = 'ann'", "ac"), ("attributes.user_id LIKE 'D%'", "d"), ("artifact_uri LIKE '%/artifacts'", "abcd"),
    ("run_id = '{a}'", "a"), ("run_id != '{a}'", "bcd"), ("attributes.run_id IN ('{a}', '{b}')", "ab"),
    ("run_id NOT IN ('{a}','{b}')", "cd"), ("run_id in ('{a}')", "a"), ("run_id LIKE '{a}%'", "a"),
    ("start_time >= 2000", "bcd"), ("attributes.created < 2000", "a"), ("start_time != 2000", "acd"), ("start_time = 2000", "b"),
    ("end_time > 0", "abd"), ("attributes.end_time <= 2500", "ab"),
    ("datasets.name = 'iris'", "a"), ("dataset.name LIKE 'w%'", "b"), ("datasets.name ILIKE 'I%'", "a"),
    ("datasets.digest IN ('d1', 'd2')", "ab"), ("dataset.digest = 'd2'", "b"), ("datasets.context = 'train'", "a"),
    ("datasets.context != 'train'", "b"), ("datasets.name NOT IN ('iris')", "b"),
    ("metrics.acc > 0.4 AND params.kind ILIKE 'linear' AND tags.team = 'blue'", "b"),
    ("metrics.acc > 0.4 and metrics.acc < 0.8", "bc"), ("params.alpha != '0.1' AND status = 'RUNNING'", "c"),
    ("  metrics.acc>0.4   AND metrics.acc<0.6 ", "b"), ("datasets.name = 'iris' AND datasets.context = 'eval'", ""),
    ("tags.team = 'red' AND tags.`a b` LIKE 'x%'", "a"),
]


@pytest.mark.parametrize("clause, expected", FILTERS)
def test_runs_are_found_by_filters(client, zoo, clause, expected):
    experiment, ids = zoo
    found = client.search_runs([experiment], clause.format(**ids), order_by=["start_time ASC"])
    assert names(found) == expected


@pytest.mark.parametrize(
    "clause",
    [
        "metrics.acc = 'high'", "params.kind > 'a'", "params.kind = Linear", "params.alpha = 0.1", "tags.team IN ('red')", "color = 'red'",
        "paint.x = 'red'", "metrics.acc LIKE '1'", "metrics.acc > 0 OR metrics.acc < 1", "(metrics.acc > 0)",
        "params.kind NOT LIKE 'L%'", "metrics.acc >", "= 1", "status IN ('FINISHED')", "start_time LIKE '1%'", "start_time = 'x'",
        "datasets.color = 'x'", "run_id IN ()", "tags.team = 'red", "nonsense", "status > 'A'",
    ],
)
def test_filters_of_runs_that_mean_nothing_are_refused(client, zoo, clause):
    fails("INVALID_PARAMETER_VALUE", client.search_runs, [zoo[0]], clause)


@pytest.mark.parametrize(
    "order, expected",
    [
        ([], "dcba"), (["start_time"], "abcd"), (["start_time ASC"], "abcd"), (["attributes.start_time DESC"], "dcba"),
        (["metrics.acc DESC"], "acbd"), (["metrics.acc"], "bcad"), (["metric.acc asc"], "bcad"),
        (["metrics.loss ASC"], "acbd"), (["metrics.loss DESC"], "cabd"), (["metrics.`val loss` DESC"], "badc"),
        (["params.alpha DESC"], "cbad"), (["param.kind ASC"], "abcd"), (["tags.team ASC"], "badc"), (["tags.team DESC"], "abdc"),
        (["attributes.run_name DESC"], "dcba"), (["run_name"], "abcd"), (["status ASC", "start_time DESC"], "badc"),
        (["user_id ASC", "metrics.acc ASC"], "dcab"), (["attribute.created DESC"], "dcba"),
    ],
)
def test_runs_are_ordered(client, zoo, order, expected):
    assert names(client.search_runs([zoo[0]], order_by=order)) == expected


def test_an_order_by_something_unknown_is_refused(client, zoo):
    fails("INVALID_PARAMETER_VALUE", client.search_runs, [zoo[0]], order_by=["color"])
    fails("INVALID_PARAMETER_VALUE", client.search_runs, [zoo[0]], order_by=["start_time SIDEWAYS"])


def test_runs_are_searched_in_many_experiments_by_pages(client, tracking):
    experiments = [client.create_experiment(tracking.name("paged")) for _ in range(2)]
    made = [client.create_run(experiments[i % 2], start_time=i + 1).info.run_id for i in range(7)]
    got = list(pages(lambda **o: client.search_runs(experiments, **o), 3))
    assert [len(page) for page in got] == [3, 3, 1]
    assert [run.info.run_id for page in got for run in page] == made[::-1]
    assert [r.info.run_id for r in client.search_runs(experiments[:1], order_by=["start_time"])] == made[::2]
    assert client.search_runs([], max_results=5) == []


def test_equal_runs_have_one_order_on_all_pages(client, tracking):
    experiment = client.create_experiment(tracking.name("equal"))
    made = {client.create_run(experiment, start_time=5).info.run_id for _ in range(6)}
    got = [run.info.run_id for page in pages(lambda **o: client.search_runs([experiment], **o), 1) for run in page]
    assert len(got) == 6 and set(got) == made
    assert got == [r.info.run_id for r in client.search_runs([experiment])]


def test_runs_are_found_by_their_stage_of_life(client, tracking):
    experiment = client.create_experiment(tracking.name("stages"))
    kept, gone = (client.create_run(experiment, start_time=i + 1).info.run_id for i in range(2))
    client.delete_run(gone)

    def found(view):
        return [r.info.run_id for r in client.search_runs([experiment], run_view_type=view, order_by=["start_time"])]

    assert found(ViewType.ACTIVE_ONLY) == [kept]
    assert found(ViewType.DELETED_ONLY) == [gone]
    assert found(ViewType.ALL) == [kept, gone]


# Artifacts


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nested")
    for name, data in {
        "top.txt": b"top", "empty.bin": b"", "a/one.txt": b"1", "a/b/c/deep.json": b"{}", "a/b/two.bin": bytes(range(256)),
        "with space/ünï 日本.txt": b"u",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_text_goes_up_and_comes_down(client, run, tmp_path):
    client.log_text(run, "Grüße", "notes/hello.txt")
    client.log_dict(run, {"a": [1, None]}, "data.json")
    assert mlflow.artifacts.load_text(f"runs:/{run}/notes/hello.txt") == "Grüße"
    assert mlflow.artifacts.load_dict(client.get_run(run).info.artifact_uri + "/data.json") == {"a": [1, None]}
    client.log_text(run, "new", "notes/hello.txt")
    path = client.download_artifacts(run, "notes/hello.txt", str(tmp_path))
    assert open(path).read() == "new"


def test_a_directory_goes_up_and_comes_down_whole(client, run, nested, tmp_path):
    client.log_artifacts(run, str(nested), "in/side")
    client.log_artifact(run, str(nested / "top.txt"))
    top = {f.path: (f.is_dir, f.file_size) for f in client.list_artifacts(run)}
    assert top == {"in": (True, None), "top.txt": (False, 3)}
    # MLflow leaves the size of an empty file out.
    inside = {f.path: (f.is_dir, None if f.is_dir else f.file_size or 0) for f in client.list_artifacts(run, "in/side")}
    assert inside == {
        "in/side/a": (True, None), "in/side/with space": (True, None), "in/side/top.txt": (False, 3), "in/side/empty.bin": (False, 0),
    }
    assert [f.path for f in client.list_artifacts(run, "in/side/with space")] == ["in/side/with space/ünï 日本.txt"]
    for folder in ("some", "all"):
        (tmp_path / folder).mkdir()
    some = client.download_artifacts(run, "in/side", str(tmp_path / "some"))
    assert files(Path(some)) == files(nested)
    whole = client.download_artifacts(run, "", str(tmp_path / "all"))
    assert files(Path(whole)).keys() == {"top.txt"} | {f"in/side/{name}" for name in files(nested)}
    assert client.list_artifacts(run, "in/side/top.txt") == []
    assert client.list_artifacts(run, "nowhere") == []


@pytest.mark.parametrize(
    "name",
    ["with space.txt", "ünï-日本.txt", "100%.txt", "50%zz.txt", "a+b.txt", "semi;colon&.txt", "quote'.txt", ".hidden", "dots..txt",
     "x" * 200, "[b]{r}~@=,!$.txt"],
)
def test_names_of_artifacts_are_kept(client, run, tmp_path, name):
    (tmp_path / name).write_bytes(name.encode())
    client.log_artifact(run, str(tmp_path / name))
    client.log_artifact(run, str(tmp_path / name), "in a/sub folder")
    assert [f.path for f in client.list_artifacts(run) if not f.is_dir] == [name]
    assert [f.path for f in client.list_artifacts(run, "in a/sub folder")] == [f"in a/sub folder/{name}"]
    (tmp_path / "down").mkdir()
    for path in (name, f"in a/sub folder/{name}"):
        with open(client.download_artifacts(run, path, str(tmp_path / "down")), "rb") as file:
            assert file.read() == name.encode()


def test_names_that_look_encoded_are_found_again(client, run, tmp_path):
    """The client sends `%20` as it is in a path, but as `%2520` in a query: both mean one place."""
    (tmp_path / "a%20b.txt").write_bytes(b"x")
    client.log_artifact(run, str(tmp_path / "a%20b.txt"), "sub%20folder")
    assert [f.path for f in client.list_artifacts(run, "sub%20folder")] == ["sub%20folder/a b.txt"]
    assert [f.path for f in client.list_artifacts(run, "sub folder")] == ["sub folder/a b.txt"]
    (tmp_path / "down").mkdir()
    for path in ("sub%20folder/a%20b.txt", "sub folder/a b.txt"):
        with open(client.download_artifacts(run, path, str(tmp_path / "down")), "rb") as file:
            assert file.read() == b"x"


def test_artifacts_are_deleted(client, run):
    for path in ("keep.txt", "gone.txt", "folder/a.txt", "folder/sub/b.txt"):
        client.log_text(run, path, path)
    store = get_artifact_repository(client.get_run(run).info.artifact_uri)
    store.delete_artifacts("gone.txt")
    store.delete_artifacts("folder")
    store.delete_artifacts("never there")
    assert [f.path for f in client.list_artifacts(run)] == ["keep.txt"]
    assert client.list_artifacts(run, "folder") == []
    with pytest.raises(Exception):
        client.download_artifacts(run, "gone.txt")


def test_a_large_file_comes_back_as_it_went(client, tracking, run, tmp_path):
    data = random.Random(7).randbytes(20 * 1024 * 1024)
    (tmp_path / "large.bin").write_bytes(data)
    client.log_artifact(run, str(tmp_path / "large.bin"), "big")
    assert [(f.path, f.file_size) for f in client.list_artifacts(run, "big")] == [("big/large.bin", len(data))]
    (tmp_path / "down").mkdir()
    with open(client.download_artifacts(run, "big/large.bin", str(tmp_path / "down")), "rb") as file:
        assert file.read() == data
    path = client.get_run(run).info.artifact_uri.removeprefix("mlflow-artifacts:/") + "/big/large.bin"
    part = tracking.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}", headers={"Range": "bytes=1000000-1000009"})
    assert (part.status_code, part.content) == (206, data[1_000_000:1_000_010])
    assert part.headers["content-range"] == f"bytes 1000000-1000009/{len(data)}"


# The fluent calls


def test_a_training_script_of_fluent_calls(client, tracking, nested):
    name = tracking.name("fluent")
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="outer", tags={"a": "1"}) as outer:
        mlflow.log_params({"lr": 0.1, "depth": 3})
        mlflow.log_metrics({"acc": 0.5, "f1": 0.25}, step=1)
        for step in range(2, 5):
            mlflow.log_metric("acc", step / 10, step=step)
        mlflow.set_tags({"team": "red"})
        mlflow.log_text("hello", "hello.txt")
        mlflow.log_artifacts(str(nested), "files")
        with mlflow.start_run(nested=True, run_name="inner") as inner:
            mlflow.log_metric("acc", 1.0)
    with pytest.raises(ZeroDivisionError), mlflow.start_run(run_name="broken"):
        raise ZeroDivisionError
    with mlflow.start_run(run_id=outer.info.run_id):
        mlflow.log_metric("later", 1.0)
    got = mlflow.get_run(outer.info.run_id)
    assert got.info.status == "FINISHED" and got.info.end_time >= got.info.start_time
    assert got.data.params == {"lr": "0.1", "depth": "3"}
    assert got.data.metrics == {"acc": 0.4, "f1": 0.25, "later": 1.0}
    assert (got.data.tags["a"], got.data.tags["team"]) == ("1", "red")
    assert mlflow.get_run(inner.info.run_id).data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert [r.info.run_name for r in mlflow.search_runs([got.info.experiment_id], f"tags.mlflow.parentRunId = '{outer.info.run_id}'",
                                                        output_format="list")] == ["inner"]
    table = mlflow.search_runs(experiment_names=[name], order_by=["metrics.acc DESC"])
    assert list(table["tags.mlflow.runName"]) == ["inner", "outer", "broken"]
    assert list(table["status"]) == ["FINISHED", "FINISHED", "FAILED"]
    assert mlflow.last_active_run() is not None


def test_datasets_and_tables_of_the_fluent_calls(client, tracking):
    import pandas

    mlflow.set_experiment(tracking.name("data"))
    frame = pandas.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="frame", targets="y"), context="training")
        mlflow.log_table(frame, "table.json")
    (found,) = client.search_runs([run.info.experiment_id], "datasets.name = 'frame' AND datasets.context = 'training'")
    (used,) = found.inputs.dataset_inputs
    assert '"num_rows": 2' in used.dataset.profile and "mlflow_colspec" in used.dataset.schema
    assert mlflow.load_table("table.json", run_ids=[run.info.run_id])["y"].tolist() == ["a", "b"]


def test_metrics_of_a_dataset_and_a_model_keep_their_names(client, tracking, experiment):
    run = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, name="net", source_run_id=run)
    client.log_metric(run, "acc", 0.5, timestamp=1, step=2, model_id=model.model_id, dataset_name="iris", dataset_digest="d1")
    client.log_metric(run, "later", 0.25, timestamp=1, step=0)
    client.log_batch(run, metrics=[Metric("later", 0.25, 1, 0, model_id=model.model_id, run_id=run)])
    got = {m.key: (m.value, m.step, m.run_id, m.dataset_name) for m in client.get_logged_model(model.model_id).metrics}
    assert got == {"acc": (0.5, 2, run, "iris"), "later": (0.25, 0, run, None)}
    assert client.get_run(run).data.metrics == {"acc": 0.5, "later": 0.25}
    assert history(client, run, "later") == [(1, 0, 0.25)]


def test_a_missing_run_refuses_every_write(client):
    gone = "0" * 32
    for call, args in (
        (client.log_metric, ("m", 1.0)), (client.log_param, ("p", 1)), (client.set_tag, ("t", 1)), (client.delete_tag, ("t",)),
        (client.delete_run, ()), (client.restore_run, ()), (client.log_text, ("x", "x.txt")), (client.list_artifacts, ()),
    ):
        fails("RESOURCE_DOES_NOT_EXIST", call, gone, *args)
    fails("RESOURCE_DOES_NOT_EXIST", client.log_batch, gone, params=[Param("q", "1")])
    fails("RESOURCE_DOES_NOT_EXIST", client.update_run, gone, status="FINISHED")
    assert client.search_runs(["999999999"]) == []
