//! `OpenLogs`.

use tare_runtime::log::{Filter, Stream, Streams};

use super::error::ApiError;
use super::options::{Options, Values};
use super::text::wrong;
use crate::engine::Which;

/// Options of `OpenLogs`.
pub(crate) fn logs(options: Values) -> Result<(Filter, Which), ApiError> {
    let mut o = Options::new(options);
    let filter = Filter {
        since_usec: o.number("Since")?,
        until_usec: o.number("Until")?,
        tail: o.number("Tail")?,
        streams: streams(o.strings("Streams")?)?,
    };
    let follow = o.boolean("Follow")?.unwrap_or_default();
    o.finish()?;
    Ok((filter, if follow { Which::Coming } else { Which::Present }))
}

fn streams(names: Option<Vec<String>>) -> Result<Streams, ApiError> {
    let Some(names) = names else { return Ok(Streams::Both) };
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(other) = names.iter().find(|name| !matches!(name.as_str(), "stdout" | "stderr")) {
        let other = other.escape_debug();
        return Err(wrong("Streams", &format_args!("'{other}' is neither stdout nor stderr")));
    }
    match (has("stdout"), has("stderr")) {
        (true, false) => Ok(Streams::Only(Stream::Stdout)),
        (false, true) => Ok(Streams::Only(Stream::Stderr)),
        _ => Ok(Streams::Both),
    }
}
