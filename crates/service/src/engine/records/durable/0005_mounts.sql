-- What a container sees of the host, as it was when that was allowed.
ALTER TABLE containers ADD COLUMN pins TEXT NOT NULL DEFAULT '{"v":1,"Mounts":{}}';

-- Images that a container mounts, beside the one it is made from.
ALTER TABLE uses ADD COLUMN image TEXT REFERENCES images;
CREATE INDEX uses_of_image ON uses (image);
