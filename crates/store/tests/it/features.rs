//! Models that look features up, over a real Redis and a real PostgreSQL.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Cmd;
use salver_core::{
    AsyncCall, AsyncModel, Backing, Context, Engine as _, Error, ErrorKind, FeatureRows, FeatureSpec, FeaturesSpec,
    KeyType, MissingRow, ModelSpec, Parameters, Tensor,
};
use salver_core::{Constant, DataType};
use salver_store::{FeaturesEngine, Lookup, Redis};
use salver_testkit::{Postgres, RedisServer};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

type Counted = Arc<Mutex<Vec<(Lookup, usize)>>>;

struct Fixture {
    engine: FeaturesEngine,
    counted: Counted,
}

impl Fixture {
    fn new(url: &str) -> Self {
        let counted = Counted::default();
        let notes = counted.clone();
        let mut engine = FeaturesEngine::new(Box::new(move |_, _| {
            let notes = notes.clone();
            Arc::new(move |result, keys| notes.lock().unwrap().push((result, keys)))
        }));
        engine.add("default", url).unwrap();
        Self { engine, counted }
    }

    fn load(&self, spec: FeaturesSpec) -> Result<Arc<dyn AsyncModel>, Error> {
        let base = salver_testkit::spec("users", "users/model.toml".as_ref());
        let spec = ModelSpec { backing: Backing::Features(spec.into()), ..base };
        Ok(self.engine.load(&spec)?.asynchronous().unwrap())
    }

    fn counts(&self) -> Vec<(Lookup, usize)> {
        std::mem::take(&mut *self.counted.lock().unwrap())
    }
}

async fn ask(model: &dyn AsyncModel, keys: Tensor) -> Result<Vec<Tensor>, Error> {
    let (parameters, ctx) = (Parameters::default(), Context::new("test"));
    model.run(AsyncCall { inputs: vec![keys], parameters: &parameters, ctx: &ctx }).await
}

async fn ages(model: &dyn AsyncModel, keys: &[i64]) -> Result<(Vec<f32>, Vec<bool>), Error> {
    let outputs = ask(model, Tensor::from_slice("user_id", [keys.len(), 1], keys)?).await?;
    let found = outputs.last().unwrap();
    Ok((outputs[0].to_vec().unwrap(), found.to_vec().unwrap()))
}

fn texts(texts: &[&[u8]]) -> Tensor {
    Tensor::from_elements("user_id", [texts.len(), 1], texts.iter().collect()).unwrap()
}

fn age() -> FeatureSpec {
    FeatureSpec {
        name: "age".into(),
        field: "age_years".to_owned(),
        dtype: DataType::Fp32,
        size: 1,
        is_packed: false,
        default: Some(vec![Constant::Float(30.0)]),
    }
}

fn hash(before: &str) -> FeatureRows {
    FeatureRows::Hash { before: before.to_owned(), after: String::new() }
}

fn table(name: &str) -> FeatureRows {
    FeatureRows::Table { schema: None, table: name.to_owned(), key_column: "user_id".to_owned() }
}

fn spec(rows: FeatureRows) -> FeaturesSpec {
    FeaturesSpec {
        store: "default".into(),
        key: "user_id".into(),
        key_type: KeyType::Int64,
        rows,
        missing: MissingRow::Default,
        joined: None,
        timeout: Duration::from_secs(5),
        max_in_flight: 16,
        features: vec![age()],
    }
}

async fn redis(url: &str, words: &[&str]) -> redis::Value {
    let connection = Redis::lazy(url, "the test", Duration::from_secs(5)).unwrap();
    let mut command = Cmd::new();
    command.arg(words);
    command.query_async(&mut connection.connection()).await.unwrap()
}

async fn postgres(url: &str, statements: &[&str]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for statement in statements {
        connection.execute(AssertSqlSafe((*statement).to_owned())).await.unwrap();
    }
}

#[tokio::test]
async fn redis_answers_what_is_there_and_defaults_for_what_is_not() {
    let Some(server) = RedisServer::start() else { return };
    redis(&server.url(), &["HSET", "user:1", "age_years", "41"]).await;
    redis(&server.url(), &["HSET", "user:2", "other", "x"]).await;
    redis(&server.url(), &["SET", "user:3", "a string"]).await;
    redis(&server.url(), &["HSET", "user:4", "age_years", "old"]).await;
    let fixture = Fixture::new(&server.url());
    let model = fixture.load(spec(hash("user:"))).unwrap();
    let (values, found) = ages(&*model, &[1, 9, 1, 2]).await.unwrap();
    assert_eq!((values, found), (vec![41.0, 30.0, 41.0, 30.0], vec![true, false, true, false]));
    assert_eq!(fixture.counts(), [(Lookup::Found, 2), (Lookup::Missing, 2)]);
    assert_eq!(ages(&*model, &[]).await.unwrap(), (vec![], vec![]));

    let error = ages(&*model, &[1, 3]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.message().contains("model 'users': 'user:3'") && error.message().contains("a hash"), "{error}");
    let error = ages(&*model, &[4]).await.unwrap_err();
    assert!(error.message().contains("field 'age_years' of key 4") && error.message().contains("'old'"), "{error}");
    assert_eq!(fixture.counts(), [(Lookup::Failed, 2), (Lookup::Failed, 1)]);
}

