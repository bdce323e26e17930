//! How many bytes to ask for at once. A response is compressed, and librdkafka unpacks all of it before anything can be
//! taken: 4 MiB of equal records of 100 bytes in zstd become a gigabyte. How dense they are is known only once they are
//! there, so that fetches begin small and grow while what they become fits (as a TCP window does, RFC 5681).

/// The first limit, and the least: a broker sends one whole batch whatever the limit (KIP-74), and here no more.
pub(crate) const LEAST: u64 = 1 << 10;

/// How much more memory than bytes of a response records are taken to need where their bytes cannot be told.
const DENSE: u64 = 64;

/// What an answer says of a partition that it brings nothing of, in bytes.
const EMPTY: u64 = 64;

/// A broker is taken for idle when so many windows in a row, and twice as many as there are brokers, brought little from it.
const IDLE: u64 = 8;

/// Responses that may come at once from brokers taken for idle are together no more than so many times the share.
const SURPRISE: u64 = 3;

/// The limit grows to no more than so many times itself.
const GROWTH: u64 = 4;

/// A window says how dense records are when its responses are so many times those of which nobody knows how much is unpacked.
const SURE: u64 = 4;

/// The limit of fetch responses, in bytes. It is one for all brokers, and a partition that alone is busy shall not be slow
/// because its cluster is large: the share is divided among the brokers that bring something, and one more.
#[derive(Debug)]
pub(crate) struct FetchSize {
    limit: u64,
    most: u64,
    /// What all brokers' responses may become.
    share: u64,
    sources: Vec<Source>,
    /// Totals of memory: when the window began, and when it was last looked at.
    unpacked: u64,
    last: u64,
    /// In this window: bytes of responses whose records are there, and of these how many may have been there before it began.
    bytes: u64,
    before: u64,
    /// Bytes of its largest response.
    largest: u64,
}

/// A broker.
#[derive(Debug)]
struct Source {
    id: i32,
    /// Bytes it has sent.
    received: u64,
    /// Bytes of its last response, which may be unpacked in part.
    pending: u64,
    /// Bytes it has sent in this window.
    brought: u64,
    /// Windows in a row that brought little from it.
    idle: u64,
}

/// What was seen by now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// Ids of brokers, and bytes received from each.
    pub(crate) received: &'a [(i32, u64)],
    /// Bytes of memory of all records unpacked from them, gone or not.
    pub(crate) unpacked: u64,
    /// Brokers connected.
    pub(crate) brokers: u64,
    /// Partitions asked for.
    pub(crate) partitions: u64,
}

impl FetchSize {
    /// Begins with [`LEAST`] and grows to `most`, as long as what becomes of it stays within `share`.
    pub(crate) fn new(most: u64, share: u64) -> Self {
        Self {
            limit: LEAST.min(most),
            most,
            share,
            sources: Vec::new(),
            unpacked: 0,
            last: 0,
            bytes: 0,
            before: 0,
            largest: 0,
        }
    }

    /// The present limit.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Forgets how dense records are, and which brokers are idle: there are partitions that nothing is known of.
    pub(crate) fn restart(&mut self) {
        self.limit = LEAST.min(self.most);
        self.sources.iter_mut().for_each(|source| source.idle = 0);
        (self.bytes, self.before, self.largest) = (0, self.pending(), 0);
    }

    /// Looks at the totals; tells whether the limit changed.
    pub(crate) fn look(&mut self, seen: Seen<'_>) -> bool {
        let brokers = seen.brokers.max(1);
        let empty = seen.partitions * EMPTY;
        if !self.receive(seen.received, empty / brokers) {
            return false;
        }
        let held = seen.unpacked.saturating_sub(self.unpacked);
        let became = seen.unpacked.saturating_sub(self.last);
        self.last = seen.unpacked;
        if empty > self.limit && became >= self.limit / 2 {
            // What an answer says of thousands of partitions hides what it brings, and whether it was full. What became
            // of it tells the least that it was.
            self.bytes = self.bytes.max(self.before + held / DENSE);
            self.largest = self.limit;
        }
        let before = self.limit;
        let share = self.share / self.at_once(brokers);
        if (self.sure() >= self.limit / 2 || held > share) && self.judge(held, share) {
            self.unpacked = seen.unpacked;
            self.close_window();
        }
        self.limit != before
    }

    /// Takes in what each broker has sent, `empty` bytes of each answer being about partitions that it brings nothing of; tells
    /// whether there was anything.
    ///
    /// A broker's responses are unpacked one after the other: when the next comes, the records of those before are there. Of
    /// another broker's that says nothing. (It was taken to: a broker answered that it had nothing, while the response of a busy one was
    /// half unpacked; the other half seemed to come from nothing, and the limit fell to the least, every second or two.)
    fn receive(&mut self, received: &[(i32, u64)], empty: u64) -> bool {
        let mut any = false;
        for (id, received) in received {
            let known = self.sources.iter().position(|source| source.id == *id);
            let at = known.unwrap_or_else(|| {
                self.sources.push(Source {
                    id: *id,
                    received: 0,
                    pending: 0,
                    brought: 0,
                    idle: 0,
                });
                self.sources.len() - 1
            });
            let source = &mut self.sources[at];
            if *received == source.received {
                continue;
            }
            any = true;
            let data = received.saturating_sub(source.received).saturating_sub(empty);
            source.received = *received;
            self.bytes += std::mem::replace(&mut source.pending, data);
            source.brought += data;
            self.largest = self.largest.max(data);
        }
        any
    }

    /// Brokers whose responses must fit together.
    fn at_once(&self, brokers: u64) -> u64 {
        let busy = self
            .sources
            .iter()
            .filter(|source| source.idle < IDLE.max(2 * brokers));
        (busy.count() as u64 + 1)
            .max(brokers.div_ceil(SURPRISE))
            .min(brokers)
    }

    /// Judges by what the window's responses became; tells whether it is over.
    fn judge(&mut self, held: u64, share: u64) -> bool {
        if held == 0 {
            return true;
        }
        let fits = |bytes: u64| {
            let fits = u128::from(share) * u128::from(bytes) / u128::from(held);
            u64::try_from(fits)
                .unwrap_or(u64::MAX)
                .clamp(LEAST.min(self.most), self.most)
        };
        let pending = self.pending();
        let at_most = fits(self.bytes + pending);
        let long = self.sure() >= SURE * pending;
        let found = fits(if long { self.bytes } else { self.sure() });
        if at_most < self.limit {
            self.limit = at_most;
        } else if found < self.limit {
            if !long {
                return false;
            }
            self.limit = found;
        } else if self.largest >= self.limit / 2 {
            // Only what was asked for in full says that there is more. By the limit, not by what came: metadata came too.
            self.limit = found.min(self.limit * GROWTH);
        }
        true
    }

    /// Bytes of responses of which nobody knows how much is unpacked.
    fn pending(&self) -> u64 {
        self.sources.iter().map(|source| source.pending).sum()
    }

    /// Bytes of responses that were unpacked in this window.
    fn sure(&self) -> u64 {
        self.bytes.saturating_sub(self.before)
    }

    fn close_window(&mut self) {
        (self.bytes, self.before, self.largest) = (0, self.pending(), 0);
        for source in &mut self.sources {
            let little = std::mem::take(&mut source.brought) < self.limit / 8;
            source.idle = if little { source.idle + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests;
