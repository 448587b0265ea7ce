"""MLflow's model registry, driven by its own client: models, versions, stages, aliases, loading."""

import time

import mlflow
import numpy as np
import onnx
import onnxruntime
import pandas
import pytest
from mlflow.entities import LoggedModelStatus, Metric
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression
from test_mlflow_tracking import fails, pages

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def experiment(client, tracking):
    return client.create_experiment(tracking.name("registry"))


@pytest.fixture(scope="module")
def run(client, experiment):
    return client.create_run(experiment).info.run_id


@pytest.fixture
def model(client, tracking):
    return client.create_registered_model(tracking.name("model")).name


@pytest.fixture
def add(client, run, model):
    """add(): one more version of the model."""
    source = f"{client.get_run(run).info.artifact_uri}/model"
    return lambda **options: client.create_model_version(model, source, run, **options)


# Registered models


def test_a_model_is_what_was_created(client, tracking):
    name = tracking.name("Modèle 1.0_x")
    made = client.create_registered_model(name, {"team": "red", "n": 1}, "What it does")
    got = client.get_registered_model(name)
    assert (got.name, got.description, got.tags) == (name, "What it does", {"team": "red", "n": "1"})
    assert got.creation_timestamp == made.creation_timestamp and got.last_updated_timestamp >= got.creation_timestamp
    assert abs(got.creation_timestamp - time.time() * 1000) < 60_000
    assert (got.latest_versions, got.aliases) == ([], {})
    fails("RESOURCE_ALREADY_EXISTS", client.create_registered_model, name)
    fails("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, tracking.name("never"))


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "/", ":"])
def test_names_that_no_uri_could_hold_are_refused(client, name):
    fails("INVALID_PARAMETER_VALUE", client.create_registered_model, name)


