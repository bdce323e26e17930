use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ROUTING: u64 = 0xfeed;

fn claims(generation: i32, slots: &[u16]) -> Option<Claims> {
    Some(Claims {
        generation,
        slot_count: SLOT_COUNT,
        slots: slots.iter().copied().map(Slot).collect(),
    })
}

fn member(name: &str, claims: Option<Claims>) -> Member {
    let subscription = Subscription {
        transactional_id: name.to_owned(),
        claims,
        fingerprint: ROUTING,
        incarnation: 0,
    };
    Member {
        id: format!("{name}-id"),
        subscription,
    }
}

fn round<'a>(members: &'a [Member], previous: Option<&'a Assignment>) -> Round<'a> {
    Round {
        members,
        leader: &members[0].id,
        weights: &[],
        previous,
        fresh: false,
    }
}

/// A group whose members do as they are told: they claim what the last assignment gave them.
struct Group {
    generation: i32,
    members: BTreeMap<String, BTreeSet<Slot>>,
    weights: Vec<u32>,
    last: Option<Assignment>,
}

impl Group {
    fn new(count: usize, weights: Vec<u32>) -> Self {
        let members = (0..count).map(|at| (format!("m{at}"), BTreeSet::new())).collect();
        Self {
            generation: 0,
            members,
            weights,
            last: None,
        }
    }

    fn joined(&self) -> Vec<Member> {
        let claims = |slots: &BTreeSet<Slot>| Claims {
            generation: self.generation,
            slot_count: SLOT_COUNT,
            slots: slots.clone(),
        };
        self.members
            .iter()
            .map(|(name, slots)| member(name, Some(claims(slots))))
            .collect()
    }

    /// One generation. Holds every rule that concerns a single one.
    fn rebalance(&mut self) -> Assignment {
        let members = self.joined();
        let round = Round {
            weights: &self.weights,
            ..round(&members, self.last.as_ref())
        };
        let assignment = assign(&round);
        assert_eq!(assignment, assign(&round), "the same for the same input");
        for (name, held) in &self.members {
            for slot in held {
                let owner = assignment.slots[usize::from(slot.0)].owner.as_deref();
                assert!(
                    owner.is_none_or(|owner| owner == name),
                    "{slot:?} taken from {name} and given away"
                );
            }
        }
        self.generation += 1;
        for (name, held) in &mut self.members {
            *held = assignment.slots_of(name);
        }
        let owned: usize = self.members.values().map(BTreeSet::len).sum();
        let given = assignment
            .slots
            .iter()
            .filter(|share| share.owner.is_some())
            .count();
        assert_eq!(owned, given, "every owner is one member");
        self.last = Some(assignment.clone());
        assignment
    }

    /// Two generations, after which all slots are owned; then a third changes nothing.
    fn settle(&mut self) {
        self.rebalance();
        let settled = self.rebalance();
        let owners = |of: &Assignment| {
            of.slots
                .iter()
                .map(|share| share.owner.clone())
                .collect::<Vec<_>>()
        };
        assert!(settled.slots.iter().all(|share| share.owner.is_some()));
        assert_eq!(
            owners(&self.rebalance()),
            owners(&settled),
            "nothing moves when nothing changed"
        );
        self.assert_balanced();
    }

    fn assert_balanced(&self) {
        let weight = |slot: &Slot| u64::from(self.weights.get(usize::from(slot.0)).copied().unwrap_or(0));
        let spread = |loads: Vec<u64>| {
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            (most - least, loads.iter().sum::<u64>() / loads.len() as u64)
        };
        let (difference, mean) = spread(
            self.members
                .values()
                .map(|slots| slots.iter().map(weight).sum())
                .collect(),
        );
        let largest = self.weights.iter().copied().max().map_or(0, u64::from);
        assert!(
            difference <= (largest + largest / 8).max(mean / 10),
            "weights differ by {difference}"
        );
        let idle = |slots: &BTreeSet<Slot>| slots.iter().filter(|slot| weight(slot) == 0).count() as u64;
        let (difference, mean) = spread(self.members.values().map(idle).collect());
        assert!(
            difference <= 1.max(mean / 10),
            "idle slots differ by {difference}"
        );
    }
}

