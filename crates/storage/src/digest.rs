//! Content digests and the chain ids made of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 digest of some content, written `sha256:` and 64 lower-case hex digits.
///
/// No other algorithm is accepted. See [descriptor.md] of the OCI image specification.
///
/// [descriptor.md]: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    const PREFIX: &str = "sha256:";

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// The 64 hex digits alone: always one safe path component.
    pub fn hex(&self) -> String {
        self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect()
    }

    /// Reads what [`hex`](Self::hex) wrote.
    pub(crate) fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidDigest::Length)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(nibble)])
}

fn hex_value(digit: u8) -> Result<u8, InvalidDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(InvalidDigest::Byte),
    }
}

/// Why a text is not a [`Digest`] or [`ChainId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDigest {
    /// It does not start with `sha256:`.
    #[error("digest does not start with \"sha256:\"")]
    Algorithm,
    /// It has not exactly 64 bytes after that.
    #[error("digest has not exactly 64 hex digits")]
    Length,
    /// One of them is not a lower-case hex digit.
    #[error("digest has a byte that is not a lower-case hex digit")]
    Byte,
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::from_hex(text.strip_prefix(Self::PREFIX).ok_or(InvalidDigest::Algorithm)?)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Identifies a stack of layers, from the base up to one of them.
///
/// Written like a [`Digest`]. See [config.md] of the OCI image specification.
///
/// [config.md]: https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain of one layer whose uncompressed archive has the digest `diff_id`.
    pub fn base(diff_id: Digest) -> Self {
        Self(diff_id)
    }

    /// The chain of this one with the layer `diff_id` on top.
    #[must_use]
    pub fn child(&self, diff_id: &Digest) -> Self {
        Self(Digest::of(format!("{self} {diff_id}").as_bytes()))
    }

    /// The chains of a whole stack, the base first.
    pub fn stack(diff_ids: &[Digest]) -> Vec<Self> {
        let mut stack: Vec<Self> = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            stack.push(match stack.last() {
                None => Self::base(*diff_id),
                Some(below) => below.child(diff_id),
            });
        }
        stack
    }

    /// The 64 hex digits alone: always one safe path component.
    pub fn hex(&self) -> String {
        self.0.hex()
    }

    pub(crate) fn digest(&self) -> Digest {
        self.0
    }

    pub(crate) fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        Digest::from_hex(text).map(Self)
    }
}

impl FromStr for ChainId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_the_vector_of_fips_180() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(Digest::of(b"abc")));
    }

    #[test]
    fn parses_by_the_documented_grammar() {
        use InvalidDigest::{Algorithm, Byte, Length};
        let hex = &ABC[7..];
        for (about, input, want) in [
            ("a digest", ABC.to_owned(), Ok(())),
            ("no algorithm", hex.to_owned(), Err(Algorithm)),
            ("another algorithm", format!("sha512:{hex}"), Err(Algorithm)),
            ("upper case", format!("sha256:{}", hex.to_uppercase()), Err(Byte)),
            ("one short", format!("sha256:{}", &hex[1..]), Err(Length)),
            ("one long", format!("sha256:0{hex}"), Err(Length)),
            ("path", format!("sha256:../{}", &hex[3..]), Err(Byte)),
            ("not ASCII", format!("sha256:\u{e9}{}", &hex[2..]), Err(Byte)),
        ] {
            assert_eq!(input.parse::<Digest>().map(drop), want, "{about}: {input:?}");
        }
    }

    #[test]
    fn chains_as_the_image_specification_says() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|layer| Digest::of(layer));
        let base = ChainId::base(a);
        assert_eq!(base.to_string(), a.to_string(), "ChainID(L0) = DiffID(L0)");
        // Computed with `printf '%s %s' <chain> <diff> | sha256sum`.
        assert_eq!(
            base.child(&b).to_string(),
            "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676"
        );
        assert_eq!(ChainId::stack(&[a, b, c]), [base, base.child(&b), base.child(&b).child(&c)]);
        assert_eq!(
            base.child(&b).child(&c).to_string(),
            "sha256:2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106"
        );
    }

    #[test]
    fn serialises_as_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{ABC}\""));
        assert_eq!(serde_json::from_str::<ChainId>(&format!("\"{ABC}\"")).unwrap().0, digest);
        assert!(serde_json::from_str::<Digest>("\"sha256:00\"").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes in any::<[u8; 32]>()) {
            let digest = Digest(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(sha256:)?\\PC{0,70}") {
            let _ = text.parse::<Digest>();
        }
    }
}