def test_a_model_is_renamed_with_all_it_has(client, tracking, model, add):
    add(tags={"v": "1"})
    client.set_registered_model_alias(model, "champion", 1)
    client.set_registered_model_tag(model, "team", "red")
    other = client.create_registered_model(tracking.name("other")).name
    new = tracking.name("renamed")
    fails("RESOURCE_ALREADY_EXISTS", client.rename_registered_model, model, other)
    client.rename_registered_model(model, new)
    got = client.get_registered_model(new)
    assert (got.name, got.tags, {k: int(v) for k, v in got.aliases.items()}) == (new, {"team": "red"}, {"champion": 1})
    version = client.get_model_version(new, "1")
    assert (version.name, version.tags, list(version.aliases)) == (new, {"v": "1"}, ["champion"])
    fails("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, model)
    assert client.create_registered_model(model).latest_versions == []
    fails("RESOURCE_DOES_NOT_EXIST", client.rename_registered_model, tracking.name("never"), tracking.name("x"))


def test_the_description_of_a_model_changes(client, tracking, model):
    before = client.get_registered_model(model).last_updated_timestamp
    time.sleep(0.002)
    assert client.update_registered_model(model, "Neu").description == "Neu"
    got = client.get_registered_model(model)
    assert got.description == "Neu" and got.last_updated_timestamp > before
    fails("RESOURCE_DOES_NOT_EXIST", client.update_registered_model, tracking.name("never"), "x")


def test_a_deleted_model_frees_its_name_and_its_numbers(client, model, add):
    add(), add()
    client.set_registered_model_alias(model, "champion", 2)
    client.set_registered_model_tag(model, "team", "red")
    client.delete_registered_model(model)
    fails("RESOURCE_DOES_NOT_EXIST", client.get_registered_model, model)
    fails("RESOURCE_DOES_NOT_EXIST", client.get_model_version, model, "1")
    fails("RESOURCE_DOES_NOT_EXIST", client.delete_registered_model, model)
    assert client.search_model_versions(f"name = '{model}'") == []
    again = client.create_registered_model(model)
    assert (again.tags, again.aliases) == ({}, {})
    assert int(add().version) == 1


def test_tags_of_models_are_set_replaced_and_deleted(client, tracking, model):
    client.set_registered_model_tag(model, "a b", "1")
    client.set_registered_model_tag(model, "a b", 2)
    client.set_registered_model_tag(model, "ключ", "")
    assert client.get_registered_model(model).tags == {"a b": "2", "ключ": ""}
    client.delete_registered_model_tag(model, "a b")
    client.delete_registered_model_tag(model, "a b")
    assert client.get_registered_model(model).tags == {"ключ": ""}
    fails("RESOURCE_DOES_NOT_EXIST", client.set_registered_model_tag, tracking.name("never"), "k", "v")


# Aliases


def test_an_alias_names_one_version_and_moves(client, model, add):
    add(), add()
    client.set_registered_model_alias(model, "champion", "1")
    client.set_registered_model_alias(model, "чемпион-2", "1")
    assert int(client.get_model_version_by_alias(model, "champion").version) == 1
    client.set_registered_model_alias(model, "champion", "2")
    assert int(client.get_model_version_by_alias(model, "champion").version) == 2
    aliases = {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}
    assert aliases == {"champion": 2, "чемпион-2": 1}
    assert list(client.get_model_version(model, "2").aliases) == ["champion"]
    assert list(client.get_model_version(model, "1").aliases) == ["чемпион-2"]
    client.delete_registered_model_alias(model, "champion")
    client.delete_registered_model_alias(model, "champion")
    fails("INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, model, "champion")
    assert list(client.get_model_version(model, "2").aliases) == []


@pytest.mark.parametrize("alias", ["", "latest", "LATEST", "v1", "V22", "a b", "a.b", "a@b", "x" * 256])
def test_aliases_that_mean_something_else_are_refused(client, model, add, alias):
    add()
    fails("INVALID_PARAMETER_VALUE", client.set_registered_model_alias, model, alias, "1")


def test_an_alias_needs_its_version_and_its_model(client, tracking, model):
    fails("RESOURCE_DOES_NOT_EXIST", client.set_registered_model_alias, model, "a", "7")
    fails("RESOURCE_DOES_NOT_EXIST", client.set_registered_model_alias, tracking.name("never"), "a", "1")
    fails("RESOURCE_DOES_NOT_EXIST", client.get_model_version_by_alias, tracking.name("never"), "a")


def test_an_alias_goes_with_its_version(client, model, add):
    add(), add()
    client.set_registered_model_alias(model, "champion", "2")
    client.delete_model_version(model, "2")
    assert client.get_registered_model(model).aliases == {}
    fails("INVALID_PARAMETER_VALUE", client.get_model_version_by_alias, model, "champion")


# Search of models


@pytest.fixture(scope="module")
def shelf(client, tracking):
    """Three models by the last letter of their names."""
    mark = tracking.name("shelf")
    for letter, tags in {"a": {"team": "red"}, "B": {"team": "Red", "a b": "x"}, "c": {}}.items():
        client.create_registered_model(f"{mark}-{letter}", tags)
        time.sleep(0.005)  # the order is by milliseconds
    return mark


@pytest.mark.parametrize(
    "clause, expected",
    [
        ("name LIKE '{m}%'", "Bac"), ("name = '{m}-a'", "a"), ("name ILIKE '{m}-b'", "B"), ("name LIKE '{m}-b'", ""),
        ("name != '{m}-a' AND name LIKE '{m}%'", "Bc"), ("name IN ('{m}-a', '{m}-c')", "ac"),
        ("name LIKE '{m}%' AND tags.team = 'red'", "a"), ("name LIKE '{m}%' and tag.team ILIKE 'red'", "Ba"),
        ("name LIKE '{m}%' AND tags.team != 'red'", "B"), ("name LIKE '{m}%' AND tags.`a b` = 'x'", "B"),
        ("name LIKE '{m}%' AND tags.team = 'red' AND tags.`a b` = 'x'", ""),
    ],
)
def test_models_are_found_by_filters(client, shelf, clause, expected):
    found = client.search_registered_models(clause.format(m=shelf))
    assert "".join(m.name[-1] for m in found) == expected


@pytest.mark.parametrize(
    "order, expected",
    [
        (["name"], "Bac"), (["name DESC"], "caB"), (["timestamp"], "aBc"), (["last_updated_timestamp DESC"], "cBa"),
        (["timestamp desc", "name"], "cBa"),
    ],
)
def test_models_are_ordered(client, shelf, order, expected):
    found = client.search_registered_models(f"name LIKE '{shelf}%'", order_by=order)
    assert "".join(m.name[-1] for m in found) == expected


def test_models_come_in_pages(client, shelf):
    got = list(pages(client.search_registered_models, 2, filter_string=f"name LIKE '{shelf}%'"))
    assert ["".join(m.name[-1] for m in page) for page in got] == ["Ba", "c"]
    assert len(client.search_registered_models(max_results=1)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"filter_string": "name = a"}, {"filter_string": "color = 'red'"}, {"filter_string": "name > 'a'"},
        {"filter_string": "name = 'a' OR name = 'b'"}, {"order_by": ["creation_timestamp"]}, {"order_by": ["color"]},
        {"max_results": 1001},
    ],
    ids=str,
)
def test_searches_of_models_that_mean_nothing_are_refused(client, options):
    fails("INVALID_PARAMETER_VALUE", client.search_registered_models, **options)


