//! [`Session`]: the real connection, over a unix socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

use super::error::{DbError, DbErrorKind};
use super::{BackupStart, BackupStop, ControlCheckpoint, Database, DatabaseEntry, DbFuture, ServerIdentity, sql};
use crate::postgres::{Lsn, PgVersion, Timeline, WalSegmentName};

/// Where servers put their sockets unless told otherwise: Debian's and most packages' choice, then PostgreSQL's own.
pub const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// How long a cancelled statement may take to end, and a cancel request to be delivered.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// How long the end of a session may take to tell its reason after it was noticed.
const REASON_GRACE: Duration = Duration::from_millis(200);
/// How often it is looked for until then.
const REASON_POLL: Duration = Duration::from_millis(5);

/// How to reach a server. There is no password: local servers know their administrator by the peer of the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Directory of the socket; `None` looks in [`SOCKET_DIRECTORIES`].
    pub socket_directory: Option<PathBuf>,
    /// Port, which is part of the socket's name.
    pub port: u16,
    /// Database to connect to.
    pub database: String,
    /// User to connect as; usually the name of the user that runs this process.
    pub user: String,
    /// How the session is called in the server's list of sessions.
    pub application_name: String,
    /// Limit for connecting and for each statement (`db-timeout`).
    pub timeout: Duration,
}

/// A session. It ends when it is dropped, and with it a backup that was started in it and not stopped.
#[derive(Debug)]
pub struct Session {
    link: Link,
    identity: ServerIdentity,
}

/// A connection and the task that moves its bytes.
struct Link {
    client: Client,
    driver: JoinHandle<()>,
    /// Why the connection ended, once it has.
    reason: Arc<OnceLock<String>>,
    timeout: Duration,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Link").field("is_closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects and asks the server what it is.
    ///
    /// # Errors
    /// [`DbErrorKind::Connect`] when there is no connection; [`DbErrorKind::Settings`] when the user may not see the
    /// settings; [`DbErrorKind::Query`], [`DbErrorKind::Timeout`].
    pub async fn connect(options: &ConnectOptions) -> Result<Self, DbError> {
        let link = Link::open(options).await?;
        link.run(sql::SESSION).await?;
        let mut identity = parse_identity(&link.row(sql::IDENTITY).await?)?;
        if let Some(settings) = sql::session_of(identity.version) {
            link.run(settings).await?;
        }
        identity.in_recovery = link.is_in_recovery().await?;
        Ok(Self { link, identity })
    }
}

impl Database for Session {
    fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    fn databases(&self) -> DbFuture<'_, Vec<DatabaseEntry>> {
        Box::pin(async {
            let rows = self.link.rows(sql::DATABASES).await?;
            let entry = |row: &Row| {
                Ok(DatabaseEntry { oid: row.number(0)?, name: row.text(1)?, last_system_oid: row.number(2)? })
            };
            rows.iter().map(entry).collect()
        })
    }

    fn tablespaces(&self) -> DbFuture<'_, Vec<(u32, String)>> {
        Box::pin(async {
            let rows = self.link.rows(sql::TABLESPACES).await?;
            rows.iter().map(|row| Ok((row.number(0)?, row.text(1)?))).collect()
        })
    }

    fn insert_segment(&self) -> DbFuture<'_, WalSegmentName> {
        Box::pin(async { self.link.row(&sql::insert_segment(self.identity.version)).await?.segment(0) })
    }

    fn start_backup(&self, fast: bool) -> DbFuture<'_, BackupStart> {
        Box::pin(async move {
            let ServerIdentity { version, in_recovery, .. } = self.identity;
            let row = self.link.row(&sql::start_backup(version, in_recovery, fast)).await?;
            Ok(BackupStart { lsn: row.lsn(0)?, segment: row.optional_segment(1)? })
        })
    }

    fn stop_backup(&self) -> DbFuture<'_, BackupStop> {
        Box::pin(async {
            let ServerIdentity { version, in_recovery, .. } = self.identity;
            let row = self.link.row(&sql::stop_backup(version, in_recovery)).await?;
            Ok(BackupStop {
                lsn: row.lsn(0)?,
                segment: row.optional_segment(1)?,
                backup_label: row.text(2)?,
                tablespace_map: row.optional(3)?.filter(|text| !text.trim().is_empty()),
            })
        })
    }

    fn switch_wal(&self) -> DbFuture<'_, WalSegmentName> {
        Box::pin(async {
            self.link.row(sql::RESTORE_POINT).await?;
            self.link.row(&sql::switch_wal(self.identity.version)).await?.segment(0)
        })
    }

    fn time_ms(&self) -> DbFuture<'_, i64> {
        Box::pin(async { self.link.row(sql::TIME_MS).await?.number(0) })
    }

    fn ping(&self) -> DbFuture<'_, ()> {
        Box::pin(async {
            match (self.identity.in_recovery, self.link.is_in_recovery().await?) {
                (true, false) => Err(DbError::new(
                    DbErrorKind::Mismatch,
                    "standby is no longer in recovery\nHINT: was the standby promoted during the backup?",
                )),
                (false, true) => Err(DbError::new(DbErrorKind::Recovery, "primary has switched to recovery")),
                _ => Ok(()),
            }
        })
    }

    fn checkpoint(&self) -> DbFuture<'_, ()> {
        Box::pin(async { self.link.run("checkpoint").await })
    }

    fn replay_lsn(&self) -> DbFuture<'_, Option<Lsn>> {
        Box::pin(async {
            let row = self.link.row(&sql::replay_lsn(self.identity.version)).await?;
            row.optional(0)?.map(|text| row.parse_lsn(&text)).transpose()
        })
    }

    fn control_checkpoint(&self) -> DbFuture<'_, ControlCheckpoint> {
        Box::pin(async {
            let row = self.link.row(&sql::control_checkpoint(self.identity.version)).await?;
            let timeline = Timeline::new(row.number(2)?).ok_or_else(|| row.unexpected("timeline 0"))?;
            Ok(ControlCheckpoint { lsn: row.lsn(0)?, redo_lsn: row.lsn(1)?, timeline })
        })
    }
}

