-- A container whose namespaces are shared.
ALTER TABLE uses ADD COLUMN other TEXT REFERENCES containers;
CREATE INDEX uses_of_container ON uses (other);
