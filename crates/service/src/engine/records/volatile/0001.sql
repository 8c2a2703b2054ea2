CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What is there now, a document each.
CREATE TABLE records (
    kind      TEXT NOT NULL,
    key       TEXT NOT NULL,
    document  TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    network     TEXT NOT NULL,
    address     BLOB NOT NULL,
    container   TEXT,
    freed_usec  INTEGER,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_of_container ON leases (container);
CREATE INDEX leases_freed ON leases (network, freed_usec) WHERE container IS NULL;
