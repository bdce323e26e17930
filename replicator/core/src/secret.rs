//! Text that nobody may read by accident.

use std::fmt;
use std::time::SystemTime;

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
    /// From when it was good.
    pub issued: SystemTime,
    /// Until when it is.
    pub expires: SystemTime,
}

impl Token {
    /// Whether it may be used for something new: a fifth of its time is left for what goes wrong meanwhile.
    #[must_use]
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        let life = self.expires.duration_since(self.issued).unwrap_or_default();
        now < self.expires.checked_sub(life / 5).unwrap_or(self.issued)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_is_over() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let token = Token {
            value: "t".into(),
            issued: at(1_000),
            expires: at(1_900),
        };
        for (now, fresh) in [
            (1_000, true),
            (1_719, true),
            (1_720, false),
            (1_900, false),
            (9_000, false),
        ] {
            assert_eq!(token.is_fresh(at(now)), fresh, "{now}");
        }
        // One that is over before it begins.
        let over = Token {
            expires: at(10),
            ..token
        };
        assert!(!over.is_fresh(at(1_000)));
    }

    #[test]
    fn it_is_not_printed() {
        assert_eq!(format!("{:?}", Some(Secret::from("planted"))), "Some((secret))");
        assert_eq!(Secret::from("a"), Secret::from("a".to_owned()));
    }
}