def test_a_model_shows_its_latest_versions(client, model, add):
    for _ in range(3):
        add()
    client.transition_model_version_stage(model, "1", "Production")
    latest = {v.current_stage: int(v.version) for v in client.get_registered_model(model).latest_versions}
    assert latest == {"None": 3, "Production": 1}
    (found,) = client.search_registered_models(f"name = '{model}'")
    assert {v.current_stage: int(v.version) for v in found.latest_versions} == latest


# Versions


def test_a_version_is_what_was_created(client, tracking, model, run):
    source = f"{client.get_run(run).info.artifact_uri}/model"
    made = client.create_model_version(model, source, run, {"a": "1"}, "https://example.org/run", "First")
    got = client.get_model_version(model, made.version)
    assert (got.name, int(got.version), got.source, got.run_id) == (model, 1, source, run)
    assert (got.status, got.current_stage, got.tags, got.description) == ("READY", "None", {"a": "1"}, "First")
    assert got.run_link == "https://example.org/run"
    assert abs(got.creation_timestamp - time.time() * 1000) < 60_000
    fails("RESOURCE_DOES_NOT_EXIST", client.create_model_version, tracking.name("never"), source, run)
    fails("RESOURCE_DOES_NOT_EXIST", client.get_model_version, model, "2")


def test_numbers_of_versions_are_never_used_again(client, model, add):
    assert [int(add().version) for _ in range(3)] == [1, 2, 3]
    client.delete_model_version(model, "3")
    assert int(add().version) == 4
    for number in ("1", "2", "4"):
        client.delete_model_version(model, number)
    assert int(add().version) == 5
    fails("RESOURCE_DOES_NOT_EXIST", client.delete_model_version, model, "3")
    fails("RESOURCE_DOES_NOT_EXIST", client.get_model_version, model, "1")


def test_a_change_of_a_version_shows_in_its_times(client, model, add):
    add()
    changes = [
        lambda: client.update_model_version(model, "1", "Changed"),
        lambda: client.transition_model_version_stage(model, "1", "Staging"),
    ]
    for change in changes:
        before = client.get_model_version(model, "1").last_updated_timestamp
        time.sleep(0.002)
        change()
        after = client.get_model_version(model, "1").last_updated_timestamp
        assert after > before
    # MLflow moves the model's time for a stage, not for a description.
    assert client.get_registered_model(model).last_updated_timestamp >= after
    assert client.get_model_version(model, "1").description == "Changed"
    fails("RESOURCE_DOES_NOT_EXIST", client.update_model_version, model, "2", "x")


def test_tags_of_versions_are_set_replaced_and_deleted(client, model, add):
    add(), add()
    client.set_model_version_tag(model, "1", "a b", "1")
    client.set_model_version_tag(model, "1", "a b", 2)
    client.set_model_version_tag(model, "1", "long", "x" * 20_000)
    assert client.get_model_version(model, "1").tags == {"a b": "2", "long": "x" * 20_000}
    assert client.get_model_version(model, "2").tags == {}
    client.delete_model_version_tag(model, "1", "long")
    client.delete_model_version_tag(model, "1", "long")
    assert client.get_model_version(model, "1").tags == {"a b": "2"}
    fails("RESOURCE_DOES_NOT_EXIST", client.set_model_version_tag, model, "7", "k", "v")


def test_the_source_of_a_run_is_its_own_folder(client, tracking, model, experiment, run):
    client.log_text(run, "x", "folder/file.txt")
    version = client.create_model_version(model, f"runs:/{run}/folder", run)
    uri = client.get_model_version_download_uri(model, version.version)
    assert uri == f"runs:/{run}/folder" or uri == f"{client.get_run(run).info.artifact_uri}/folder"
    outside = f"mlflow-artifacts:/{experiment}/{'0' * 32}/artifacts/model"
    for source in (outside, "/etc/passwd", "file:///etc/passwd", f"runs:/{'0' * 32}/folder"):
        fails("INVALID_PARAMETER_VALUE", client.create_model_version, model, source, run)
    assert int(client.create_model_version(model, "s3://bucket/model").version) == 2