#[test]
fn the_hash_is_known() {
    for (topic, partition, count, slot) in [
        ("orders", 0, 256, 236),
        ("orders", 1, 256, 237),
        ("orders", 255, 256, 235),
        ("a", 0, 256, 44),
        ("payments.eu-1", 7, 256, 151),
        ("orders", 0, 1, 0),
        ("orders", 3, 64, 47),
        ("orders", i32::MAX, 256, 235),
        ("", 0, 256, 197),
    ] {
        assert_eq!(
            slot_of(topic, partition, count),
            Slot(slot),
            "{topic}-{partition} of {count}"
        );
    }
}

#[test]
fn a_first_generation_gives_everything_at_once() {
    let members = [member("a", None), member("b", None), member("c", None)];
    let assignment = assign(&round(&members, None));
    let counts: Vec<usize> = ["a", "b", "c"].map(|name| assignment.slots_of(name).len()).into();
    assert_eq!(counts.iter().sum::<usize>(), 256);
    assert!(counts.iter().all(|count| (85..=86).contains(count)), "{counts:?}");
    assert!(
        assignment
            .slots
            .iter()
            .all(|share| share.last.is_none() && share.promised.is_none())
    );
}

#[test]
fn a_taken_slot_is_given_to_nobody_in_that_generation() {
    let all: Vec<u16> = (0..SLOT_COUNT).collect();
    let members = [member("a", claims(1, &all)), member("b", None)];
    let first = assign(&round(&members, None));
    assert_eq!(first.slots_of("a").len(), 128);
    assert_eq!(first.slots_of("b").len(), 0);
    let promised = first
        .slots
        .iter()
        .filter(|share| share.promised.as_deref() == Some("b"))
        .count();
    assert_eq!(promised, 128);

    let kept: Vec<u16> = first.slots_of("a").iter().map(|slot| slot.0).collect();
    let members = [member("a", claims(2, &kept)), member("b", None)];
    let second = assign(&round(&members, Some(&first)));
    assert_eq!(second.slots_of("a"), first.slots_of("a"));
    assert_eq!(second.slots_of("b").len(), 128);
    for (slot, share) in second.each() {
        assert_eq!(share.last.as_deref(), Some("a"), "{slot:?} was held by a before");
    }
}

#[test]
fn only_the_newest_claims_count() {
    let members = [
        member("a", claims(4, &[0, 1])),
        member("b", claims(5, &[1, 2])),
        member("c", claims(5, &[2])),
    ];
    let assignment = assign(&round(&members, None));
    // 0: claimed by a member that missed a generation, so it is free.
    assert!(assignment.slots[0].owner.is_some());
    assert_eq!(assignment.slots[1].owner.as_deref(), Some("b"));
    // 2: claimed twice in the newest generation, so neither keeps it.
    assert_eq!(assignment.slots[2].owner, None);
    assert!(assignment.slots[2].promised.is_some());
}

#[test]
fn members_with_other_routing_get_nothing_and_are_named() {
    let mut members = [
        member("a", None),
        member("b", claims(3, &[7])),
        member("c", None),
        member("c", None),
    ];
    members[1].subscription.fingerprint = 1;
    members[3].id = "another".into();
    let assignment = assign(&round(&members, None));
    assert_eq!(
        assignment.mismatched,
        BTreeSet::from(["b".to_owned(), "c".to_owned()])
    );
    assert_eq!(assignment.slots_of("a").len(), 255);
    let taken = Share {
        owner: None,
        promised: Some("a".into()),
        last: Some("b".into()),
    };
    assert_eq!(assignment.slots[7], taken);
}

#[test]
fn without_a_leader_nobody_gets_anything() {
    let members = [member("a", None)];
    let assignment = assign(&Round {
        leader: "gone",
        ..round(&members, None)
    });
    assert!(assignment.slots.iter().all(|share| share.owner.is_none()));
}

#[test]
fn the_number_of_slots_follows_the_claims_while_there_are_any() {
    let sixteen = Claims {
        generation: 3,
        slot_count: 16,
        slots: BTreeSet::from([Slot(2)]),
    };
    let members = [member("a", None), member("b", Some(sixteen))];
    let first = assign(&round(&members, None));
    assert_eq!(first.slot_count(), 16);
    let members = [member("a", None)];
    assert_eq!(assign(&round(&members, Some(&first))).slot_count(), 16);
}

#[test]
fn an_orphans_slot_names_its_last_holder() {
    let mut group = Group::new(2, Vec::new());
    group.settle();
    let orphaned = group.members.remove("m1").unwrap();
    let assignment = group.rebalance();
    for slot in orphaned {
        let share = &assignment.slots[usize::from(slot.0)];
        assert_eq!(
            (share.owner.as_deref(), share.last.as_deref()),
            (Some("m0"), Some("m1"))
        );
    }
}

