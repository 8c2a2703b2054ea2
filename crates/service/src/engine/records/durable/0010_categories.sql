-- What keeps a container apart from others on a host with SELinux. It goes with it.
CREATE TABLE categories (
    container     TEXT PRIMARY KEY REFERENCES containers ON DELETE CASCADE,
    pair          TEXT NOT NULL UNIQUE
) STRICT;
