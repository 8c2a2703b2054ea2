//! `Update`.

use std::sync::Arc;

use super::error::ApiError;
use super::options::{Options, Values};
use super::resources::limits;
use super::text::text;
use crate::engine::{Update, view};

/// Arguments of `Update`.
pub(crate) fn update(
    values: Values,
    find: impl FnOnce() -> Result<Arc<view::Container>, ApiError>,
) -> Result<Update, ApiError> {
    let mut o = Options::new(values);
    let limits = limits(&mut o)?;
    let restart = text(&mut o, "RestartPolicy")?;
    let stop_timeout_usec = o.number("StopTimeoutUSec")?;
    o.finish()?;
    Ok(Update { limits, restart, stop_timeout_usec, container: find()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::value::Value;

    fn error(key: &str, value: Value) -> ApiError {
        let find = || unreachable!("it is looked up when the rest is known to be right");
        update([(key.to_owned(), value)].into(), find).unwrap_err()
    }

    #[test]
    fn what_cannot_be_changed_or_is_wrong_names_itself() {
        assert_eq!(error("Unified", Value::Map([].into())).short_name(), "UnknownOption");
        assert_eq!(error("Env", Value::List(vec![])).short_name(), "UnknownOption");
        for (key, value) in [
            ("Memory", Value::Integer(1)),
            ("RestartPolicy", Value::Text("sometimes".into())),
            ("StopTimeoutUSec", Value::Integer(-1)),
        ] {
            assert!(error(key, value).message().contains(key), "{key}");
        }
    }
}
