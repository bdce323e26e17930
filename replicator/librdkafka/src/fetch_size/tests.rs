use super::*;

const MIB: u64 = 1 << 20;

/// A broker that always has more, whose records take `density` times their bytes; gives the limit at the end, and the
/// most that a response became.
fn full_responses(size: &mut FetchSize, density: u64, brokers: u64) -> (u64, u64) {
    let mut received = size.sources.first().map_or(0, |source| source.received);
    let mut unpacked = size.last;
    let mut most = 0;
    for _ in 0..40 {
        received += size.limit();
        // Told when it has come, unpacked when the next comes.
        let response = size.limit();
        size.look(Seen {
            received: &[(1, received)],
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
        (8, 4, 2 * MIB),
    ] {
        let mut size = FetchSize::new(4 * MIB, 32 * MIB);
        let (found, most) = full_responses(&mut size, density, brokers);
        assert!(
            found > limit * 9 / 10 && found <= limit,
            "{density}: {found}, not {limit}"
        );
        // One that brings something, and one more.
        let at_once = brokers.min(2);
        assert!(most <= 32 * MIB / at_once || found == LEAST, "{density}: {most}");
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
    for answers in 1..10_000 {
        size.look(Seen {
            received: &[(1, answers * (10_000 * EMPTY + 200))],
            unpacked: answers * 800,
            brokers: 1,
            partitions: 10_000,
        });
    }
    assert!(size.limit() <= GROWTH * LEAST, "{}", size.limit());
}

#[test]
fn other_answers_say_little() {
    let mut size = FetchSize::new(4 * MIB, 32 * MIB);
    for (received, unpacked) in [(50_000, 0), (51_000, 10 * MIB)] {
        size.look(Seen {
            received: &[(1, received)],
            unpacked,
            brokers: 1,
            partitions: 0,
        });
    }
    assert!(size.limit() <= GROWTH * LEAST, "{}", size.limit());
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
            received: &[(1, received)],
            unpacked,
            brokers: 1,
            partitions: 3_000,
        });
        unpacked += data * 4;
    }
    assert!(size.limit() > 4 * MIB, "{}", size.limit());
}

/// Brokers in turn send full responses, records of eight times their bytes; gives the limit at the end.
fn in_turn(size: &mut FetchSize, received: &mut [(i32, u64)], busy: usize) -> u64 {
    let brokers = received.len() as u64;
    let mut unpacked = size.last;
    for turn in 0..2_000 {
        received[turn % busy].1 += size.limit();
        // Metadata.
        received[turn % received.len()].1 += 100;
        let response = size.limit();
        size.look(Seen {
            received,
            unpacked,
            brokers,
            partitions: 0,
        });
        unpacked += response * 8;
    }
    size.limit()
}

#[test]
fn the_share_is_divided_among_those_that_bring_something() {
    const SHARE: u64 = 48 * MIB;
    for (brokers, busy, at_once) in [
        (1, 1, 1),
        (2, 1, 2),
        (3, 1, 2),
        (3, 2, 3),
        (3, 3, 3),
        (12, 1, 4),
        (12, 6, 7),
        (12, 12, 12),
        (100, 1, 34),
    ] {
        let mut size = FetchSize::new(16 * MIB, SHARE);
        let mut received: Vec<_> = (1..=brokers).map(|id| (id, 0)).collect();
        let limit = in_turn(&mut size, &mut received, busy);
        let right = SHARE / 8 / at_once;
        assert!(
            limit > right * 8 / 10 && limit <= right * 101 / 100,
            "{busy} of {brokers}: {limit}, not {right}"
        );
    }
}

/// A broker says that it has nothing, while what another one sent is half unpacked.
#[test]
fn idle_brokers_do_not_disturb_it() {
    const RIGHT: u64 = 48 * MIB / 8 / 2;
    let mut size = FetchSize::new(16 * MIB, 48 * MIB);
    let (mut received, mut unpacked) = ([(1, 0), (2, 0), (3, 0)], 0);
    for turn in 0..1_000 {
        let look = |size: &mut FetchSize, received: &[(i32, u64)], unpacked| {
            size.look(Seen {
                received,
                unpacked,
                brokers: 3,
                partitions: 24,
            });
        };
        let response = size.limit().max(92_000);
        received[0].1 += response;
        look(&mut size, &received, unpacked);
        for idle in [1, 2] {
            unpacked += response * 2;
            if turn % 5 == idle {
                received[idle].1 += 300;
                look(&mut size, &received, unpacked);
            }
        }
        unpacked += response * 4;
        assert!(size.limit() <= RIGHT, "{turn}: {}", size.limit());
        assert!(turn < 60 || size.limit() > RIGHT / 2, "{turn}: {}", size.limit());
    }
}

#[test]
fn brokers_that_become_busy_get_their_part_soon() {
    let mut size = FetchSize::new(16 * MIB, 48 * MIB);
    let mut received: Vec<_> = (1..=6).map(|id| (id, 0)).collect();
    let alone = in_turn(&mut size, &mut received, 1);
    let all = in_turn(&mut size, &mut received, 6);
    assert!(all < alone / 2, "{all}, {alone}");
    assert!(
        in_turn(&mut size, &mut received, 1) > all * 2,
        "and the others theirs"
    );
}

#[test]
fn new_partitions_begin_small() {
    let mut size = FetchSize::new(4 * MIB, 32 * MIB);
    full_responses(&mut size, 2, 1);
    size.restart();
    assert_eq!(size.limit(), LEAST);
}
