//! Text that nobody may read by accident.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A password, a key or a token. It shows itself to who asks by name only: not when it is printed, and its memory is wiped at the end.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text, for whoever must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reveal() == other.reveal()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub value: Secret,
    /// From when it was good, in milliseconds since 1970.
    pub issued: i64,
    /// Until when it is, in milliseconds since 1970.
    pub expires: i64,
}

impl Token {
    /// Whether it may be used for something new at this time (milliseconds since 1970): a fifth of its time is left for what goes wrong
    /// meanwhile.
    #[must_use]
    pub fn is_fresh(&self, now: i64) -> bool {
        let life = self.expires.saturating_sub(self.issued).max(0);
        now < self.expires.saturating_sub(life / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_is_over() {
        let token = Token {
            value: "t".into(),
            issued: 1_000,
            expires: 1_900,
        };
        for (now, fresh) in [
            (1_000, true),
            (1_719, true),
            (1_720, false),
            (1_900, false),
            (9_000, false),
        ] {
            assert_eq!(token.is_fresh(now), fresh, "{now}");
        }
        // One that is over before it begins.
        let over = Token { expires: 10, ..token };
        assert!(!over.is_fresh(1_000));
    }

    #[test]
    fn it_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::from("planted"))), "Some((secret))");
        assert_eq!(Secret::from("a"), Secret::from("a".to_owned()));
    }
}
