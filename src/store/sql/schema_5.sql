-- What destroyed backends left behind. The next backend of the name gets the same identity, and with it the data.
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