#[tokio::test]
async fn a_key_of_any_bytes_is_a_name_in_redis() {
    let Some(server) = RedisServer::start() else { return };
    let name = "user:\u{0}'\n{key}*";
    redis(&server.url(), &["HSET", name, "age_years", "5"]).await;
    let fixture = Fixture::new(&server.url());
    let model = fixture.load(FeaturesSpec { key_type: KeyType::Text, ..spec(hash("user:")) }).unwrap();
    let outputs = ask(&*model, texts(&[&name.as_bytes()[5..], b"", b"\xff", b"*"])).await.unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [5.0, 30.0, 30.0, 30.0]);
    let error = ask(&*model, texts(&[&[b'x'; 513]])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_redis_that_is_away_fails_requests_until_it_is_back() {
    let Some(mut server) = RedisServer::start_durable() else { return };
    let url = server.url();
    redis(&url, &["HSET", "user:1", "age_years", "41"]).await;
    let fixture = Fixture::new(&url);
    let slow = FeaturesSpec { timeout: Duration::from_millis(200), ..spec(hash("user:")) };
    let (model, slow) = (fixture.load(spec(hash("user:"))).unwrap(), fixture.load(slow).unwrap());
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [41.0]);
    server.kill();
    let error = ages(&*model, &[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.retry_after().is_some() && error.message().contains("'default' cannot be reached"), "{error}");
    server.restart();
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [41.0]);
    server.freeze();
    let error = ages(&*slow, &[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(error.message().contains("within 200 ms"), "{error}");
    server.thaw();
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [41.0]);
}

#[tokio::test]
async fn postgres_answers_in_the_order_of_the_keys() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let made = [
        "CREATE TABLE users (user_id int PRIMARY KEY, age_years numeric, \"Vector\" real[], tags text[], active bool)",
        "INSERT INTO users VALUES (1, 41, '{1,2.5}', '{\"a,b\",c}', true), (2, NULL, '{NaN,-1}', '{x,y}', false)",
    ];
    postgres(&url, &made).await;
    let fixture = Fixture::new(&url);
    let feature = |field: &str, dtype, size| FeatureSpec {
        name: field.into(),
        field: field.to_owned(),
        dtype,
        size,
        is_packed: false,
        default: None,
    };
    let more = [
        feature("Vector", DataType::Fp32, 2),
        feature("tags", DataType::Bytes, 2),
        feature("active", DataType::Bool, 1),
    ];
    let all = FeaturesSpec {
        missing: MissingRow::Skip,
        features: [age()].into_iter().chain(more).collect(),
        ..spec(table("users"))
    };
    let model = fixture.load(all).unwrap();
    let outputs = ask(&*model, Tensor::from_slice("user_id", [4, 1], &[2_i64, 7, 1, 2]).unwrap()).await.unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [30.0, 0.0, 41.0, 30.0]);
    let vectors = outputs[1].to_vec::<f32>().unwrap();
    assert!(vectors[0].is_nan() && vectors[1..6] == [-1.0, 0.0, 0.0, 1.0, 2.5], "{vectors:?}");
    let tags: Vec<&[u8]> = outputs[2].elements().unwrap().iter().collect();
    assert_eq!(tags, [&b"x"[..], b"y", b"", b"", b"a,b", b"c", b"x", b"y"]);
    assert_eq!(outputs[3].to_vec::<bool>().unwrap(), [false, false, true, false]);
    assert_eq!(outputs[4].to_vec::<bool>().unwrap(), [true, false, true, true]);
}

