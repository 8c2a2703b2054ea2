-- Subordinate ids that a container has for a user namespace of its own. They go with it.
CREATE TABLE user_ranges (
    container     TEXT PRIMARY KEY REFERENCES containers ON DELETE CASCADE,
    first_uid     INTEGER NOT NULL UNIQUE,
    first_gid     INTEGER NOT NULL UNIQUE
) STRICT;
