//! Starts a PostgreSQL for tests on a free port, with as many databases as they want.
//!
//! It keeps nothing: no syncing, no password, a folder of its own. As it refuses to run as root, it
//! runs as `postgres` or `nobody` then.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::service::{Service, free_port, skip};

/// A running PostgreSQL; stopped when this is dropped or the test process ends.
pub struct Postgres {
    // Stopped before its folder goes.
    _service: Service,
    _folder: TempDir,
    programs: Programs,
    port: u16,
    n_databases: AtomicUsize,
}

impl Postgres {
    /// Returns the one PostgreSQL of this test process, started on first use; none: there is none
    /// here, and the test is skipped.
    ///
    /// # Panics
    /// As [`Postgres::start`].
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        let shared = SHARED.get_or_init(Self::start_if_there);
        shared.as_ref().or_else(skip_postgres)
    }

    /// Starts a PostgreSQL; none: there is none here, and the test is skipped.
    ///
    /// # Panics
    /// If it does not start, or is not there though `SALVER_REQUIRE_SERVICES=1`.
    pub fn start() -> Option<Self> {
        Self::start_if_there().or_else(skip_postgres)
    }

    fn start_if_there() -> Option<Self> {
        let programs = Programs::find()?;
        let folder = TempDir::with_prefix("salver-postgres-").expect("a temporary folder");
        programs.make_cluster(folder.path());
        for _ in 0..10 {
            let port = free_port();
            // SIGQUIT ends it and its children at once.
            let ready = "database system is ready to accept connections";
            let server = programs.server(folder.path(), port);
            if let Some((service, _)) = Service::start(server, Some(folder.path()), ready, "-QUIT") {
                let n_databases = AtomicUsize::new(0);
                return Some(Self { _service: service, _folder: folder, programs, port, n_databases });
            }
        }
        panic!("postgres does not start on any port");
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.n_databases.fetch_add(1, Ordering::Relaxed));
        let mut createdb = Command::new(self.programs.folder.join("createdb"));
        createdb.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "salver", &name]);
        run(&mut createdb);
        format!("postgres://salver@127.0.0.1:{}/{name}", self.port)
    }
}

fn skip_postgres<T>() -> Option<T> {
    skip("postgres", "neither in PATH nor in /usr/lib/postgresql; Debian: apt-get install postgresql");
    None
}

/// Where its programs are, and as whom they run.
struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Programs {
    fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
            .map(|found| found.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
            .unwrap_or_default();
        versions.sort();
        let mut folders = std::env::split_paths(&path).chain(versions.into_iter().rev());
        let folder =
            folders.find(|folder| ["initdb", "postgres", "createdb"].iter().all(|name| folder.join(name).is_file()))?;
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Some(Self { folder, user: is_root.then(another_user) })
    }

    fn command(&self, name: &str, folder: &Path) -> Command {
        let mut command = Command::new(self.folder.join(name));
        // The folder of the test may be one that the other user must not see.
        command.current_dir(folder).env_remove("PGDATA").env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn make_cluster(&self, folder: &Path) {
        if let Some((user, group)) = self.user {
            chown(folder, Some(user), Some(group)).expect("give a folder to another user");
        }
        let mut initdb = self.command("initdb", folder);
        initdb.args(["--auth=trust", "--username=salver", "--encoding=UTF8", "--locale=C", "--no-sync", "-D", "data"]);
        run(&mut initdb);
    }

    fn server(&self, folder: &Path, port: u16) -> Command {
        let mut server = self.command("postgres", folder);
        server.args(["-D", "data", "-h", "127.0.0.1", "-p", &port.to_string(), "-F"]).arg("-k").arg(folder);
        for setting in ["synchronous_commit=off", "full_page_writes=off", "max_connections=200"] {
            server.args(["-c", setting]);
        }
        server
    }
}

/// Returns user and group of `postgres`, or of `nobody`.
fn another_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |wanted: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    numbers("postgres").or_else(|| numbers("nobody")).unwrap_or((65534, 65534))
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("start a program of PostgreSQL");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_is_another_one() {
        let Some(postgres) = Postgres::shared() else { return };
        let (one, other) = (postgres.database(), postgres.database());
        assert_ne!(one, other);
        let psql = Command::new(postgres.programs.folder.join("psql")).args([&one, "-Atc", "SELECT 6 * 7"]).output();
        assert_eq!(String::from_utf8_lossy(&psql.unwrap().stdout).trim(), "42");
    }
}
