-- What was written down of containers while they ran. It goes with its container.
CREATE TABLE checkpoints (
    id            TEXT PRIMARY KEY,
    container     TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
    name          TEXT NOT NULL,
    owner_uid     INTEGER NOT NULL,
    created_usec  INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    definition    TEXT NOT NULL
) STRICT;
CREATE INDEX checkpoints_of_container ON checkpoints (container);
