//! What both databases promise, over a PostgreSQL that the test starts itself.

use futures::future::join_all;
use salver_store::Database;
use salver_store::database::{Migration, sql};
use salver_testkit::Postgres;

const HISTORY: &[Migration] =
    &[Migration { version: 1, description: "a number", sql: "CREATE TABLE numbers (value BIGINT NOT NULL)" }];

/// Without it, two that read the same number would write the same one.
async fn who_holds_a_name_sees_what_others_wrote(url: &str) {
    let servers = [Database::open(url).await.unwrap(), Database::open(url).await.unwrap()];
    servers[0].migrate(HISTORY).await.unwrap();
    let mut session = servers[0].write().await.unwrap();
    session.execute(sql("INSERT INTO numbers VALUES (0)")).await.unwrap();
    session.commit().await.unwrap();
    let adding = (0..40).map(|idx| {
        let database = servers[idx % 2].clone();
        tokio::spawn(async move {
            let mut session = database.write().await.unwrap();
            session.hold("number").await.unwrap();
            let value = session.first(sql("SELECT value FROM numbers")).await.unwrap().unwrap().int("value").unwrap();
            if idx % 4 == 0 {
                return; // Dropped, it holds nothing any more.
            }
            session.execute(sql("UPDATE numbers SET value = ?").bind(value + 1)).await.unwrap();
            session.commit().await.unwrap();
        })
    });
    join_all(adding.collect::<Vec<_>>()).await.into_iter().for_each(|added| added.unwrap());
    let row = servers[0].read().await.unwrap().first(sql("SELECT value FROM numbers")).await.unwrap().unwrap();
    assert_eq!(row.int("value").unwrap(), 30);
    // Another name is another matter.
    let (mut one, mut other) = (servers[0].read().await.unwrap(), servers[1].write().await.unwrap());
    other.hold("number").await.unwrap();
    one.hold("other").await.unwrap();
}

#[tokio::test]
async fn names_are_held_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    who_holds_a_name_sees_what_others_wrote(&format!("sqlite://{}", folder.path().join("a.db").display())).await;
}

#[tokio::test]
async fn names_are_held_in_postgres() {
    let Some(postgres) = Postgres::shared() else { return };
    who_holds_a_name_sees_what_others_wrote(&postgres.database()).await;
}

/// Bytes come back, two histories share a database, and rows that somebody holds are passed over.
async fn what_a_queue_needs(url: &str) {
    let servers = [Database::open(url).await.unwrap(), Database::open(url).await.unwrap()];
    servers[0].migrate(HISTORY).await.unwrap();
    let other = [Migration { version: 1, description: "bytes", sql: "CREATE TABLE parts (id {key}, bytes {bytes})" }];
    servers[0].migrate_in("_other", &other).await.unwrap();
    servers[1].migrate_in("_other", &other).await.unwrap();
    let bytes = bytes::Bytes::from_iter(0..=255u8);
    let mut session = servers[0].write().await.unwrap();
    let rows = (1..=600i64).map(|id| [id.into(), bytes.clone().into()]);
    session.execute(sql("INSERT INTO parts (id, bytes) VALUES ").rows(rows).once()).await.unwrap();
    session.commit().await.unwrap();
    let next = || sql("SELECT id, bytes FROM parts ORDER BY id LIMIT 1 {for update skip locked}");
    let mut session = servers[0].write().await.unwrap();
    let row = session.first(next()).await.unwrap().unwrap();
    assert_eq!((row.int("id").unwrap(), row.blob("bytes").unwrap()), (1, bytes));
    if url.starts_with("postgres") {
        let mut session = servers[1].write().await.unwrap();
        assert_eq!(session.first(next()).await.unwrap().unwrap().int("id").unwrap(), 2);
    }
}

#[tokio::test]
async fn sqlite_does_what_a_queue_needs() {
    let folder = tempfile::tempdir().unwrap();
    what_a_queue_needs(&format!("sqlite://{}", folder.path().join("a.db").display())).await;
}

#[tokio::test]
async fn postgres_does_what_a_queue_needs() {
    let Some(postgres) = Postgres::shared() else { return };
    what_a_queue_needs(&postgres.database()).await;
}
