//! The servers: one of each kind for the whole run, with TLS under a private authority.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::simulator::backend::free_ports;
use crate::simulator::recorded::skipped;

/// The password of the administrator of every server here.
pub(crate) const ROOT_PASSWORD: &str = "root-pw/with:odd@signs";

/// A database server that runs until the tests end.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// The certificate of the authority that signed the server's.
    pub(crate) ca: PathBuf,
    /// When this closes, the server ends and its directory goes.
    _life: ChildStdin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    /// Without TLS.
    PlainPostgres,
    Mysql,
    /// Only to be refused.
    MariaDb,
}

/// One server of a kind, if it is installed here.
pub(crate) fn server(kind: Kind) -> Option<&'static Server> {
    static POSTGRES: OnceLock<Option<Server>> = OnceLock::new();
    static PLAIN_POSTGRES: OnceLock<Option<Server>> = OnceLock::new();
    static MYSQL: OnceLock<Option<Server>> = OnceLock::new();
    static MARIADB: OnceLock<Option<Server>> = OnceLock::new();
    let cell = match kind {
        Kind::Postgres => &POSTGRES,
        Kind::PlainPostgres => &PLAIN_POSTGRES,
        Kind::Mysql => &MYSQL,
        Kind::MariaDb => &MARIADB,
    };
    cell.get_or_init(|| start(kind)).as_ref()
}

/// Every kind that backends are tried on.
pub(crate) fn servers() -> impl Iterator<Item = &'static Server> {
    [Kind::Postgres, Kind::Mysql].into_iter().filter_map(server)
}

fn program(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.push("/usr/sbin".into());
    // Debian keeps each version in a folder of its own; the last one is the newest.
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// MySQL as `tests/database/mysql-server` puts it beside the other things that are downloaded once.
fn mysql_program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    let folder = std::env::var_os("CONVEXINFRA_MYSQL").map_or_else(|| cache.join("convexinfra-ci/mysql/bin"), PathBuf::from);
    Some(folder.join("mysqld")).filter(|path| path.is_file())
}

/// The programs of a server; says so once where they are missing.
fn programs(kind: Kind, names: [&str; 2]) -> Option<[PathBuf; 2]> {
    let found = names.map(|name| if kind == Kind::Mysql { mysql_program() } else { program(name) });
    if let [Some(one), Some(other)] = found {
        return Some([one, other]);
    }
    let required = std::env::var("CONVEXINFRA_REQUIRE_DATABASES").is_ok_and(|value| value == "1");
    assert!(!required || kind == Kind::MariaDb, "`{}` and `{}` are needed and not installed", names[0], names[1]);
    if kind != Kind::PlainPostgres {
        skipped(&format!("`{}` is not installed, so backends were not tried on {kind:?}", names[1]));
    }
    None
}