#[tokio::test]
async fn no_key_becomes_sql() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    postgres(
        &url,
        &["CREATE TABLE users (user_id text PRIMARY KEY, age_years int)", "INSERT INTO users VALUES ('o''b', 5)"],
    )
    .await;
    let fixture = Fixture::new(&url);
    let model = fixture.load(FeaturesSpec { key_type: KeyType::Text, ..spec(table("users")) }).unwrap();
    let keys: [&[u8]; 4] = [b"o'b", b"'; DROP TABLE users; --", b"$1", b"{a,b}\n\"\\"];
    let outputs = ask(&*model, texts(&keys)).await.unwrap();
    assert_eq!(outputs[0].to_vec::<f32>().unwrap(), [5.0, 30.0, 30.0, 30.0]);
    fixture.counts();
    for hostile in [&b"a\0b"[..], b"\xff"] {
        let error = ask(&*model, texts(&[hostile])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    assert_eq!(fixture.counts(), [], "what is refused was never looked up");
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_an_honest_error_and_may_come_later() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let fixture = Fixture::new(&url);
    let model = fixture.load(spec(table("users"))).unwrap();
    let refused = async |expected: &[&str]| {
        let error = ages(&*model, &[1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
        assert!(expected.iter().all(|part| error.message().contains(part)), "{error}");
    };
    refused(&["relation \\\"users\\\" does not exist", "42P01"]).await;
    postgres(&url, &["CREATE TABLE users (user_id bigint)", "INSERT INTO users VALUES (1), (1)"]).await;
    refused(&["column t.age_years does not exist", "42703"]).await;
    postgres(&url, &["ALTER TABLE users ADD age_years text DEFAULT 'old'"]).await;
    refused(&["several rows for key 1"]).await;
    postgres(&url, &["DELETE FROM users", "INSERT INTO users VALUES (1)"]).await;
    refused(&["expected a number", "'old'"]).await;
    postgres(&url, &["ALTER TABLE users ALTER age_years DROP DEFAULT, ALTER age_years TYPE int USING 8"]).await;
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [8.0]);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_a_slow_statement_is_given_up() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    postgres(&url, &["CREATE TABLE users (user_id bigint, age_years int)", "INSERT INTO users VALUES (1, 8)"]).await;
    let fixture = Fixture::new(&url);
    let model = fixture.load(spec(table("users"))).unwrap();
    let hasty = FeaturesSpec { timeout: Duration::from_millis(200), ..spec(table("users")) };
    let hasty = fixture.load(hasty).unwrap();
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [8.0]);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND \
               application_name = 'salver'";
    postgres(&url, &[end]).await;
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [8.0]);

    let mut other = PgConnection::connect(&url).await.unwrap();
    other.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let error = ages(&*hasty, &[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    assert!(error.message().contains("within 200 ms"), "{error}");
    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(ages(&*hasty, &[1]).await.unwrap().0, [8.0]);
    assert_eq!(ages(&*model, &[1]).await.unwrap().0, [8.0]);
}

#[tokio::test]
async fn many_requests_share_few_connections() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    postgres(&url, &["CREATE TABLE users AS SELECT n AS user_id, n AS age_years FROM generate_series(1, 500) AS n"])
        .await;
    let fixture = Fixture::new(&url);
    let model = fixture.load(spec(table("users"))).unwrap();
    let asking = (1..=500_i16).map(|key| {
        let model = model.clone();
        async move { assert_eq!(ages(&*model, &[key.into()]).await.unwrap().0, [f32::from(key)]) }
    });
    futures::future::join_all(asking).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let count =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'salver'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert!((1..=16).contains(&count), "{count} connections");
}

#[tokio::test]
async fn a_store_that_nobody_named_keeps_the_model_from_loading() {
    let fixture = Fixture::new("redis://127.0.0.1:1");
    let refused = |spec: FeaturesSpec| fixture.load(spec).err().unwrap();
    let error = refused(FeaturesSpec { store: "users".into(), ..spec(hash("user:")) });
    assert!(error.message().contains("'users' is not known (there is default)"), "{error}");
    assert!(error.message().contains("--feature-store users=URL"), "{error}");
    let error = refused(spec(table("users")));
    assert!(error.message().contains("'default' is a Redis") && error.message().contains("redis_key"), "{error}");
    let model = fixture.load(spec(hash("user:"))).unwrap();
    assert_eq!(ages(&*model, &[1]).await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn a_bad_address_is_refused_without_its_password() {
    let mut engine = FeaturesEngine::new(Box::new(|_, _| Arc::new(|_, _| ())));
    let urls =
        ["http://:secret@h", "postgres://u:secret@h:port/x", "redis://:secret@", "rediss://:secret@h#x", "secret"];
    for url in urls {
        let error = engine.add("a", url).unwrap_err();
        assert!(!format!("{error:?}").contains("secret") && error.message().contains("'a'"), "{error:?}");
    }
    engine.add("a", "redis://:secret@127.0.0.1:1").unwrap();
    engine.add("b", "postgres://u:secret@127.0.0.1:1/x").unwrap();
    assert_eq!(engine.describe(), "feature stores: a (Redis at 127.0.0.1:1), b (PostgreSQL at 127.0.0.1:1)");
    assert!(engine.add("a", "redis://h").unwrap_err().message().contains("twice"));
    assert!(engine.add("a b", "redis://h").unwrap_err().message().contains("letters"));
}