# Search of versions


@pytest.fixture(scope="module")
def stack(client, tracking, experiment):
    """Two models with three and one versions."""
    mark = tracking.name("stack")
    runs = [client.create_run(experiment) for _ in range(2)]
    for letter, tags, run in (("a", {"team": "red"}, 0), ("a", {"team": "blue"}, 1), ("a", {}, 0), ("b", {"team": "red"}, 1)):
        name = f"{mark}-{letter}"
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        time.sleep(0.005)
        client.create_model_version(name, f"{runs[run].info.artifact_uri}/model", runs[run].info.run_id, tags)
    return mark, [run.info.run_id for run in runs]


@pytest.mark.parametrize(
    "clause, expected",
    [
        ("name = '{m}-a'", "a3 a2 a1"), ("name LIKE '{m}%'", "b1 a3 a2 a1"), ("name ILIKE '{m}-B'", "b1"), ("name IN ('{m}-b')", "b1"),
        ("name LIKE '{m}%' AND name != '{m}-a'", "b1"), ("run_id = '{r}'", "a3 a1"), ("run_id IN ('{r}', '{s}')", "b1 a3 a2 a1"),
        ("source_path LIKE '%{s}%'", "b1 a2"), ("name LIKE '{m}%' AND tags.team = 'red'", "b1 a1"),
        ("name LIKE '{m}%' AND tag.team != 'red'", "a2"), ("name LIKE '{m}%' AND tags.team ILIKE 'R%'", "b1 a1"),
        ("name LIKE '{m}%' AND version_number > 1", "a3 a2"), ("name LIKE '{m}%' AND version_number = 1", "b1 a1"),
        ("name LIKE '{m}%' AND version_number <= 2 AND tags.team = 'blue'", "a2"), ("name = '{m}-z'", ""),
    ],
)
def test_versions_are_found_by_filters(client, stack, clause, expected):
    mark, runs = stack
    found = client.search_model_versions(clause.format(m=mark, r=runs[0], s=runs[1]))
    assert " ".join(f"{v.name[-1]}{v.version}" for v in found) == expected


@pytest.mark.parametrize(
    "order, expected",
    [
        (["name ASC", "version_number ASC"], "a1 a2 a3 b1"), (["version_number DESC", "name DESC"], "a3 a2 b1 a1"),
        (["creation_timestamp ASC"], "a1 a2 a3 b1"), (["last_updated_timestamp"], "a1 a2 a3 b1"), (["name DESC", "version_number"], "b1 a1 a2 a3"),
    ],
)
def test_versions_are_ordered(client, stack, order, expected):
    found = client.search_model_versions(f"name LIKE '{stack[0]}%'", order_by=order)
    assert " ".join(f"{v.name[-1]}{v.version}" for v in found) == expected


def test_versions_come_in_pages(client, stack):
    got = list(pages(client.search_model_versions, 3, filter_string=f"name LIKE '{stack[0]}%'"))
    assert [[f"{v.name[-1]}{v.version}" for v in page] for page in got] == [["b1", "a3", "a2"], ["a1"]]


@pytest.mark.parametrize(
    "options",
    [
        {"filter_string": "name = a"}, {"filter_string": "color = 'red'"}, {"filter_string": "version_number LIKE '1'"},
        {"filter_string": "name = 'a' OR name = 'b'"}, {"order_by": ["color"]}, {"max_results": -1}, {"max_results": 200_001},
    ],
    ids=str,
)
def test_searches_of_versions_that_mean_nothing_are_refused(client, options):
    fails("INVALID_PARAMETER_VALUE", client.search_model_versions, **options)


# Stages


def stages(client, model):
    return {int(v.version): v.current_stage for v in client.search_model_versions(f"name = '{model}'")}


@pytest.mark.parametrize("given, stored", [
    ("Production", "Production"), ("production", "Production"), ("STAGING", "Staging"), ("archived", "Archived"), ("none", "None"),
])
def test_stages_are_written_in_one_way(client, model, add, given, stored):
    add()
    assert client.transition_model_version_stage(model, "1", given).current_stage == stored
    assert client.get_model_version(model, "1").current_stage == stored


