-- What an image has in the store beside its configuration and what is unpacked: the manifests it is
-- known by, and its layers as they came.
CREATE TABLE image_blobs (
    image_id    TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    digest      TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('manifest', 'layer')),
    added_usec  INTEGER NOT NULL,
    PRIMARY KEY (image_id, digest)
) STRICT, WITHOUT ROWID;

-- Bytes of unpacked content. An image had one layer until now.
ALTER TABLE image_layers ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE image_layers SET size = (SELECT images.size FROM images WHERE images.id = image_id);
