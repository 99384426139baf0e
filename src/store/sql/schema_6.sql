-- How much of the beginning of a history is not kept any more, and the hash that it ended with there.
ALTER TABLE chains ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN pruned_head TEXT NOT NULL DEFAULT '';

-- Nothing but what a history says is pruned may go.
DROP TRIGGER events_are_not_removed;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM chains WHERE chains.project = OLD.project AND OLD.position <= chains.pruned)
BEGIN SELECT RAISE(ABORT, 'events are only ever appended'); END;

-- Entries are numbered within their own history: the number of all entries says what other projects do.
CREATE INDEX events_by_position ON events (project, position);
