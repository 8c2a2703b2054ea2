//! Ranges of ids, as podman writes them.

use crate::Failure;

/// Each is the first in the container, the first on the host, and how many.
pub(crate) fn map(ranges: &[String]) -> Result<Vec<(u32, u32, u32)>, Failure> {
    ranges.iter().map(|text| range(text)).collect()
}

fn range(text: &str) -> Result<(u32, u32, u32), Failure> {
    let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[inside, outside, size]) => Ok((inside, outside, size)),
        _ => Err(Failure::Usage(format!("'{text}' is not like 0:100000:65536"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_three_numbers() {
        let good = ["0:100000:65536".to_owned(), "65536:7:1".to_owned()];
        assert_eq!(map(&good).unwrap(), [(0, 100_000, 65_536), (65_536, 7, 1)]);
        for bad in ["", "0", "0:1", "0:1:2:3", "0:1:x", "0:-1:2", "0:1:4294967296"] {
            assert!(map(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