#[test]
fn a_restarted_member_gets_back_what_it_had() {
    let mut group = Group::new(3, Vec::new());
    group.settle();
    let had = group.members.insert("m1".into(), BTreeSet::new()).unwrap();
    group.rebalance();
    assert_eq!(group.members["m1"], had);
}

#[test]
fn small_differences_move_nothing() {
    let mut group = Group::new(4, vec![100; 256]);
    group.settle();
    let before = group.members.clone();
    group.weights = (0..256).map(|slot| 95 + slot % 11).collect();
    group.rebalance();
    assert_eq!(group.members, before);
}

#[test]
fn a_new_member_gets_its_share_with_few_moves() {
    let mut group = Group::new(3, vec![10; 256]);
    group.settle();
    group.members.insert("m9".into(), BTreeSet::new());
    let moved = group
        .rebalance()
        .slots
        .iter()
        .filter(|share| share.promised.is_some())
        .count();
    assert!((60..=64).contains(&moved), "{moved}");
    group.settle();
}

#[test]
fn slots_that_nobody_holds_move_first() {
    let wish = |held, expected| balance::Wish {
        weight: 1,
        held,
        expected,
    };
    let wishes = [
        wish(Some(0), None),
        wish(Some(0), None),
        wish(None, Some(0)),
        wish(None, Some(0)),
    ];
    assert_eq!(balance::divide(&wishes, 2), [Some(0), Some(0), Some(1), Some(1)]);
    let three = [&wishes[..], &[wish(None, Some(0))]].concat();
    assert_eq!(
        balance::divide(&three, 2),
        [Some(0), Some(0), Some(1), Some(1), Some(0)]
    );
}

proptest! {
    #[test]
    fn a_group_settles_in_two_generations(
        count in 1_usize..8, weights in vec(prop_oneof![Just(0), 0_u32..1000, any::<u32>()], 0..=256),
        joins in 0_usize..4, leaves in any::<prop::sample::Index>(), new in vec(0_u32..1000, 0..=256),
    ) {
        let mut group = Group::new(count, weights);
        group.settle();
        for at in 0..joins {
            group.members.insert(format!("n{at}"), BTreeSet::new());
        }
        group.settle();

        let names: Vec<String> = group.members.keys().cloned().collect();
        if names.len() > 1 {
            let before = group.members.clone();
            group.members.remove(leaves.get(&names));
            group.rebalance();
            for (name, slots) in &group.members {
                prop_assert!(before[name].is_subset(slots), "only the slots of the one that left move");
            }
            let owned: usize = group.members.values().map(BTreeSet::len).sum();
            prop_assert_eq!(owned, 256, "and they have an owner at once");
        }
        group.weights = new;
        group.settle();
    }

    /// Claims as only faults can make them: whatever they are, a slot has one owner, and one that a living
    /// member holds goes to nobody else.
    #[test]
    fn faulty_claims_never_double_a_slot(
        said in vec((proptest::option::of((0_i32..3, vec(0_u16..256, 0..80))), any::<bool>()), 1..6),
    ) {
        let members: Vec<Member> = said.iter().enumerate().map(|(at, (held, same))| {
            let held = held.as_ref().and_then(|(generation, slots)| claims(*generation, slots));
            let mut member = member(&format!("m{at}"), held);
            member.subscription.fingerprint = if *same { ROUTING } else { 1 };
            member
        }).collect();
        let assignment = assign(&round(&members, None));
        let held = members.iter().filter_map(|member| member.subscription.claims.as_ref());
        let newest = held.filter(|claims| !claims.slots.is_empty()).map(|claims| claims.generation).max();
        for (slot, share) in assignment.each() {
            let holds = |member: &&Member| member.subscription.claims.as_ref()
                .is_some_and(|claims| Some(claims.generation) == newest && claims.slots.contains(&slot));
            let holders: Vec<&str> =
                members.iter().filter(holds).map(|member| &*member.subscription.transactional_id).collect();
            match (holders.as_slice(), share.owner.as_deref()) {
                ([], owner) => prop_assert!(owner.is_some()),
                ([one], Some(owner)) => prop_assert_eq!(*one, owner),
                (_, owner) => prop_assert_eq!(owner, None),
            }
            prop_assert!(share.owner.is_none() || share.promised.is_none());
        }
        prop_assert_eq!(Assignment::decode(&assignment.encode().unwrap()), Ok(assignment));
    }

    #[test]
    fn subscriptions_round_trip(
        name in ".{1,20}", fingerprint: u64, held in proptest::option::of((0..=i32::MAX, vec(0_u16..256, 0..20))),
    ) {
        let claims = held.and_then(|(generation, slots)| claims(generation, &slots));
        let said = Subscription { transactional_id: name, claims, fingerprint, incarnation: fingerprint };
        prop_assert_eq!(Subscription::decode(&said.encode().unwrap()), Ok(said));
    }

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes: Vec<u8>, at: prop::sample::Index, with: u8) {
        let _ = (Subscription::decode(&bytes), Assignment::decode(&bytes));
        let members = [member("a", claims(1, &[3])), member("b", None)];
        let mut said = members[0].subscription.encode().unwrap();
        *at.get_mut(&mut said) = with;
        let _ = Subscription::decode(&said);
        let mut told = assign(&round(&members, None)).encode().unwrap();
        *at.get_mut(&mut told) = with;
        if let Ok(read) = Assignment::decode(&told) {
            prop_assert!((1..=MAX_SLOT_COUNT).contains(&read.slot_count()));
        }
    }
}