/// A command as a user that is not root, which database servers insist on.
fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn start(kind: Kind) -> Option<Server> {
    // MySQL is started as whoever runs the tests: the folder that it was put into need not be open to others.
    let user = match kind {
        Kind::MariaDb => Some("mysql"),
        Kind::Mysql => None,
        Kind::Postgres | Kind::PlainPostgres => Some("postgres"),
    };
    let [init, serve] = match kind {
        Kind::MariaDb => programs(kind, ["mariadb-install-db", "mariadbd"])?,
        Kind::Mysql => programs(kind, ["mysqld", "mysqld"])?,
        Kind::Postgres | Kind::PlainPostgres => programs(kind, ["initdb", "postgres"])?,
    };
    let folder = tempfile::Builder::new().prefix("convexinfra-db-").tempdir().unwrap().keep();
    // As the machine and its containers call it.
    crate::certificates::issue(&folder, &["localhost", "127.0.0.1", "host.docker.internal"]);
    let (port, _) = free_ports();
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(folder.join("password"), ROOT_PASSWORD).unwrap();
    if let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) {
        let mut own = Command::new("chown");
        own.arg("-R").arg(format!("{user}:{user}")).arg(&folder);
        run(own);
    }
    run({
        let mut own = Command::new("chmod");
        own.arg("600").arg(folder.join("server.key"));
        own
    });
    let path = |name: &str| folder.join(name).display().to_string();
    let mut words: Vec<String> = Vec::new();
    match kind {
        Kind::Postgres | Kind::PlainPostgres => {
            let mut command = as_user(user, &init);
            command.args(["--no-sync", "--username", "root", "--auth-local", "trust", "--auth-host", "scram-sha-256"]);
            command.arg("--pwfile").arg(folder.join("password")).arg("-D").arg(&data).env("LC_ALL", "C");
            run(command);
            // Written over rather than added to: the first rule that fits counts.
            let rules = "local all all trust\nhostssl all with_tls all scram-sha-256\nhost all kept_out all reject\n\
                         hostnossl all with_tls all reject\nhost all all all scram-sha-256\n";
            fs::write(data.join("pg_hba.conf"), rules).unwrap();
            words.extend(["-D".into(), path("data"), "-k".into(), path(""), "-p".into(), port.to_string()]);
            let mut settings = vec!["listen_addresses=*".to_owned(), "fsync=off".to_owned(), "max_connections=400".to_owned()];
            if kind == Kind::Postgres {
                settings.extend([
                    "ssl=on".to_owned(),
                    format!("ssl_cert_file={}", path("server.pem")),
                    format!("ssl_key_file={}", path("server.key")),
                ]);
            }
            words.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        }
        Kind::Mysql => {
            let own = if rustix::process::geteuid().is_root() { vec!["--user=root".to_owned()] } else { Vec::new() };
            let mut command = as_user(user, &init);
            command.args(&own).args(["--initialize-insecure", "--mysqlx=OFF"]);
            command.arg(format!("--datadir={}", data.join("mysql").display()));
            run(command);
            let first = format!(
                "CREATE USER 'root'@'%' IDENTIFIED BY '{ROOT_PASSWORD}'; GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
            );
            fs::write(folder.join("first.sql"), first).unwrap();
            words.extend(own);
            words.extend(["--mysqlx=OFF".into(), "--secure-file-priv=NULL".into(), "--skip-name-resolve".into()]);
            words.extend([format!("--datadir={}/mysql", path("data")), format!("--socket={}", path("socket"))]);
            words.extend([format!("--port={port}"), "--bind-address=0.0.0.0".into(), "--max-connections=400".into()]);
            words.extend([format!("--init-file={}", path("first.sql")), format!("--pid-file={}", path("pid"))]);
            words.extend([format!("--ssl-cert={}", path("server.pem")), format!("--ssl-key={}", path("server.key"))]);
            words.extend(["--innodb-flush-log-at-trx-commit=0".into(), "--sync-binlog=0".into()]);
        }
        Kind::MariaDb => {
            let mut command = as_user(user, &init);
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            command.arg(format!("--datadir={}", data.display()));
            run(command);
            let first = format!("ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{ROOT_PASSWORD}';\n");
            fs::write(folder.join("first.sql"), first).unwrap();
            words.extend([
                "--no-defaults".into(),
                format!("--datadir={}", path("data")),
                format!("--socket={}", path("socket")),
            ]);
            words.extend([format!("--port={port}"), "--bind-address=0.0.0.0".into(), "--skip-name-resolve".into()]);
            words.extend([format!("--init-file={}", path("first.sql")), "--max-connections=400".into()]);
            words.extend([format!("--ssl-cert={}", path("server.pem")), format!("--ssl-key={}", path("server.key"))]);
            words.extend([format!("--pid-file={}", path("pid")), "--innodb-flush-log-at-trx-commit=0".into()]);
        }
    }
    // It lives exactly as long as somebody holds the other end of its standard input, however the tests end.
    let life = format!(
        "trap '' INT TERM; \"$@\" >'{0}/log' 2>&1 </dev/null & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf '{0}'",
        folder.display()
    );
    let serving = as_user(user, &serve);
    let mut child = Command::new("sh")
        .args(["-c", &life, "sh"])
        .arg(serving.get_program())
        .args(serving.get_args())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { kind, port, ca: folder.join("ca.pem"), _life: child.stdin.take().unwrap() };
    // Ended by itself, see above.
    std::mem::forget(child);
    let started = Instant::now();
    while let Err(error) = server.try_sql("", "SELECT 1") {
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(started.elapsed() < crate::world::DEADLINE, "{kind:?} does not answer: {error}\n{}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(server)
}

impl Server {
    /// The word for the manifest.
    pub(crate) fn engine(&self) -> &'static str {
        match self.kind {
            Kind::Mysql | Kind::MariaDb => "mysql",
            Kind::Postgres | Kind::PlainPostgres => "postgres",
        }
    }

    /// The URL with which a user enters.
    pub(crate) fn url(&self, user: &str, password: &str) -> String {
        self.url_of("127.0.0.1", user, password)
    }

    pub(crate) fn url_of(&self, host: &str, user: &str, password: &str) -> String {
        let mut url = url::Url::parse(&format!("{}://{host}:{}", self.engine(), self.port)).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    }

    /// The URL of the administrator.
    pub(crate) fn root(&self) -> String {
        self.url("root", ROOT_PASSWORD)
    }

    /// What the administrator is told: the rows of the last statement, as text.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Vec<String> {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn try_sql(&self, database: &str, sql: &str) -> Result<Vec<String>, String> {
        self.sql_as(&self.root(), database, sql)
    }

    /// The same as somebody else.
    pub(crate) fn sql_as(&self, url: &str, database: &str, sql: &str) -> Result<Vec<String>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            if self.engine() == "mysql" {
                let opts = mysql_async::Opts::from_url(url).unwrap();
                let database = Some(database).filter(|database| !database.is_empty()).map(str::to_owned);
                let opts = mysql_async::OptsBuilder::from_opts(opts).db_name(database).prefer_socket(false);
                let mut connection = mysql_async::Conn::new(opts).await.map_err(|error| error.to_string())?;
                let rows: Vec<mysql_async::Row> = connection.query(sql).await.map_err(|error| error.to_string())?;
                let text = |row: mysql_async::Row| {
                    let cells = row.unwrap().into_iter().map(|cell| cell.as_sql(true).trim_matches('\'').to_owned());
                    cells.collect::<Vec<_>>().join("|")
                };
                let rows = rows.into_iter().map(text).collect();
                let _ = connection.disconnect().await;
                return Ok(rows);
            }
            let mut config: tokio_postgres::Config = url.parse().unwrap();
            config.dbname(if database.is_empty() { "postgres" } else { database });
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let said = |error: tokio_postgres::Error| match error.as_db_error() {
                Some(said) => said.message().to_owned(),
                None => error.to_string(),
            };
            let (client, connection) = config.connect(NoTls).await.map_err(said)?;
            tokio::spawn(connection);
            let mut rows = Vec::new();
            for message in client.simple_query(sql).await.map_err(said)? {
                if let SimpleQueryMessage::Row(row) = message {
                    rows.push((0..row.len()).map(|index| row.get(index).unwrap_or("")).collect::<Vec<_>>().join("|"));
                }
            }
            Ok(rows)
        })
    }

    /// Makes a user that may enter, with these rights: attributes for PostgreSQL, privileges for MySQL.
    pub(crate) fn user(&self, name: &str, password: &str, rights: &str) -> String {
        match self.kind {
            Kind::Mysql | Kind::MariaDb => {
                self.sql("", &format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'"));
                if !rights.is_empty() {
                    self.sql("", &format!("GRANT {rights} ON *.* TO '{name}'@'%'"));
                }
            }
            Kind::Postgres | Kind::PlainPostgres => {
                self.sql("", &format!("CREATE ROLE {name} LOGIN {rights} PASSWORD '{password}'"));
            }
        }
        self.url(name, password)
    }

    /// Another password for a user.
    pub(crate) fn change_password(&self, name: &str, password: &str) -> String {
        match self.kind {
            Kind::Mysql | Kind::MariaDb => self.sql("", &format!("ALTER USER '{name}'@'%' IDENTIFIED BY '{password}'")),
            Kind::Postgres | Kind::PlainPostgres => self.sql("", &format!("ALTER ROLE {name} PASSWORD '{password}'")),
        };
        self.url(name, password)
    }

    /// Whether there is such a database.
    pub(crate) fn has(&self, database: &str) -> bool {
        let sql = match self.kind {
            Kind::Mysql | Kind::MariaDb => {
                format!("SELECT schema_name FROM information_schema.schemata WHERE schema_name = '{database}'")
            }
            Kind::Postgres | Kind::PlainPostgres => format!("SELECT datname FROM pg_database WHERE datname = '{database}'"),
        };
        !self.sql("", &sql).is_empty()
    }

    /// The roles that were made for backends.
    pub(crate) fn roles(&self) -> Vec<String> {
        match self.kind {
            Kind::Mysql | Kind::MariaDb => self.sql("", "SELECT user FROM mysql.user WHERE user LIKE 'convex\\_%'"),
            Kind::Postgres | Kind::PlainPostgres => {
                self.sql("", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'convex\\_%'")
            }
        }
    }

    /// A name that no other test uses.
    pub(crate) fn project() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// A manifest with one backend here.
    pub(crate) fn manifest(&self, project: &str, storage: &str) -> String {
        format!(
            "project = \"{project}\"\n\n[backends.dev]\nprovider = \"simulated\"\nstorage = {{ engine = \"{}\", url = {{ env = \"DATABASE\" }}{storage} }}\n",
            self.engine()
        )
    }

    /// How the manifest names the private authority.
    pub(crate) fn trusting(&self) -> String {
        format!(", tls = {{ ca = \"{}\" }}", self.ca.display())
    }
}
