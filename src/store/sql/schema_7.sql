-- What is being undone of an operation that has failed: the step, and the first failure.
ALTER TABLE operations ADD COLUMN compensation TEXT;
