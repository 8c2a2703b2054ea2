use std::error;

/// Why an image is not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// A document of it cannot be read.
    #[error("its {document} is not valid")]
    Document {
        /// Which one.
        document: &'static str,
        /// What is wrong with it.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// A document of it is larger than any real one.
    #[error("its {document} has more than {max} bytes")]
    DocumentTooLarge {
        /// Which one.
        document: &'static str,
        /// Bytes it may have.
        max: usize,
    },
    /// A document of it is not the one that is named.
    #[error("its {document} has another digest than the one it is named by")]
    DocumentDigest {
        /// Which one.
        document: &'static str,
    },
    /// Something it names is not there.
    #[error("it names {0:?}, which is not there")]
    Missing(String),
    /// Something it names is not a regular file.
    #[error("it names {0:?}, which is not a regular file")]
    NotRegular(String),
    /// It has no layers.
    #[error("it has no layers")]
    NoLayers,
    /// It has more layers than can be stacked.
    #[error("it has {count} layers, more than {max}")]
    TooManyLayers {
        /// Layers it has.
        count: usize,
        /// Layers it may have.
        max: usize,
    },
    /// Manifest and configuration do not go together.
    #[error("its manifest has {manifest} layers and its configuration {config}")]
    LayersDiffer {
        /// Layers of the manifest.
        manifest: usize,
        /// Layers of the configuration.
        config: usize,
    },
    /// Something in it has a type that is not supported.
    #[error("its {what} is of type {media_type:?}")]
    MediaType {
        /// What it is of.
        what: &'static str,
        /// The type.
        media_type: String,
    },
    /// There is none for the platform.
    #[error("there is none for {wanted}, only for {}", available.join(", "))]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// There is none of the name, or none at all.
    #[error("there is no image of that name, only {}", available.join(", ").escape_debug())]
    Name {
        /// The names there are.
        available: Vec<String>,
    },
    /// Its index leads to an index, and so on.
    #[error("its index leads to another too often")]
    Nested,
}