def test_archiving_moves_the_others_of_the_stage(client, model, add):
    for _ in range(4):
        add()
    for number in ("1", "2"):
        client.transition_model_version_stage(model, number, "Production")
    client.transition_model_version_stage(model, "3", "Staging")
    assert stages(client, model) == {1: "Production", 2: "Production", 3: "Staging", 4: "None"}
    client.transition_model_version_stage(model, "4", "production", archive_existing_versions=True)
    assert stages(client, model) == {1: "Archived", 2: "Archived", 3: "Staging", 4: "Production"}
    client.transition_model_version_stage(model, "4", "Production", archive_existing_versions=True)
    assert stages(client, model)[4] == "Production"


def test_stages_that_do_not_exist_are_refused(client, tracking, model, add):
    add()
    fails("INVALID_PARAMETER_VALUE", client.transition_model_version_stage, model, "1", "Live")
    fails("INVALID_PARAMETER_VALUE", client.get_latest_versions, model, ["Live"])
    fails("RESOURCE_DOES_NOT_EXIST", client.transition_model_version_stage, model, "9", "Production")
    fails("RESOURCE_DOES_NOT_EXIST", client.transition_model_version_stage, tracking.name("never"), "1", "Production")
    assert stages(client, model) == {1: "None"}


def test_latest_versions_are_by_stage(client, tracking, model, add):
    assert client.get_latest_versions(model) == []
    for _ in range(5):
        add()
    for number, stage in (("1", "Production"), ("2", "Production"), ("3", "Staging"), ("4", "Archived")):
        client.transition_model_version_stage(model, number, stage)

    def latest(*asked):
        return {v.current_stage: int(v.version) for v in client.get_latest_versions(model, list(asked) or None)}

    assert latest() == {"None": 5, "Production": 2, "Staging": 3, "Archived": 4}
    assert latest("Production") == latest("production") == {"Production": 2}
    for asked in (["Staging", "None"], ["None", "Staging"]):
        assert [v.current_stage for v in client.get_latest_versions(model, asked)] == asked
    client.delete_model_version(model, "3")
    assert latest("Staging") == {}
    fails("RESOURCE_DOES_NOT_EXIST", client.get_latest_versions, tracking.name("never"))


# Logged models


