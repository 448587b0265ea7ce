use salver_store::Database;
use salver_store::database::{Sql, sql};

use super::{claim, read, rows, schema, upkeep};

/// Returns how SQLite goes about a statement, a step each.
async fn plan(database: &Database, statement: Sql) -> Vec<String> {
    let statement = sql("EXPLAIN QUERY PLAN ").join(statement);
    let rows = database.read().await.unwrap().all(statement).await.unwrap();
    rows.iter().map(|row| row.text("detail").unwrap()).collect()
}

/// With a million jobs, to sort them for each claim would take seconds.
#[tokio::test]
async fn what_is_asked_all_the_time_is_found_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::sqlite(&folder.path().join("jobs.db")).await.unwrap();
    database.migrate_in(schema::TABLE, schema::HISTORY).await.unwrap();
    let statements = [
        ("jobs_to_claim", rows::select(rows::COLUMNS).then(claim::NEXT).bind(1)),
        ("jobs_to_begin", sql(upkeep::TO_BEGIN).bind(1).bind(1)),
        ("jobs_to_expire", sql(upkeep::TO_EXPIRE).bind(3).bind(1).bind(1)),
        ("jobs_by_caller", sql(read::UNFINISHED).bind("").bind(1)),
        ("jobs_to_forget", sql(upkeep::TO_FORGET).bind(1).bind(1)),
    ];
    for (index, statement) in statements {
        let plan = plan(&database, statement).await;
        assert!(plan.len() == 1 && plan[0].contains(index), "{plan:?}");
    }
}
