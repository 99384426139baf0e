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
    UNIQUE (project, name)
) STRICT;

-- Append-only: the intent is written before the effect, the outcome after it.
CREATE TABLE operations (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    project      TEXT NOT NULL REFERENCES projects (name),
    backend      TEXT NOT NULL,
    key          TEXT NOT NULL,
    kind         TEXT NOT NULL,
    accepted_at  INTEGER NOT NULL,
    ended_at     INTEGER,
    outcome      TEXT,
    UNIQUE (project, key)
) STRICT;

CREATE TABLE leases (
    project     TEXT PRIMARY KEY,
    fence       INTEGER NOT NULL,
    holder      TEXT,
    renewed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    project   TEXT NOT NULL,
    at        INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    backend   TEXT,
    detail    TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_project ON events (project, sequence);