def test_a_logged_model_is_what_was_created(client, experiment, run):
    made = client.create_logged_model(experiment, "net", run, {"team": "red"}, {"depth": "3"}, "classifier")
    got = client.get_logged_model(made.model_id)
    assert got.model_id.startswith("m-") and len(got.model_id) == 34
    assert (got.name, got.source_run_id, got.model_type, got.experiment_id) == ("net", run, "classifier", experiment)
    assert (got.params, got.tags["team"], got.status) == ({"depth": "3"}, "red", LoggedModelStatus.PENDING)
    assert got.artifact_location == f"mlflow-artifacts:/{experiment}/models/{got.model_id}/artifacts"
    client.finalize_logged_model(got.model_id, LoggedModelStatus.READY)
    assert client.get_logged_model(got.model_id).status == LoggedModelStatus.READY
    client.finalize_logged_model(got.model_id, LoggedModelStatus.FAILED)
    assert client.get_logged_model(got.model_id).status == LoggedModelStatus.FAILED
    assert client.create_logged_model(experiment).name
    fails("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, "m-" + "0" * 32)
    fails("RESOURCE_DOES_NOT_EXIST", client.create_logged_model, "999999999")


def test_tags_and_params_of_logged_models_change(client, experiment):
    made = client.create_logged_model(experiment, "net").model_id
    client.set_logged_model_tags(made, {"a": "1", "b c": "2"})
    client.set_logged_model_tags(made, {"a": "3"})
    client.delete_logged_model_tag(made, "b c")
    client.log_model_params(made, {"depth": "3", "wide": "yes"})
    got = client.get_logged_model(made)
    assert {k: got.tags.get(k) for k in ("a", "b c")} == {"a": "3", "b c": None}
    assert got.params == {"depth": "3", "wide": "yes"}
    fails("RESOURCE_DOES_NOT_EXIST", client.delete_logged_model_tag, made, "b c")


def test_the_files_of_a_logged_model_are_listed(client, experiment, tmp_path):
    made = client.create_logged_model(experiment, "files")
    (tmp_path / "sub").mkdir()
    (tmp_path / "top.txt").write_bytes(b"123")
    (tmp_path / "sub" / "deep.txt").write_bytes(b"12")
    client.log_model_artifacts(made.model_id, str(tmp_path))
    client.log_model_artifact(made.model_id, str(tmp_path / "top.txt"))
    listed = {f.path: (f.is_dir, f.file_size) for f in client.list_logged_model_artifacts(made.model_id)}
    assert listed == {"sub": (True, None), "top.txt": (False, 3)}
    assert [f.path for f in client.list_logged_model_artifacts(made.model_id, "sub")] == ["sub/deep.txt"]


def test_a_deleted_logged_model_is_gone(client, experiment):
    made = client.create_logged_model(experiment, "gone").model_id
    client.delete_logged_model(made)
    fails("RESOURCE_DOES_NOT_EXIST", client.get_logged_model, made)
    assert client.search_logged_models([experiment], "name = 'gone'") == []


@pytest.fixture(scope="module")
def models(client, tracking):
    """Three logged models named a, b, c."""
    experiment = client.create_experiment(tracking.name("models"))
    run = client.create_run(experiment).info.run_id
    ids = {}
    for name, kind, tags, params, acc in (
        ("a", "net", {"team": "red"}, {"depth": "1"}, 0.9), ("b", "tree", {"team": "blue"}, {"depth": "2"}, 0.5), ("c", "net", {}, {}, None),
    ):
        made = client.create_logged_model(experiment, name, run, tags, params, kind)
        ids[name] = made.model_id
        if acc is not None:
            client.log_batch(run, [Metric("acc", acc, 1, 0, model_id=made.model_id, dataset_name="iris", dataset_digest="d1", run_id=run)])
        time.sleep(0.005)
    client.finalize_logged_model(ids["a"], LoggedModelStatus.READY)
    return experiment, run, ids


@pytest.mark.parametrize(
    "clause, expected",
    [
        (None, "abc"), ("name = 'a'", "a"), ("name != 'a'", "bc"), ("name LIKE '_'", "abc"), ("name ILIKE 'A'", "a"), ("name IN ('a', 'c')", "ac"),
        ("model_id = '{a}'", "a"), ("attributes.model_type = 'net'", "ac"), ("status = 'READY'", "a"), ("source_run_id = '{run}'", "abc"),
        ("tags.team = 'red'", "a"), ("tags.team != 'red'", "b"), ("params.depth = '2'", "b"), ("params.depth LIKE '%'", "ab"),
        ("metrics.acc > 0.6", "a"), ("metrics.acc <= 0.9", "ab"), ("creation_timestamp > 0", "abc"), ("last_updated_timestamp < 5", ""),
        ("model_type = 'net' AND metrics.acc > 0.1", "a"),
    ],
)
def test_logged_models_are_found_by_filters(client, models, clause, expected):
    experiment, run, ids = models
    found = client.search_logged_models([experiment], clause and clause.format(run=run, **ids))
    assert "".join(sorted(m.name for m in found)) == expected


@pytest.mark.parametrize(
    "order, expected",
    [
        (None, "cba"), ([{"field_name": "name"}], "abc"), ([{"field_name": "name", "ascending": False}], "cba"),
        ([{"field_name": "creation_timestamp", "ascending": True}], "abc"), ([{"field_name": "metrics.acc", "ascending": False}], "abc"),
        ([{"field_name": "metrics.acc", "ascending": True}], "bac"),
        ([{"field_name": "metrics.acc", "ascending": True, "dataset_name": "iris", "dataset_digest": "d1"}], "bac"),
    ],
)
def test_logged_models_are_ordered(client, models, order, expected):
    found = client.search_logged_models([models[0]], order_by=order)
    assert "".join(m.name for m in found) == expected


def test_logged_models_are_found_by_the_dataset_of_a_metric_and_in_pages(client, models):
    experiment, _, _ = models
    found = client.search_logged_models([experiment], "metrics.acc > 0.1", datasets=[{"dataset_name": "iris", "dataset_digest": "d1"}])
    assert "".join(sorted(m.name for m in found)) == "ab"
    found = client.search_logged_models([experiment], "metrics.acc > 0.1", datasets=[{"dataset_name": "wine", "dataset_digest": "d1"}])
    assert found == []
    got = list(pages(lambda **o: client.search_logged_models([experiment], **o), 2))
    assert ["".join(m.name for m in page) for page in got] == ["cb", "a"]


@pytest.mark.parametrize("clause", ["name = a", "color = 'red'", "metrics.acc = 'x'", "name = 'a' OR name = 'b'", "creation_timestamp LIKE '1'"])
def test_filters_of_logged_models_that_mean_nothing_are_refused(client, tracking, models, clause):
    if not tracking.is_salver and clause in ("name = a", "color = 'red'", "metrics.acc = 'x'"):
        pytest.skip("MLflow takes the first and fails with 500 at the others")
    fails("INVALID_PARAMETER_VALUE", client.search_logged_models, [models[0]], clause)


# log_model, and loading by every kind of URI

ROWS = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)


