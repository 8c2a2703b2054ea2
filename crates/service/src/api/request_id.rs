//! What a caller calls a request, to be able to repeat it.

use std::str::FromStr;

use super::error::ApiError;
use super::options::Values;
use super::text::parsed;
use super::value::Value;

/// Longest such name, in bytes.
const MAX: usize = 128;

/// 1 to 128 visible characters of ASCII, which mean nothing to the service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(Box<str>);

impl FromStr for RequestId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err("must be 1 to 128 visible ASCII characters") }
    }
}

/// Option `RequestId`, taken out of the others: what is asked for does not depend on it.
pub(crate) fn request_id(options: &mut Values) -> Result<Option<RequestId>, ApiError> {
    match options.remove("RequestId") {
        None => Ok(None),
        Some(Value::Text(text)) => parsed("RequestId", &text).map(Some),
        Some(other) => Err(ApiError::own(
            "OptionType",
            format!("option 'RequestId' must be s, a string, not {}", other.kind()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_out_or_refused_by_its_name() {
        let of = |value: Value| {
            let mut options = Values::from([("RequestId".to_owned(), value)]);
            let id = request_id(&mut options);
            assert!(options.is_empty());
            id
        };
        assert_eq!(of("a-1".into()).unwrap(), Some("a-1".parse().unwrap()));
        assert_eq!(request_id(&mut Values::new()).unwrap(), None);
        for bad in [Value::from(""), "a b".into(), "é".into(), "x".repeat(129).as_str().into()] {
            assert!(of(bad).unwrap_err().message().contains("'RequestId'"));
        }
        assert_eq!(of(7.into()).unwrap_err().short_name(), "OptionType");
    }
}
