-- The newest schema at once, for a new database: what every step, one after the other, comes to, column by column.
-- The steps (`schema_1.sql` and those after it) say what each part is for.

CREATE TABLE projects (
    name        TEXT PRIMARY KEY,
    revision    INTEGER NOT NULL,
    origin      TEXT,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE backends (
    id                   TEXT PRIMARY KEY,
    project              TEXT NOT NULL REFERENCES projects (name),
    name                 TEXT NOT NULL,
    instance_name        TEXT NOT NULL UNIQUE,
    phase                TEXT NOT NULL,
    generation           INTEGER NOT NULL,
    spec                 TEXT NOT NULL,
    fingerprints         TEXT NOT NULL,
    managed_env          TEXT NOT NULL,
    url                  TEXT,
    site_url             TEXT,
    admin_key            TEXT,
    api_port             INTEGER UNIQUE,
    site_port            INTEGER UNIQUE,
    provider_references  TEXT NOT NULL,
    newest_release       TEXT,
    has_been_ready       INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    expires_at           INTEGER,
    sealed               BLOB NOT NULL,
    cpus                 INTEGER NOT NULL DEFAULT 0,
    memory               INTEGER NOT NULL DEFAULT 0,
    disk                 INTEGER NOT NULL DEFAULT 0,
    stopped              INTEGER NOT NULL DEFAULT 0,
    UNIQUE (project, name)
) STRICT;
CREATE INDEX backends_by_expiry ON backends (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE operations (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    project       TEXT NOT NULL REFERENCES projects (name),
    backend       TEXT NOT NULL,
    key           TEXT NOT NULL,
    kind          TEXT NOT NULL,
    accepted_at   INTEGER NOT NULL,
    ended_at      INTEGER,
    outcome       TEXT,
    actor         TEXT,
    pending       BLOB,
    furthest      INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    seen          TEXT,
    digest        TEXT,
    compensation  TEXT,
    UNIQUE (project, key)
) STRICT;
CREATE INDEX operations_open ON operations (project, backend) WHERE ended_at IS NULL;

CREATE TABLE notices (
    operation  INTEGER NOT NULL REFERENCES operations (id),
    sequence   INTEGER NOT NULL,
    message    TEXT NOT NULL,
    PRIMARY KEY (operation, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    project     TEXT PRIMARY KEY,
    fence       INTEGER NOT NULL,
    holder      TEXT,
    renewed_at  INTEGER NOT NULL,
    released    TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    project   TEXT NOT NULL,
    at        INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    backend   TEXT,
    detail    TEXT NOT NULL,
    actor     TEXT,
    plan      TEXT,
    position  INTEGER,
    hash      TEXT
) STRICT;
CREATE INDEX events_by_project ON events (project, sequence);
CREATE INDEX events_by_position ON events (project, position);
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM chains WHERE chains.project = OLD.project AND OLD.position <= chains.pruned)
BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;

CREATE TABLE chains (
    project      TEXT PRIMARY KEY,
    length       INTEGER NOT NULL,
    head         TEXT NOT NULL,
    seal         TEXT,
    pruned       INTEGER NOT NULL DEFAULT 0,
    pruned_head  TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    project     TEXT,
    scope       TEXT NOT NULL,
    note        TEXT NOT NULL,
    hash        BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    mac         TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE quotas (
    project  TEXT PRIMARY KEY,
    quota    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE registered (
    project   TEXT PRIMARY KEY,
    revision  INTEGER NOT NULL,
    backends  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE key_marks (
    mark     TEXT PRIMARY KEY,
    unbound  INTEGER,
    seal     TEXT,
    retired  BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE expired (
    project   TEXT NOT NULL,
    name      TEXT NOT NULL,
    ended_at  INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE retained (
    id                   TEXT PRIMARY KEY,
    project              TEXT NOT NULL REFERENCES projects (name),
    name                 TEXT NOT NULL,
    instance_name        TEXT NOT NULL UNIQUE,
    spec                 TEXT NOT NULL,
    fingerprints         TEXT NOT NULL,
    provider_references  TEXT NOT NULL,
    newest_release       TEXT,
    generation           INTEGER NOT NULL,
    place                TEXT,
    retained_at          INTEGER NOT NULL
) STRICT;
