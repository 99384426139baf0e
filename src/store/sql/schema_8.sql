-- The keys from before the master key was rotated that are still needed, sealed under it.
ALTER TABLE key_marks ADD COLUMN retired BLOB;
