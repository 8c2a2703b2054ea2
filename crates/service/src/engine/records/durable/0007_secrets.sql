-- What containers may know and nobody else.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    owner_uid INTEGER NOT NULL,
    created_usec INTEGER NOT NULL,
    modified_usec INTEGER NOT NULL,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE uses ADD COLUMN secret TEXT REFERENCES secrets;
CREATE INDEX uses_of_secret ON uses (secret);
