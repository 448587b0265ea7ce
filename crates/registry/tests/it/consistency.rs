//! What holds between rows, and between rows and blobs, whatever happened.

use salver_store::database::{Sql, sql};
use salver_store::{Blobs, Database, Digest};

/// Panics with what does not fit.
pub(crate) async fn check_consistency(database: &Database, blobs: &Blobs) {
    check_rows(database).await;
    for (table, statement) in [
        ("artifacts", sql("SELECT DISTINCT digest FROM artifacts")),
        ("model_version_files", sql("SELECT DISTINCT digest FROM model_version_files")),
    ] {
        for row in database.read().await.unwrap().all(statement).await.unwrap() {
            let digest: Digest = row.text("digest").unwrap().parse().unwrap();
            assert!(blobs.exists(&digest).await.unwrap(), "{table} refers to {digest}, which is no blob");
        }
    }
}

async fn check_rows(database: &Database) {
    none(
        database,
        "an alias without its version",
        sql("SELECT a.name || '@' || a.alias AS found FROM model_aliases a \
         LEFT JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE v.version IS NULL"),
    )
    .await;
    none(
        database,
        "an open time in a stage that the version is not in",
        sql("SELECT s.name || '/' || CAST(s.version AS TEXT) || ' ' || s.stage AS found FROM stage_times s \
         LEFT JOIN model_versions v ON v.name = s.name AND v.version = s.version \
         WHERE s.until IS NULL AND (v.stage IS NULL OR v.stage <> s.stage)"),
    )
    .await;
    none(
        database,
        "a stage without its open time",
        sql("SELECT v.name || '/' || CAST(v.version AS TEXT) || ' ' || v.stage AS found FROM model_versions v \
         WHERE v.stage <> 'None' AND 1 <> (SELECT COUNT(*) FROM stage_times s \
         WHERE s.name = v.name AND s.version = v.version AND s.stage = v.stage AND s.until IS NULL)"),
    )
    .await;
    none(
        database,
        "a version above the newest",
        sql("SELECT v.name || '/' || CAST(v.version AS TEXT) AS found FROM model_versions v \
         JOIN registered_models m ON m.name = v.name WHERE v.version > m.newest_version"),
    )
    .await;
    none(
        database,
        "a version that the log does not know",
        sql("SELECT v.name || '/' || CAST(v.version AS TEXT) AS found FROM model_versions v \
         WHERE 1 <> (SELECT COUNT(*) FROM audit a WHERE a.what = 'version.create' AND a.time = v.creation_time \
         AND a.subject = 'model/' || v.name || '/' || CAST(v.version AS TEXT))"),
    )
    .await;
    none(
        database,
        "a version whose files and digest are not both there",
        sql("SELECT v.name || '/' || CAST(v.version AS TEXT) AS found FROM model_versions v \
         WHERE (v.digest IS NULL) <> (0 = (SELECT COUNT(*) FROM model_version_files f \
         WHERE f.name = v.name AND f.version = v.version))"),
    )
    .await;
    none(
        database,
        "a file of a version that is another one where it lies",
        sql("SELECT v.location || '/' || f.path AS found FROM model_version_files f \
         JOIN model_versions v ON v.name = f.name AND v.version = f.version \
         LEFT JOIN artifacts a ON 'mlflow-artifacts:/' || a.path = v.location || '/' || f.path \
         WHERE a.digest IS NULL OR a.digest <> f.digest OR a.size <> f.size"),
    )
    .await;
    none(database, "a file below a file", sql(
        "SELECT b.path AS found FROM artifacts a JOIN artifacts b ON b.path >= a.path || '/' AND b.path < a.path || '0'",
    ))
    .await;
}

async fn none(database: &Database, what: &str, statement: Sql) {
    let rows = database.read().await.unwrap().all(statement).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.text("found").unwrap()).collect();
    assert!(found.is_empty(), "{what}: {found:?}");
}
