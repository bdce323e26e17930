//! Whether a cluster counts as healthy, from checks at a fixed pace (INTERFACE `/health/region/{alias}`).

/// Checks in a row that must say otherwise before the answer turns. With one every 5 s the first and the third
/// are 10 s apart: a blip of less turns nothing, in either direction.
pub const CHECKS_TO_TURN: u32 = 3;

/// The health of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    healthy: Option<bool>,
    contrary: u32,
    failed: u32,
}

impl Health {
    /// Takes in the outcome of a check. Returns the new answer if this one turned it. A good first check answers at once; a
    /// failed one may be our own network, which is not there yet.
    pub fn check(&mut self, good: bool) -> Option<bool> {
        self.failed = if good { 0 } else { self.failed.saturating_add(1) };
        if self.healthy == Some(good) {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let first = self.healthy.is_none() && good;
        if !first && self.contrary < CHECKS_TO_TURN {
            return None;
        }
        (self.healthy, self.contrary) = (Some(good), 0);
        self.healthy
    }

    /// `None` before the first good check, or the third failed one.
    #[must_use]
    pub const fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// Checks that failed in a row until now.
    #[must_use]
    pub const fn failed_checks(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers after each check: `+` good, `-` failed, `?` not known.
    fn answers(checks: &str) -> String {
        let mut health = Health::default();
        let answer = |check| {
            health.check(check == '+');
            match health.healthy() {
                None => '?',
                Some(true) => '+',
                Some(false) => '-',
            }
        };
        checks.chars().map(answer).collect()
    }

    #[test]
    fn three_checks_in_a_row_turn_it_and_a_good_first_one_decides() {
        for (checks, expected) in [
            ("+", "+"),
            ("--+", "??+"),
            ("---", "??-"),
            ("+---", "+++-"),
            ("---+++", "??---+"),
            ("+--+--+--", "+++++++++"),
            ("---++-++-++", "??---------"),
            ("+---+--+++", "+++------+"),
        ] {
            assert_eq!(answers(checks), expected, "{checks}");
        }
    }

    #[test]
    fn it_says_once_that_it_turned() {
        let mut health = Health::default();
        assert_eq!(health.healthy(), None);
        let turned: Vec<_> = "+-----+++"
            .chars()
            .map(|check| (health.check(check == '+'), health.failed_checks()))
            .collect();
        let (no, up, down) = (None, Some(true), Some(false));
        assert_eq!(
            turned,
            [
                (up, 0),
                (no, 1),
                (no, 2),
                (down, 3),
                (no, 4),
                (no, 5),
                (no, 0),
                (no, 0),
                (up, 0)
            ]
        );
    }
}
