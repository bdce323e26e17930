//! Parts of a link that are held up or cut, each by itself.

use tokio::sync::watch;

use super::State;

/// One of the directions of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What clients ask.
    ToBroker,
    /// What brokers answer.
    FromBroker,
}

/// A part of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What leads to this broker, by its number from 1; none: to all.
    pub broker: Option<usize>,
    /// One direction of it; none: both.
    pub direction: Option<Direction>,
}

/// Why nothing goes through; the later one counts where both hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Traffic {
    /// Nothing arrives, and nothing is lost.
    Stalled,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
}

/// All that is held up or cut at a moment.
#[derive(Debug, Default)]
pub(super) struct Holds {
    pub(super) whole: Option<Traffic>,
    parts: Vec<(u64, Part, Traffic)>,
    next: u64,
}

impl Holds {
    /// What holds for a connection to broker `number`: in this direction; none: in either.
    pub(super) fn of(&self, number: usize, direction: Option<Direction>) -> Option<Traffic> {
        let concerns = |part: &Part| {
            part.broker.is_none_or(|broker| broker == number)
                && (part.direction.is_none() || direction.is_none() || part.direction == direction)
        };
        let parts = self.parts.iter().filter(|(_, part, _)| concerns(part));
        parts.map(|(_, _, traffic)| *traffic).chain(self.whole).max()
    }
}

/// Holds a part of a link up, or cuts it, until dropped.
#[derive(Debug)]
pub struct Held {
    state: watch::Sender<State>,
    number: u64,
}

impl Held {
    pub(super) fn new(state: &watch::Sender<State>, part: Part, traffic: Traffic) -> Self {
        let mut number = 0;
        state.send_modify(|state| {
            number = state.holds.next;
            state.holds.next += 1;
            state.holds.parts.push((number, part, traffic));
        });
        Self {
            state: state.clone(),
            number,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state
            .send_modify(|state| state.holds.parts.retain(|(number, _, _)| *number != self.number));
    }
}
