//! How many bytes to ask for at once. A response is compressed, and librdkafka unpacks all of it before anything can be
//! taken: 4 MiB of equal records of 100 bytes in zstd become a gigabyte. How dense they are is known only once they are
//! there, so that fetches begin small and grow while what they become fits (as a TCP window does, RFC 5681).

/// The first limit, and the least: a broker sends one whole batch whatever the limit (KIP-74), and here no more.
pub(crate) const LEAST: u64 = 1 << 10;

/// How much more memory than bytes of a response records are taken to need where their bytes cannot be told.
const DENSE: u64 = 64;

/// What an answer says of a partition that it brings nothing of, in bytes.
const EMPTY: u64 = 64;

/// The limit of fetch responses, in bytes.
#[derive(Debug)]
pub(crate) struct FetchSize {
    limit: u64,
    most: u64,
    /// What all brokers' responses may become.
    share: u64,
    /// Totals when they were last looked at; `unpacked`: when the limit was last judged, `last`: when last looked at.
    received: u64,
    unpacked: u64,
    last: u64,
    /// Bytes of responses since then whose records are there, and those of the largest.
    bytes: u64,
    largest: u64,
}

/// What was seen by now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Bytes received from all brokers.
    pub(crate) received: u64,
    /// Bytes of memory of all records unpacked from them, gone or not.
    pub(crate) unpacked: u64,
    /// Brokers, which answer at the same time.
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
            received: 0,
            unpacked: 0,
            last: 0,
            bytes: 0,
            largest: 0,
        }
    }

    /// The present limit.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Forgets how dense records are: there are partitions that nothing is known of.
    pub(crate) fn restart(&mut self) {
        self.limit = LEAST.min(self.most);
        (self.bytes, self.largest) = (0, 0);
    }

    /// Looks at the totals; tells whether the limit changed.
    ///
    /// A broker's responses are unpacked one after the other: when the next comes, the records of those before are there.
    pub(crate) fn look(&mut self, seen: Seen) -> bool {
        let came = seen.received.saturating_sub(self.received);
        if came == 0 {
            return false;
        }
        self.received = seen.received;
        let held = seen.unpacked.saturating_sub(self.unpacked);
        let share = self.share / seen.brokers.max(1);
        let before = self.limit;
        let empty = seen.partitions * EMPTY;
        let became = seen.unpacked.saturating_sub(self.last);
        self.last = seen.unpacked;
        if empty > self.limit && became >= self.limit / 2 {
            // What an answer says of thousands of partitions hides what it brings, and whether it was full. What became
            // of it tells the least that it was.
            self.bytes = self.bytes.max(held / DENSE);
            self.largest = self.limit;
        }
        if self.bytes >= self.limit / 2 || held > share {
            self.judge(held, share);
            (self.unpacked, self.bytes, self.largest) = (seen.unpacked, 0, 0);
        }
        let data = came.saturating_sub(empty);
        self.bytes += data;
        self.largest = self.largest.max(data);
        self.limit != before
    }

    fn judge(&mut self, held: u64, share: u64) {
        if held == 0 {
            return;
        }
        let fits = u128::from(share) * u128::from(self.bytes) / u128::from(held);
        let fits = u64::try_from(fits)
            .unwrap_or(u64::MAX)
            .clamp(LEAST.min(self.most), self.most);
        if fits < self.limit {
            self.limit = fits;
        } else if self.largest >= self.limit / 2 {
            // Only what was asked for in full says that there is more. By the limit, not by what came: metadata came too.
            self.limit = fits.min(self.limit * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A broker that always has more, whose records take `density` times their bytes; gives the limit at the end, and the
    /// most that a response became.
    fn full_responses(size: &mut FetchSize, density: u64, brokers: u64) -> (u64, u64) {
        let (mut received, mut unpacked) = (size.received, size.unpacked);
        let mut most = 0;
        for _ in 0..40 {
            received += size.limit();
            // Told when it has come, unpacked when the next comes.
            let response = size.limit();
            size.look(Seen {
                received,
                unpacked,
                brokers,
                partitions: 0,
            });
            unpacked += response * density;
            most = most.max(response * density);
        }
        (size.limit(), most)
    }

    #[test]
    fn it_grows_to_what_fits() {
        for (density, brokers, limit) in [
            (1, 1, 4 * MIB),
            (8, 1, 4 * MIB),
            (16, 1, 2 * MIB),
            (1000, 1, 32 * MIB / 1000),
            (30_000, 1, 32 * MIB / 30_000),
            (1_000_000, 1, LEAST),
            (8, 4, MIB),
        ] {
            let mut size = FetchSize::new(4 * MIB, 32 * MIB);
            let (found, most) = full_responses(&mut size, density, brokers);
            assert!(
                found > limit * 9 / 10 && found <= limit,
                "{density}: {found}, not {limit}"
            );
            assert!(most <= 32 * MIB / brokers || found == LEAST, "{density}: {most}");
        }
    }

    #[test]
    fn it_follows_denser_records_at_once() {
        let mut size = FetchSize::new(4 * MIB, 32 * MIB);
        full_responses(&mut size, 2, 1);
        assert_eq!(size.limit(), 4 * MIB);
        let (limit, _) = full_responses(&mut size, 64, 1);
        assert!(limit <= MIB / 2, "{limit}");
        assert_eq!(full_responses(&mut size, 2, 1).0, 4 * MIB, "and comes back");
    }

    #[test]
    fn little_data_and_empty_answers_say_nothing() {
        let mut size = FetchSize::new(4 * MIB, 32 * MIB);
        let mut seen = Seen {
            received: 0,
            unpacked: 0,
            brokers: 1,
            partitions: 10_000,
        };
        for _ in 0..10_000 {
            seen.received += 10_000 * EMPTY + 200;
            seen.unpacked += 800;
            size.look(seen);
        }
        assert!(size.limit() <= 2 * LEAST, "{}", size.limit());
    }

    #[test]
    fn other_answers_make_it_no_more_than_double() {
        let mut size = FetchSize::new(4 * MIB, 32 * MIB);
        let mut seen = Seen {
            received: 50_000,
            unpacked: 0,
            brokers: 1,
            partitions: 0,
        };
        size.look(seen);
        (seen.received, seen.unpacked) = (51_000, 10 * MIB);
        size.look(seen);
        assert_eq!(size.limit(), 2 * LEAST);
    }

    /// 3,000 partitions in each answer, and batches of 16 KiB: what is brought is less than what is said of the others.
    #[test]
    fn many_partitions_do_not_keep_it_small() {
        let mut size = FetchSize::new(8 * MIB, 24 * MIB);
        let (mut received, mut unpacked) = (0, 0);
        for _ in 0..400 {
            let data = size.limit().max(16 << 10);
            received += 3_000 * 40 + data;
            size.look(Seen {
                received,
                unpacked,
                brokers: 1,
                partitions: 3_000,
            });
            unpacked += data * 4;
        }
        assert!(size.limit() > 4 * MIB, "{}", size.limit());
    }

    #[test]
    fn new_partitions_begin_small() {
        let mut size = FetchSize::new(4 * MIB, 32 * MIB);
        full_responses(&mut size, 2, 1);
        size.restart();
        assert_eq!(size.limit(), LEAST);
    }
}
