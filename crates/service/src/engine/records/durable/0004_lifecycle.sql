-- What follows the end of a container; what was made before has nothing follow.
ALTER TABLE containers ADD COLUMN lifecycle TEXT;
-- Whether the last life ended because somebody wanted it to, and how often it was started by itself.
ALTER TABLE containers ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
