-- What a served control plane needs: who did what, tokens, ceilings, and operations that go on without their client.

-- Who asked for an operation, and what a replacement still has to make once the old backend is gone.
ALTER TABLE operations ADD COLUMN actor TEXT;
ALTER TABLE operations ADD COLUMN pending BLOB;
CREATE INDEX operations_open ON operations (project, backend) WHERE ended_at IS NULL;

-- What an operation has said while it ran, so that whoever listens can go on after a break.
CREATE TABLE notices (
    operation  INTEGER NOT NULL REFERENCES operations (id),
    sequence   INTEGER NOT NULL,
    message    TEXT NOT NULL,
    PRIMARY KEY (operation, sequence)
) STRICT, WITHOUT ROWID;

-- Every event is bound to the one before it in its project. Events that are about no project have an empty one.
ALTER TABLE events ADD COLUMN actor TEXT;
ALTER TABLE events ADD COLUMN plan TEXT;
ALTER TABLE events ADD COLUMN position INTEGER;
ALTER TABLE events ADD COLUMN hash TEXT;
CREATE TABLE chains (
    project  TEXT PRIMARY KEY,
    length   INTEGER NOT NULL,
    head     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;

-- A token is here only as its hash.
CREATE TABLE tokens (
    id          TEXT PRIMARY KEY,
    project     TEXT,
    scope       TEXT NOT NULL,
    note        TEXT NOT NULL,
    hash        BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER
) STRICT, WITHOUT ROWID;

-- The ceilings of a project; the empty name stands for every project that has none of its own.
CREATE TABLE quotas (
    project  TEXT PRIMARY KEY,
    quota    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What a backend asks for, beside its specification, so that a sum over a project is one query.
ALTER TABLE backends ADD COLUMN cpus INTEGER NOT NULL DEFAULT 0;
ALTER TABLE backends ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
ALTER TABLE backends ADD COLUMN disk INTEGER NOT NULL DEFAULT 0;
CREATE INDEX backends_by_expiry ON backends (expires_at) WHERE expires_at IS NOT NULL;

-- Where every project has rows of its own: what each last said of itself, and at which of its revisions.
CREATE TABLE registered (
    project   TEXT PRIMARY KEY,
    revision  INTEGER NOT NULL,
    backends  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- By what a master key is known again, without saying anything about it.
CREATE TABLE key_marks (
    mark  TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
