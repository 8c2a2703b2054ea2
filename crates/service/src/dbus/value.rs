//! Options as they come over D-Bus.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

use crate::api::{ApiError, Value, Values};

/// `a{sv}`.
pub(crate) type Dict = HashMap<String, OwnedVariant>;

/// What is in it.
pub(crate) fn values(dict: Dict) -> Result<Values, ApiError> {
    dict.into_iter().map(|(key, variant)| Ok((key, value(&variant)?))).collect()
}

fn value(variant: &Variant<'_>) -> Result<Value, ApiError> {
    Ok(match variant {
        Variant::Bool(it) => Value::Bool(*it),
        Variant::U8(n) => Value::Integer((*n).into()),
        Variant::I16(n) => Value::Integer((*n).into()),
        Variant::U16(n) => Value::Integer((*n).into()),
        Variant::I32(n) => Value::Integer((*n).into()),
        Variant::U32(n) => Value::Integer((*n).into()),
        Variant::I64(n) => Value::Integer((*n).into()),
        Variant::U64(n) => Value::Integer((*n).into()),
        Variant::Str(text) => Value::Text(text.to_string()),
        // What is in a dictionary in a dictionary.
        Variant::Variant(inner) => return value(inner),
        Variant::ObjectPath(path) => match super::paths::thing(path.as_str()) {
            Some(thing) => Value::Object(thing),
            None => Value::Other("the path of nothing that is kept here".into()),
        },
        Variant::Array(array) => {
            Value::List(array.inner().iter().map(value).collect::<Result<_, _>>()?)
        }
        Variant::Structure(fields) => {
            Value::Tuple(fields.fields().iter().map(value).collect::<Result<_, _>>()?)
        }
        Variant::Dict(dict) => return map(dict),
        Variant::Fd(fd) => {
            let fd = fd.try_to_owned().map_err(|error| ApiError::internal(&error))?;
            Value::Fd(zbus::OwnedFd::from(fd).into())
        }
        other => Value::Other(format!("of type '{}'", other.value_signature())),
    })
}

fn map(dict: &zbus::Dict<'_, '_>) -> Result<Value, ApiError> {
    let mut values = std::collections::BTreeMap::new();
    for (key, it) in dict.iter() {
        let Variant::Str(key) = key else {
            return Ok(Value::Other(format!("of type '{}'", dict.signature())));
        };
        values.insert(key.to_string(), value(it)?);
    }
    Ok(Value::Map(values))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'v>(variant: impl Into<Variant<'v>>) -> Value {
        value(&variant.into()).unwrap()
    }

    #[test]
    fn each_type_is_read_as_what_it_is() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let map = HashMap::from([("a", "b")]);
        assert!(read(true).into_bool().unwrap());
        assert_eq!(read("x").into_text().unwrap(), "x");
        assert_eq!(read(vec!["x", "y"]).into_texts().unwrap(), ["x", "y"]);
        assert_eq!(read(vec![("x", 1_u8)]).into_numbers().unwrap(), [("x".to_owned(), 1)]);
        let limit = ("x".to_owned(), 1, 2);
        assert_eq!(read(vec![("x", 1_u64, 2_u64)]).into_limits().unwrap(), [limit]);
        assert_eq!(read(Vec::<String>::new()).into_texts().unwrap(), [""; 0]);
        assert_eq!(read(map).into_text_map().unwrap()["a"], "b");
        assert!(read(Variant::Fd((&reader).into())).into_fd().is_ok());
        for other in [Variant::from(1.5), HashMap::from([(1, "b")]).into()] {
            let signature = other.value_signature().to_string();
            assert_eq!(read(other).kind(), format!("of type '{signature}'"));
        }
    }

    proptest! {
        /// `gdbus` sends what looks like a number as int32, whatever the option wants.
        #[test]
        fn a_number_is_read_from_any_type_that_holds_it(n in any::<i64>()) {
            let held_by = |variant: Variant<'_>| read(variant).into_integer().unwrap();
            let wide = i128::from(n);
            prop_assert_eq!(held_by(n.into()), wide);
            if let Ok(n32) = i32::try_from(n) { prop_assert_eq!(held_by(n32.into()), wide); }
            if let Ok(n16) = u16::try_from(n) { prop_assert_eq!(held_by(n16.into()), wide); }
            if let Ok(n64) = u64::try_from(n) { prop_assert_eq!(held_by(n64.into()), wide); }
        }
    }
}
