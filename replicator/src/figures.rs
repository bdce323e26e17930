//! Numbers as people read them.

/// Seconds as people say them: `0.42 s`, `37 s`, `12 min`, `3.5 h`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of things: `1 topic`, `2 topics`.
pub(crate) fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Milliseconds since 1970 as a time of day, in UTC.
pub(crate) fn moment(ms: u64) -> String {
    let moment = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(String::new, |moment| moment.strftime("%F %T UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let times = [
            (0.0, "0.00 s"),
            (9.99, "9.99 s"),
            (37.4, "37 s"),
            (600.0, "10 min"),
            (12_600.0, "3.5 h"),
        ];
        for (number, text) in times {
            assert_eq!(seconds(number), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (12_345_678.0, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