impl Link {
    async fn open(options: &ConnectOptions) -> Result<Self, DbError> {
        let socket_directory = socket_directory(options);
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&socket_directory)
            .port(options.port)
            .dbname(&options.database)
            .user(&options.user)
            .application_name(&options.application_name)
            .ssl_mode(tokio_postgres::config::SslMode::Disable);
        let target = || {
            format!(
                "unable to connect to database '{}' as user '{}' through the socket in '{}' with port {}",
                options.database,
                options.user,
                socket_directory.display(),
                options.port
            )
        };
        let connected = tokio::time::timeout(options.timeout, config.connect(NoTls)).await;
        let (client, connection) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                let message = format!("{}: {}", target(), describe(&error));
                let sql_state = error.code().map(SqlState::code);
                return Err(DbError::new(DbErrorKind::Connect, message).with_sql_state(sql_state));
            }
            Err(_) => {
                let message = format!("{}: no answer within {} ms", target(), options.timeout.as_millis());
                return Err(DbError::new(DbErrorKind::Connect, message));
            }
        };
        let reason = Arc::new(OnceLock::new());
        let slot = Arc::clone(&reason);
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Set once, here only.
                slot.get_or_init(|| describe(&error));
            }
        });
        Ok(Self { client, driver, reason, timeout: options.timeout })
    }

    /// Runs statements whose rows do not matter.
    async fn run(&self, query: &str) -> Result<(), DbError> {
        self.query(query).await.map(|_| ())
    }

    async fn rows(&self, query: &str) -> Result<Vec<Row>, DbError> {
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(Row { row, query: query.to_owned() }),
            _ => None,
        };
        Ok(self.query(query).await?.into_iter().filter_map(row).collect())
    }

    async fn row(&self, query: &str) -> Result<Row, DbError> {
        let mut rows = self.rows(query).await?.into_iter();
        match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            _ => Err(DbError::new(DbErrorKind::Query, format!("expected one row from '{query}'"))),
        }
    }

    async fn is_in_recovery(&self) -> Result<bool, DbError> {
        let row = self.row(sql::IN_RECOVERY).await?;
        match row.text(0)?.as_str() {
            "t" => Ok(true),
            "f" => Ok(false),
            other => Err(row.unexpected(other)),
        }
    }

    /// Runs a query within the time-out; one that takes longer is cancelled and waited for, so that the session stays
    /// usable.
    async fn query(&self, query: &str) -> Result<Vec<SimpleQueryMessage>, DbError> {
        let mut running = Box::pin(self.client.simple_query(query));
        match tokio::time::timeout(self.timeout, &mut running).await {
            Ok(Ok(messages)) => Ok(messages),
            Ok(Err(error)) => Err(self.query_error(query, &error).await),
            Err(_) => {
                let cancel = self.client.cancel_token();
                // A request that cannot be delivered changes nothing: the time is over either way.
                drop(tokio::time::timeout(CANCEL_GRACE, cancel.cancel_query(NoTls)).await);
                drop(tokio::time::timeout(CANCEL_GRACE, &mut running).await);
                let message = format!("query '{query}' timed out after {} ms", self.timeout.as_millis());
                Err(DbError::new(DbErrorKind::Timeout, message))
            }
        }
    }

    async fn query_error(&self, query: &str, error: &tokio_postgres::Error) -> DbError {
        if !is_session_over(error) {
            let message = format!("unable to execute query '{query}': {}", describe(error));
            return DbError::new(DbErrorKind::Query, message).with_sql_state(error.code().map(SqlState::code));
        }
        // The reason arrives on the other task, at about the same time. Without it the error speaks for itself.
        let arrival = async {
            while self.reason.get().is_none() && !self.driver.is_finished() {
                tokio::time::sleep(REASON_POLL).await;
            }
        };
        drop(tokio::time::timeout(REASON_GRACE, arrival).await);
        let reason = match (error.as_db_error(), self.reason.get()) {
            (None, Some(reason)) => reason.clone(),
            _ => describe(error),
        };
        let message = format!(
            "unable to complete query '{query}': {reason}\n\
             HINT: this is usually caused by the connection to PostgreSQL being lost while the query was running.\n\
             HINT: check the PostgreSQL log for a crash, restart, or time-out."
        );
        DbError::new(DbErrorKind::Lost, message).with_sql_state(error.code().map(SqlState::code))
    }
}

