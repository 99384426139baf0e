-- What nobody without the master key can write: how long each history is and what it ends with, and up to which event
-- entries are older than such bonds.
ALTER TABLE chains ADD COLUMN seal TEXT;
ALTER TABLE key_marks ADD COLUMN unbound INTEGER;
ALTER TABLE key_marks ADD COLUMN seal TEXT;
