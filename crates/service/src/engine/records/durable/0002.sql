CREATE TABLE volumes (
    name          TEXT PRIMARY KEY,
    owner_uid     INTEGER NOT NULL,
    created_usec  INTEGER NOT NULL,
    -- 1: made for one container.
    anonymous     INTEGER NOT NULL,
    definition    TEXT NOT NULL
) STRICT;

-- Names of volumes that are being made or removed: what is there of them is nobody's. Whatever else is
-- found and has no row may be somebody's data, and stays.
CREATE TABLE volume_remains (
    name  TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

ALTER TABLE uses ADD COLUMN volume TEXT REFERENCES volumes;
CREATE INDEX uses_of_volume ON uses (volume);
