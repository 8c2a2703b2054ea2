CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE images (
    id           TEXT PRIMARY KEY,
    pulled_usec  INTEGER NOT NULL,
    size         INTEGER NOT NULL
) STRICT;

CREATE TABLE image_layers (
    image_id  TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    chain_id  TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_references (
    reference  TEXT PRIMARY KEY,
    image_id   TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What is the same for all drivers is in columns, the rest in the document.
CREATE TABLE networks (
    name          TEXT PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    owner_uid     INTEGER NOT NULL,
    created_usec  INTEGER NOT NULL,
    bridge        TEXT UNIQUE,
    definition    TEXT NOT NULL
) STRICT;

CREATE TABLE containers (
    id               TEXT PRIMARY KEY,
    owner_uid        INTEGER NOT NULL,
    created_usec     INTEGER NOT NULL,
    -- NULL where the root file system is not that of an image.
    image_id         TEXT REFERENCES images,
    image_reference  TEXT,
    -- What it is to be; the revision goes up with each change of it.
    revision         INTEGER NOT NULL,
    name             TEXT NOT NULL UNIQUE,
    request          TEXT NOT NULL,
    connections      TEXT NOT NULL,
    -- The last life.
    started_usec     INTEGER,
    finished_usec    INTEGER,
    exit_code        INTEGER,
    exit_signal      INTEGER,
    exit_reason      TEXT
) STRICT;
CREATE INDEX containers_of_image ON containers (image_id);

-- What a container needs to be there, whether it runs or not. A column for each kind of thing, one
-- of them set in each row; none of them can be deleted while it is named here.
CREATE TABLE uses (
    container  TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
    network    TEXT REFERENCES networks
) STRICT;
CREATE INDEX uses_by_container ON uses (container);
CREATE INDEX uses_of_network ON uses (network);
