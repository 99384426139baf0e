-- Operations as step machines: how far each came, how often it was begun since, what was seen, and what was asked for.
ALTER TABLE operations ADD COLUMN furthest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN seen TEXT;
ALTER TABLE operations ADD COLUMN digest TEXT;

-- Whether a backend was stopped on purpose.
ALTER TABLE backends ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;

-- The wish of the last holder that gave a lease back: the same request that arrives once more takes nothing.
ALTER TABLE leases ADD COLUMN released TEXT;

-- What only the control plane can write beside a token.
ALTER TABLE tokens ADD COLUMN mac TEXT;

-- Backends that were removed because their time was over, so that a plan does not bring them back unasked.
CREATE TABLE expired (
    project   TEXT NOT NULL,
    name      TEXT NOT NULL,
    ended_at  INTEGER NOT NULL,
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