def twice(factor):
    """y = factor * x, as an ONNX model."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 1]) for n in "xy")
    weights = [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])]
    graph = helper.make_graph([node], "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Multiplier(mlflow.pyfunc.PythonModel):
    def __init__(self, factor):
        self.factor = factor

    def predict(self, context, model_input, params=None):
        return np.asarray(model_input) * self.factor


def log_onnx(factor, **options):
    return mlflow.onnx.log_model(twice(factor), pip_requirements=["onnx"], **options)


def log_sklearn(factor, **options):
    model = LogisticRegression().fit(ROWS, np.array([0, 0, 1, 1]) * int(factor))
    return mlflow.sklearn.log_model(model, pip_requirements=["scikit-learn"], **options)


def log_pyfunc(factor, **options):
    return mlflow.pyfunc.log_model(python_model=Multiplier(factor), pip_requirements=[], **options)


FLAVORS = {"onnx": log_onnx, "sklearn": log_sklearn, "pyfunc": log_pyfunc}
EXPECTED = {
    "onnx": lambda factor: (ROWS * factor).ravel().tolist(), "sklearn": lambda factor: [0, 0, factor, factor],
    "pyfunc": lambda factor: (ROWS * factor).ravel().tolist(),
}


def predictions(uri):
    got = mlflow.pyfunc.load_model(uri).predict(ROWS)
    got = got["y"] if isinstance(got, dict) else got
    return np.asarray(got, float).ravel().tolist()


@pytest.fixture(scope="module", params=FLAVORS)
def registered(request, client, tracking):
    """A model of this flavor with two versions, told apart by their predictions."""
    name = tracking.name(f"log-{request.param}")
    mlflow.set_experiment(tracking.name(f"experiment-{request.param}"))
    infos = []
    for factor in (2.0, 3.0):
        with mlflow.start_run() as run:
            mlflow.log_metric("acc", factor / 10)
            mlflow.log_metric("later", 1.0, step=1)  # of another step than the model's
            mlflow.log_param("factor", factor)
            infos.append((run.info.run_id, FLAVORS[request.param](factor, name="model", registered_model_name=name)))
    return request.param, name, infos


def test_a_registered_model_is_loaded_by_every_uri(client, registered):
    flavor, name, infos = registered
    first, second = EXPECTED[flavor](2.0), EXPECTED[flavor](3.0)
    client.transition_model_version_stage(name, "1", "Production")
    client.set_registered_model_alias(name, "champion", "1")
    assert predictions(f"models:/{name}/1") == first
    assert predictions(f"models:/{name}/2") == second
    assert predictions(f"models:/{name}/Production") == predictions(f"models:/{name}/production") == first
    assert predictions(f"models:/{name}@champion") == first
    assert predictions(f"models:/{name}/latest") == second
    for (run, info), expected in zip(infos, (first, second), strict=True):
        assert predictions(info.model_uri) == predictions(f"models:/{info.model_id}") == expected
        assert predictions(f"runs:/{run}/model") == expected
    # What names a version moves, and so does what is loaded.
    client.transition_model_version_stage(name, "2", "Production", archive_existing_versions=True)
    client.set_registered_model_alias(name, "champion", "2")
    assert predictions(f"models:/{name}/Production") == predictions(f"models:/{name}@champion") == second


def test_a_version_knows_the_run_and_the_model_it_is_from(client, registered):
    _, name, infos = registered
    for number, (run, info) in enumerate(infos, 1):
        version = client.get_model_version(name, str(number))
        assert (version.run_id, version.source, version.status) == (run, f"models:/{info.model_id}", "READY")
        logged = client.get_logged_model(info.model_id)
        assert (logged.source_run_id, logged.status) == (run, LoggedModelStatus.READY)
        assert client.get_model_version_download_uri(name, str(number)) == logged.artifact_location
        assert f'"{name}"' in logged.tags["mlflow.modelVersions"]
        assert {m.key: (m.value, m.step) for m in logged.metrics} == {"acc": ((number + 1) / 10, 0)}
        assert logged.params == {"factor": f"{number + 1}.0"}
        (output,) = client.get_run(run).outputs.model_outputs
        assert output.model_id == info.model_id


def test_the_flavor_itself_can_be_loaded(registered):
    flavor, name, _ = registered
    if flavor == "onnx":
        model = mlflow.onnx.load_model(f"models:/{name}/1")
        onnx.checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(session.run(None, {"x": ROWS})[0], ROWS * 2)
    elif flavor == "sklearn":
        assert mlflow.sklearn.load_model(f"models:/{name}/1").predict(ROWS).tolist() == [0, 0, 2, 2]
    else:
        assert mlflow.pyfunc.load_model(f"models:/{name}/1").unwrap_python_model().factor == 2.0


def test_what_names_no_version_cannot_be_loaded(client, tracking, registered):
    _, name, _ = registered
    for uri in (f"models:/{name}/99", f"models:/{name}/Staging", f"models:/{name}@nobody", f"models:/{tracking.name('never')}/1", "models:/m-" + "0" * 32):
        with pytest.raises(mlflow.exceptions.MlflowException):
            mlflow.pyfunc.load_model(uri)


def test_a_version_is_copied_to_another_model(client, tracking, registered):
    flavor, name, infos = registered
    target = tracking.name("copy")
    copy = client.copy_model_version(f"models:/{name}/1", target)
    assert (copy.name, int(copy.version), copy.source) == (target, 1, f"models:/{name}/1")
    assert copy.run_id == infos[0][0]
    original = client.get_model_version_download_uri(name, "1")
    assert client.get_model_version_download_uri(target, "1") == original
    assert predictions(f"models:/{target}/1") == EXPECTED[flavor](2.0)
    again = client.copy_model_version(f"models:/{target}/1", target)
    assert int(again.version) == 2
    assert client.get_model_version_download_uri(target, "2") == original


def test_register_model_takes_runs_and_logged_models(client, tracking, registered):
    flavor, _, infos = registered
    name = tracking.name("registered later")
    run, info = infos[1]
    by_run = mlflow.register_model(f"runs:/{run}/model", name, tags={"how": "run"})
    by_model = mlflow.register_model(f"models:/{info.model_id}", name)
    assert (int(by_run.version), int(by_model.version)) == (1, 2)
    assert by_run.run_id == by_model.run_id == run
    assert client.get_model_version(name, "1").tags == {"how": "run"}
    for number in (1, 2):
        assert predictions(f"models:/{name}/{number}") == EXPECTED[flavor](3.0)


def test_a_logged_model_of_no_run_can_be_registered(client, tracking):
    mlflow.set_experiment(tracking.name("no run"))
    info = mlflow.onnx.log_model(twice(5.0), name="net", pip_requirements=["onnx"], params={"k": "v"}, tags={"t": "1"}, step=4)
    assert predictions(info.model_uri) == [0.0, 5.0, 10.0, 15.0]
    version = mlflow.register_model(info.model_uri, tracking.name("no run"))
    assert predictions(f"models:/{version.name}/{version.version}") == [0.0, 5.0, 10.0, 15.0]
    got = mlflow.get_logged_model(info.model_id)
    assert (got.params, got.tags["t"]) == ({"k": "v"}, "1")
    found = mlflow.search_logged_models([got.experiment_id], output_format="pandas")
    assert isinstance(found, pandas.DataFrame) and list(found["name"]) == ["net"]


def test_a_model_of_folders_keeps_all_its_files(client, tracking, tmp_path):
    """More files than the client transfers at once, in folders."""
    for number in range(25):
        (tmp_path / "data" / f"part {number % 5}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / f"part {number % 5}" / f"{number}.bin").write_bytes(bytes([number]) * 1000)
    mlflow.set_experiment(tracking.name("files"))
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(
            name="files", python_model=Multiplier(2.0), artifacts={"data": str(tmp_path / "data")}, pip_requirements=[],
            registered_model_name=tracking.name("files"),
        )
    assert predictions(info.model_uri) == (ROWS * 2).ravel().tolist()
    (tmp_path / "down").mkdir()
    mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(tmp_path / "down"))
    got = {p.name: p.read_bytes() for p in (tmp_path / "down").rglob("*.bin")}
    assert got == {f"{n}.bin": bytes([n]) * 1000 for n in range(25)}