/// One row of text values, and the query that it answers.
struct Row {
    row: SimpleQueryRow,
    query: String,
}

impl Row {
    fn optional(&self, column: usize) -> Result<Option<String>, DbError> {
        if column >= self.row.len() {
            return Err(self.unexpected("too few columns"));
        }
        match self.row.try_get(column) {
            Ok(value) => Ok(value.map(str::to_owned)),
            Err(error) => Err(self.unexpected(&describe(&error))),
        }
    }

    fn text(&self, column: usize) -> Result<String, DbError> {
        self.optional(column)?.ok_or_else(|| self.unexpected("null"))
    }

    fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, DbError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.unexpected(&text))
    }

    fn lsn(&self, column: usize) -> Result<Lsn, DbError> {
        self.parse_lsn(&self.text(column)?)
    }

    fn parse_lsn(&self, text: &str) -> Result<Lsn, DbError> {
        text.parse().map_err(|_| self.unexpected(text))
    }

    fn segment(&self, column: usize) -> Result<WalSegmentName, DbError> {
        self.optional_segment(column)?.ok_or_else(|| self.unexpected("null"))
    }

    fn optional_segment(&self, column: usize) -> Result<Option<WalSegmentName>, DbError> {
        let text = self.optional(column)?;
        text.map(|text| WalSegmentName::parse(&text).map_err(|_| self.unexpected(&text))).transpose()
    }

    fn unexpected(&self, value: &str) -> DbError {
        let value: String = value.escape_debug().take(100).collect();
        DbError::new(DbErrorKind::Query, format!("unexpected value '{value}' from '{}'", self.query))
    }
}

fn parse_identity(row: &Row) -> Result<ServerIdentity, DbError> {
    for column in 0..5 {
        if row.optional(column)?.is_none() {
            return Err(DbError::new(
                DbErrorKind::Settings,
                "unable to select some rows from pg_settings\n\
                 HINT: is the backup running as the postgres user?\n\
                 HINT: is the pg_read_all_settings role assigned for PostgreSQL >= 10?",
            ));
        }
    }
    let number: u32 = row.number(0)?;
    let version = PgVersion::from_server_version_num(number).ok_or_else(|| row.unexpected(&number.to_string()))?;
    if version < PgVersion::V9_6 {
        let message = format!("version {version} of the server is not supported, 9.6 is the first");
        return Err(DbError::new(DbErrorKind::Mismatch, message));
    }
    Ok(ServerIdentity {
        version,
        data_directory: row.text(1)?,
        archive_mode: row.text(2)?,
        archive_command: row.text(3)?,
        checkpoint_timeout: Duration::from_secs(row.number(4)?),
        in_recovery: false,
    })
}

/// The directory that was given, or the first known one in which the port's socket stands.
fn socket_directory(options: &ConnectOptions) -> PathBuf {
    if let Some(directory) = &options.socket_directory {
        return directory.clone();
    }
    let has_socket =
        |directory: &&Path| directory.join(format!(".s.PGSQL.{}", options.port)).try_exists().unwrap_or(false);
    let [first, second] = SOCKET_DIRECTORIES.map(Path::new);
    [first, second].into_iter().find(has_socket).unwrap_or(first).to_owned()
}

/// Whether the server or the connection is gone, and the session with it.
fn is_session_over(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        None => true,
        Some(error) => {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_SESSION_TIMEOUT].contains(error.code())
                || error.severity() == "FATAL"
        }
    }
}

/// The server's words, or those of the error and its causes.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {}", error.severity(), error.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &Path) -> ConnectOptions {
        ConnectOptions {
            socket_directory: Some(directory.to_owned()),
            port: 5432,
            database: "postgres".into(),
            user: "postgres".into(),
            application_name: "test".into(),
            timeout: Duration::from_millis(200),
        }
    }

    #[tokio::test]
    async fn no_server_is_a_connect_error() {
        let temporary = tempfile::tempdir().unwrap();
        let error = Session::connect(&options(temporary.path())).await.unwrap_err();
        assert_eq!(error.kind(), DbErrorKind::Connect);
        assert!(error.to_string().contains("No such file or directory"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_a_connect_error_in_time() {
        let temporary = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(temporary.path().join(".s.PGSQL.5432")).unwrap();
        let error = Session::connect(&options(temporary.path())).await.unwrap_err();
        assert_eq!(error.kind(), DbErrorKind::Connect);
        assert!(error.to_string().ends_with("no answer within 200 ms"), "{error}");
        drop(listener);
    }

    #[test]
    fn the_socket_directory_that_is_given_wins() {
        let given = PathBuf::from("/given");
        assert_eq!(socket_directory(&options(&given)), given);
        let unknown = ConnectOptions { socket_directory: None, port: 1, ..options(&given) };
        assert_eq!(socket_directory(&unknown), PathBuf::from(SOCKET_DIRECTORIES[0]));
    }
}
