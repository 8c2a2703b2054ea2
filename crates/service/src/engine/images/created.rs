//! The time in an image's configuration.

use crate::engine::clock::Usec;

/// A time by RFC 3339, as in `2024-02-29T23:59:59.123456789+01:00`; `None` if it is none, or before
/// 1970.
pub(in crate::engine) fn parse(text: &str) -> Option<Usec> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
        None => ("0", rest),
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !in_range || second > 60 || fraction.is_empty() {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(seconds - offset(zone)?).ok()?;
    let micros: u64 = format!("{fraction:0<6.6}").parse().ok()?;
    Some(Usec(seconds.checked_mul(1_000_000)? + micros))
}

/// The opposite of [`parse`], as UTC.
pub(in crate::engine) fn format(time: Usec) -> String {
    let (seconds, micros) = (time.0 / 1_000_000, time.0 % 1_000_000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date((seconds / 86_400).cast_signed());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// The opposite of [`days`]: a guess that is never late, and then year by year and month by month.
fn date(day: i64) -> (i64, i64, i64) {
    let mut year = 1970 + day / 366;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= day {
        month += 1;
    }
    (year, month, day - days(year, month, 1) + 1)
}

/// Seconds that a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next()? {
        'Z' | 'z' if zone.len() == 1 => return Some(0),
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(&zone[1..], ':')?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[i64; N]> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let parts: Option<Vec<i64>> = text.split(between).map(number).collect();
    parts?.try_into().ok()
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years begin in March here, so that the
/// day that is not in every year is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From March on the months have 31, 30, 31, 30, 31 days, over and over.
    let in_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_date_says() {
        // By `date -d TEXT +%s`.
        for (text, seconds, micros) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T23:59:59.123456789Z", 1_709_251_199, 123_456),
            ("2024-03-01T00:59:59.5+01:00", 1_709_251_199, 500_000),
            ("2000-12-31t12:00:00-05:30", 978_283_800, 0),
            ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
        ] {
            assert_eq!(parse(text), Some(Usec(seconds * 1_000_000 + micros)), "{text}");
        }
    }

    #[test]
    fn a_time_is_read_back_from_its_text() {
        let step = 86_400 * 1_000_000 * 17 + 12_345_678_901;
        for time in (0..).map(|n| n * step).take_while(|time| *time < 7_000_000_000_000_000) {
            assert_eq!(parse(&format(Usec(time))), Some(Usec(time)), "{}", format(Usec(time)));
        }
        assert_eq!(format(Usec(951_782_399_000_001)), "2000-02-28T23:59:59.000001Z");
        assert_eq!(format(Usec(951_782_400_000_000)), "2000-02-29T00:00:00.000000Z");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "now",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2024-01-01T\u{e4}0:00:00Z",
            "+024-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
