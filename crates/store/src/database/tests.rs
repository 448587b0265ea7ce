use super::*;

const HISTORY: &[Migration] = &[Migration {
    version: 1,
    description: "things",
    sql: "CREATE TABLE things (id {serial}, name {text} NOT NULL UNIQUE, size BIGINT, weight DOUBLE PRECISION);",
}];

async fn opened() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::sqlite(&folder.path().join("a file with ? and #.db")).await.unwrap();
    database.migrate(HISTORY).await.unwrap();
    (folder, database)
}

async fn names(database: &Database) -> Vec<String> {
    let rows = database.read().await.unwrap().all(sql("SELECT name FROM things ORDER BY name")).await.unwrap();
    rows.iter().map(|row| row.text("name").unwrap()).collect()
}

#[tokio::test]
async fn rows_come_back_as_they_were_written() {
    let (_folder, database) = opened().await;
    let mut session = database.write().await.unwrap();
    let insert = sql("INSERT INTO things (name, size, weight) VALUES (?, ?, ?) RETURNING id");
    let row = session.first(insert.bind("it's ? here").bind(None::<i64>).bind(0.5)).await.unwrap().unwrap();
    assert_eq!(row.int("id").unwrap(), 1);
    session.commit().await.unwrap();
    let row = database.read().await.unwrap().first(sql("SELECT * FROM things")).await.unwrap().unwrap();
    assert_eq!(row.text("name").unwrap(), "it's ? here");
    assert_eq!((row.maybe_int("size").unwrap(), row.real("weight").unwrap()), (None, 0.5));
    assert!(row.text("nothing").is_err());
}

#[tokio::test]
async fn what_is_not_committed_never_was() {
    let (_folder, database) = opened().await;
    let mut session = database.write().await.unwrap();
    session.execute(sql("INSERT INTO things (name) VALUES (?)").bind("a")).await.unwrap();
    drop(session);
    assert!(names(&database).await.is_empty());
}

#[tokio::test]
async fn writers_take_turns_and_a_taken_name_is_a_conflict() {
    let (_folder, database) = opened().await;
    let tasks = (0..50).map(|idx: i64| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut session = database.write().await?;
            let statement = sql("INSERT INTO things (name) VALUES (?)").bind(format!("{:02}", idx % 25));
            session.execute(statement).await?;
            session.commit().await
        })
    });
    let ended = futures::future::join_all(tasks.collect::<Vec<_>>()).await;
    let conflicts = ended.into_iter().filter_map(|ended| ended.unwrap().err());
    assert_eq!(conflicts.map(|error| assert_eq!(error.kind(), ErrorKind::Conflict)).count(), 25);
    assert_eq!(names(&database).await.len(), 25);
}

#[tokio::test]
async fn a_newer_database_is_refused_and_an_older_one_brought_up_to_date() {
    let (_folder, database) = opened().await;
    let more = Migration { version: 2, description: "more", sql: "CREATE TABLE more (id BIGINT)" };
    database.migrate(&[HISTORY[0], more]).await.unwrap();
    let refusal = database.migrate(HISTORY).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Unsupported);
    assert!(refusal.message().contains("newer Salver"), "{refusal}");
}

#[tokio::test]
async fn lists_may_be_empty() {
    let (_folder, database) = opened().await;
    let empty = sql("SELECT name FROM things WHERE name IN ").list(Vec::<String>::new());
    assert!(database.read().await.unwrap().all(empty).await.unwrap().is_empty());
    let two = sql("SELECT ").join(sql("? + ?").bind(1).bind(2)).then(" AS sum WHERE 3 IN ").list([3, 4]);
    let row = database.read().await.unwrap().first(two).await.unwrap().unwrap();
    assert_eq!(row.int("sum").unwrap(), 3);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    let refusal = Database::open("mysql://x").await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_lazy_database_is_not_ready_before_its_schema_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::lazy(&format!("sqlite://{}", folder.path().join("d.db").display())).unwrap();
    assert_eq!(database.read().await.err().unwrap().kind(), ErrorKind::NotReady);
    assert_eq!(database.write().await.err().unwrap().kind(), ErrorKind::NotReady);
    assert_eq!(database.snapshot().await.err().unwrap().kind(), ErrorKind::NotReady);
    database.migrate(HISTORY).await.unwrap();
    database.read().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_found_no_room_is_not_used_again() {
    let (_folder, database) = opened().await;
    let mut session = database.write().await.unwrap();
    session.execute(sql("PRAGMA max_page_count = 1")).await.unwrap();
    let long = "x".repeat(100_000);
    let insert = || sql("INSERT INTO things (name) VALUES (?)");
    let refusal = session.execute(insert().bind(long.as_str())).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Full);
    // SQLite has ended the transaction by itself.
    assert!(session.execute(sql("ROLLBACK")).await.is_err());
    drop(session);
    for name in ["a", "b"] {
        let mut session = database.write().await.unwrap();
        session.execute(insert().bind(name)).await.unwrap();
        session.commit().await.unwrap();
    }
    assert_eq!(names(&database).await, ["a", "b"]);
}