#[test]
fn subscriptions_that_are_refused() {
    let said = |text: &str| Subscription::decode(text.replace('\'', "\"").as_bytes());
    let good = "{'version':1,'transactional_id':'a','fingerprint':'00000000000000ff','later':{}}";
    assert_eq!(said(good).map(|said| said.fingerprint), Ok(0xff));
    for bad in [
        "",
        "[]",
        "{'version':2,'transactional_id':7}",
        "{'version':1,'transactional_id':'','fingerprint':'00000000000000ff'}",
        "{'version':1,'transactional_id':'a','fingerprint':'ff'}",
        "{'version':1,'transactional_id':'a','fingerprint':'+0000000000000ff'}",
        "{'version':1,'transactional_id':'a','fingerprint':'00000000000000FF'}",
    ] {
        assert!(said(bad).is_err(), "{bad}");
    }
    assert!(matches!(
        said("{'version':2}"),
        Err(SlotsError::Version { version: 2, .. })
    ));
    for (generation, count, slot, good) in [
        (0, 1, 0, true),
        (5, 4096, 4095, true),
        (-1, 8, 0, false),
        (0, 0, 0, false),
        (0, 4097, 0, false),
        (0, 8, 8, false),
    ] {
        let claims = format!("{{'generation':{generation},'slot_count':{count},'slots':[{slot}]}}");
        let text = format!(
            "{{'version':1,'transactional_id':'a','fingerprint':'00000000000000ff','claims':{claims}}}"
        );
        assert_eq!(said(&text).is_ok(), good, "{claims}");
    }
}

#[test]
fn assignments_that_are_refused() {
    let told = |slot_count: &str, members: &str, owners: &str, promised: &str| {
        let text = format!(
            "{{'version':1,'fresh':[7],'slot_count':{slot_count},'members':{members},'owners':{owners},\
             'promised':{promised},'last':[null],'mismatched':[]}}"
        );
        Assignment::decode(text.replace('\'', "\"").as_bytes())
    };
    let share = Share {
        owner: Some("a".into()),
        ..Share::default()
    };
    assert_eq!(
        told("1", "['a']", "[0]", "[null]").map(|told| told.slots),
        Ok(vec![share])
    );
    for (slot_count, members, owners, promised) in [
        ("0", "[]", "[]", "[]"),
        ("2", "['a']", "[0]", "[null]"),
        ("1", "['a']", "[1]", "[null]"),
        ("1", "['a']", "[-1]", "[null]"),
        ("1", "['']", "[0]", "[null]"),
        ("1", "['a']", "[0]", "[0]"),
        ("1", "['a']", "[0,0]", "[null]"),
        ("65536", "['a']", "[0]", "[null]"),
    ] {
        assert!(
            told(slot_count, members, owners, promised).is_err(),
            "{slot_count} {members} {owners}"
        );
    } // It would be in memory once for each place of the tables.
    let name = |length: usize| format!("['{}']", "x".repeat(length));
    assert!(told("1", &name(1_000), "[0]", "[null]").is_ok());
    assert!(told("1", &name(1_001), "[0]", "[null]").is_err());
}
