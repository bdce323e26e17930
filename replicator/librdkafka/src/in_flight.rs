//! Records handed to the producer and not yet settled.

use kuroshio_core::types::Lane;

use crate::native::{Consumed, Handle};
use crate::properties::OVERHEAD;

/// A record that the producer holds.
pub(crate) struct Ticket {
    pub(crate) lane: Lane,
    /// Where its lane lies in the lane table, as long as it is there.
    pub(crate) slot: usize,
    pub(crate) offset: i64,
    /// Key, value and headers as written.
    pub(crate) bytes: u64,
    pub(crate) timestamp: i64,
    /// Its value is what the producer reads: it lives as long as the ticket.
    pub(crate) message: Consumed,
}

/// A slab of tickets. A ticket's number goes through the producer and comes back with the delivery report.
pub(crate) struct InFlight {
    tickets: Vec<Option<Ticket>>,
    free: Vec<usize>,
    bytes: u64,
    count: u64,
    limit: u64,
    // Behind the tickets, so that it is dropped later: their messages are its.
    _consumer: Handle,
}

impl InFlight {
    /// Empty; full at `limit` bytes including overhead.
    pub(crate) fn new(consumer: Handle, limit: u64) -> Self {
        Self {
            tickets: Vec::new(),
            free: Vec::new(),
            bytes: 0,
            count: 0,
            limit,
            _consumer: consumer,
        }
    }

    /// The number that [`InFlight::put`] will use.
    pub(crate) fn next(&self) -> usize {
        self.free.last().copied().unwrap_or(self.tickets.len())
    }

    /// Keeps a ticket under the number that [`InFlight::next`] told.
    pub(crate) fn put(&mut self, ticket: Ticket) {
        self.bytes += ticket.bytes;
        self.count += 1;
        match self.free.pop() {
            Some(at) => self.tickets[at] = Some(ticket),
            None => self.tickets.push(Some(ticket)),
        }
    }

    /// Gives a ticket back.
    pub(crate) fn settle(&mut self, at: usize) -> Option<Ticket> {
        let ticket = self.tickets.get_mut(at)?.take()?;
        self.free.push(at);
        self.bytes -= ticket.bytes;
        self.count -= 1;
        Some(ticket)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes + self.count * OVERHEAD >= self.limit
    }

    /// Tickets that there is memory for, as many as were ever in flight at once.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.tickets.len()
    }
}
