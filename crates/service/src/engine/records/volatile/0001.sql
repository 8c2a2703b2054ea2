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

-- Addresses that containers of a network have, or had in this boot.
CREATE TABLE leases (
    network     TEXT NOT NULL,
    subnet      TEXT NOT NULL,
    address     BLOB NOT NULL,
    -- Whether it was chosen here, once; else somebody asked for it.
    chosen      INTEGER NOT NULL,
    container   TEXT,
    -- Since when nobody has it and the kernel knows no connection of it.
    freed_usec  INTEGER,
    PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_of_container ON leases (container);
CREATE INDEX leases_chosen ON leases (network, subnet, address) WHERE chosen = 1;
CREATE INDEX leases_freed ON leases (network, subnet, freed_usec) WHERE container IS NULL;
