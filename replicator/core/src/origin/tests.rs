use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const KEY: &[u8] = b"k";
const VALUE: &[u8] = b"v";

fn guard(topic: &str, target_topic: &str, forward: Forward) -> Guard {
    Guard::new("tw", topic, 3, "jp", target_topic, forward).unwrap()
}

/// The text of a tag with these hops that fits the record `KEY`, `VALUE`.
fn fitting(hops: &str) -> Vec<u8> {
    let check = check(Some(KEY), Some(VALUE)).text();
    format!("{hops}#{}", std::str::from_utf8(&check).unwrap()).into_bytes()
}

#[test]
fn check_is_crc32c_in_base64url() {
    assert_eq!(check(None, Some(b"123456789")).text(), *b"4waSgw");
    assert_eq!(check(Some(b"1234"), Some(b"56789")).text(), *b"4waSgw");
    assert_eq!(check(None, None), check(Some(b""), Some(b"")));
    assert_eq!(check(None, None).text(), *b"AAAAAA");
}

#[test]
fn well_formed_tags() {
    for text in [
        "tw/orders/3/8814#q8Jx0w",
        "tw/orders/3/8814>jp/orders/3/90210#q8Jx0w",
        "tw/orders/3/8814=tw.orders#q8Jx0w",
        "a/b/0/0#AAAAAA",
        "A-._9/_/2147483647/9223372036854775807=-#_____w",
        "a/b/0/0>b/b/0/1>c/b/0/2>d/b/0/3>e/b/0/4>f/b/0/5>g/b/0/6>h/b/0/7#AAAAAA",
    ] {
        assert!(Tag::parse(text.as_bytes()).is_some(), "{text}");
    }
    let tag = Tag::parse(b"tw/orders/3/8814=x>jp/x/3/90210#q8Jx0w").unwrap();
    assert_eq!(tag.birth().cluster, "tw");
    assert_eq!((tag.birth().topic, tag.birth().lands_in()), ("orders", "x"));
    assert_eq!(
        (tag.last().offset, tag.last().lands_in()),
        (SourceOffset(90210), "x")
    );
    assert_eq!(tag.hops().count(), 2);
}

#[test]
fn anything_else_is_no_tag() {
    for text in [
        "",
        "#",
        "#AAAAAA",
        "tw",
        "tw/orders/3/8814",
        "tw/orders/3#AAAAAA",
        "tw/orders/3/8814/1#AAAAAA",
        "/orders/3/8814#AAAAAA",
        "tw//3/8814#AAAAAA",
        "tw/ord ers/3/8814#AAAAAA",
        "tw/ord\u{e9}rs/3/8814#AAAAAA",
        "tw/orders/+3/8814#AAAAAA",
        "tw/orders/-3/8814#AAAAAA",
        "tw/orders/03/8814#AAAAAA",
        "tw/orders//8814#AAAAAA",
        "tw/orders/3/#AAAAAA",
        "tw/orders/3/08#AAAAAA",
        "tw/orders/3/-1#AAAAAA",
        "tw/orders/2147483648/1#AAAAAA",
        "tw/orders/3/9223372036854775808#AAAAAA",
        "tw/orders/3/1=#AAAAAA",
        "tw/orders/3/1=a=b#AAAAAA",
        "tw/orders/3/1=orders#AAAAAA",
        "tw/orders/3/1>#AAAAAA",
        ">tw/orders/3/1#AAAAAA",
        "tw/orders/3/1>>tw/orders/3/1#AAAAAA",
        "tw/orders/3/1#AAAAA",
        "tw/orders/3/1#AAAAAAA",
        "tw/orders/3/1#AAAAAA==",
        "tw/orders/3/1#AAAA+/",
        "tw/orders/3/1#AAAAAB",
        "tw/orders/3/1#AAAAAA#AAAAAA",
        "tw/orders/3/1 #AAAAAA",
        "a/b/0/0>b/b/0/1>c/b/0/2>d/b/0/3>e/b/0/4>f/b/0/5>g/b/0/6>h/b/0/7>i/b/0/8#AAAAAA",
    ] {
        assert_eq!(Tag::parse(text.as_bytes()), None, "{text}");
    }
    assert_eq!(Tag::parse(b"tw/orders/3/1\xff#AAAAAA"), None);
}

#[test]
fn a_tag_explains_only_its_own_record() {
    let fits = check(Some(KEY), Some(VALUE));
    let other = check(Some(KEY), Some(b"w"));
    for (hops, topic, partition, check, explained) in [
        ("jp/orders/3/7", "orders", 3, fits, true),
        ("jp/orders/3/7", "orders", 2, fits, false),
        ("jp/orders/3/7", "orders.retry", 3, fits, false),
        ("jp/orders/3/7", "orders", 3, other, false),
        ("jp/orders/3/7=jp.orders", "jp.orders", 3, fits, true),
        ("jp/orders/3/7=jp.orders", "orders", 3, fits, false),
        ("us/orders/3/7>jp/orders/3/9", "orders", 3, fits, true),
        ("us/orders/3/7=a>jp/a/3/9=b", "a", 3, fits, false),
        ("us/orders/3/7=a>jp/a/3/9=b", "b", 3, fits, true),
    ] {
        assert_eq!(
            explains(&fitting(hops), topic, partition, check),
            explained,
            "{hops} at {topic}-{partition}"
        );
    }
}

#[test]
fn judge_table() {
    const EIGHT: &str = "a/t/3/0>b/t/3/1>c/t/3/2>d/t/3/3>e/t/3/4>f/t/3/5>g/t/3/6>h/t/3/7";
    let born: Result<Option<&str>, SkipReason> = Ok(None);
    for (forward, tags, expected) in [
        (Forward::Local, vec![], born),
        (Forward::Local, vec!["jp/t/3/9"], Err(SkipReason::Replicated)),
        (Forward::Local, vec!["jp/t/2/9"], born),
        (Forward::Local, vec!["jp/other/3/9"], born),
        (
            Forward::Local,
            vec!["jp/other/3/9=t"],
            Err(SkipReason::Replicated),
        ),
        (
            Forward::Local,
            vec!["jp/t/2/9", "jp/t/3/9"],
            Err(SkipReason::Replicated),
        ),
        (
            Forward::Local,
            vec!["jp/t/3/9", "nonsense"],
            Err(SkipReason::Replicated),
        ),
        (Forward::Local, vec!["nonsense"], born),
        (Forward::Relay, vec![], born),
        (Forward::Relay, vec!["jp/t/3/9"], Err(SkipReason::Loop)),
        (Forward::Relay, vec!["jp/t/3/9>us/t/3/1"], Err(SkipReason::Loop)),
        (Forward::Relay, vec!["us/t/3/1"], Ok(Some("us/t/3/1"))),
        (
            Forward::Relay,
            vec!["us/t/3/1", "jp/t/3/9"],
            Err(SkipReason::Loop),
        ),
        (Forward::Relay, vec!["jp/t/2/9", "us/t/3/1"], Ok(Some("us/t/3/1"))),
        (
            Forward::Relay,
            vec!["us/t/3/1", "de/t/3/0>us/t/3/1"],
            Ok(Some("de/t/3/0>us/t/3/1")),
        ),
        (Forward::Relay, vec!["jp/t/2/9"], born),
        (Forward::Relay, vec![EIGHT], Err(SkipReason::TooManyHops)),
        (Forward::Local, vec![EIGHT], Err(SkipReason::Replicated)),
    ] {
        let values: Vec<Vec<u8>> = tags.iter().map(|hops| fitting(hops)).collect();
        let verdict =
            guard("t", "t", forward).judge(values.iter().map(Vec::as_slice), Some(KEY), Some(VALUE));
        let expected = match expected {
            Err(reason) => Verdict::Skip(reason),
            Ok(hops) => Verdict::Forward {
                earlier: hops.map(str::as_bytes),
                check: check(Some(KEY), Some(VALUE)),
            },
        };
        assert_eq!(verdict, expected, "{forward:?} {tags:?}");
    }
}

#[test]
fn an_altered_copy_is_born_anew() {
    let tag = fitting("jp/t/3/9");
    let verdict = guard("t", "t", Forward::Local).judge([tag.as_slice()], Some(KEY), Some(b"altered"));
    assert!(matches!(verdict, Verdict::Forward { earlier: None, .. }));
}

#[test]
fn written_tags() {
    let check = check(None, Some(b"123456789"));
    for (target_topic, earlier, expected) in [
        ("orders", None, "tw/orders/3/8814#4waSgw"),
        ("tw.orders", None, "tw/orders/3/8814=tw.orders#4waSgw"),
        (
            "orders",
            Some("us/orders/3/1"),
            "us/orders/3/1>tw/orders/3/8814#4waSgw",
        ),
    ] {
        let mut out = b"kept".to_vec();
        let guard = guard("orders", target_topic, Forward::Relay);
        guard.write(&mut out, earlier.map(str::as_bytes), SourceOffset(8814), check);
        assert_eq!(out, [b"kept", expected.as_bytes()].concat());
    }
}

#[test]
fn a_guard_refuses_names_that_no_tag_can_hold() {
    for (source, topic, partition, target, target_topic) in [
        ("", "t", 0, "jp", "t"),
        ("t/w", "t", 0, "jp", "t"),
        ("tw", "a>b", 0, "jp", "t"),
        ("tw", "t", 0, "j p", "t"),
        ("tw", "t", 0, "jp", "t#"),
        ("tw", "t", -1, "jp", "t"),
    ] {
        assert!(Guard::new(source, topic, partition, target, target_topic, Forward::Local).is_err());
    }
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,12}"
}

type OwnedHop = (String, String, i32, i64, Option<String>);

fn hop() -> impl Strategy<Value = OwnedHop> {
    (
        name(),
        name(),
        0..=i32::MAX,
        0..=i64::MAX,
        proptest::option::of(name()),
    )
        .prop_filter("a name equal to the topic's is not written", |hop| {
            hop.4.as_ref() != Some(&hop.1)
        })
}

fn borrow((cluster, topic, partition, offset, name): &OwnedHop) -> Hop<'_> {
    Hop {
        cluster,
        topic,
        partition: *partition,
        offset: SourceOffset(*offset),
        name: name.as_deref(),
    }
}

fn tag_bytes(hops: &[OwnedHop], check: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write(
        &hops.iter().map(borrow).collect::<Vec<_>>(),
        Check(check),
        &mut out,
    );
    out
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(hops in vec(hop(), 1..=MAX_HOPS), check: u32) {
        let bytes = tag_bytes(&hops, check);
        let tag = Tag::parse(&bytes).unwrap();
        prop_assert!(tag.hops().eq(hops.iter().map(borrow)));
        prop_assert_eq!(tag.check(), Check(check));
        prop_assert_eq!(tag.last(), borrow(hops.last().unwrap()));
        prop_assert_eq!(tag.birth(), borrow(&hops[0]));
    }

    #[test]
    fn arbitrary_bytes_are_no_panic(bytes: Vec<u8>) {
        if let Some(tag) = Tag::parse(&bytes) {
            let mut again = Vec::new();
            write(&tag.hops().collect::<Vec<_>>(), tag.check(), &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn text_of_the_right_alphabet_is_canonical_or_no_tag(text in "[a0/9>=#A-]{0,40}#AAAAAA") {
        if let Some(tag) = Tag::parse(text.as_bytes()) {
            let mut again = Vec::new();
            write(&tag.hops().collect::<Vec<_>>(), tag.check(), &mut again);
            prop_assert_eq!(again, text.into_bytes());
        }
    }

    #[test]
    fn a_mutated_tag_is_refused_or_differs(
        hops in vec(hop(), 1..=MAX_HOPS), check: u32, at: prop::sample::Index, with: u8,
    ) {
        let bytes = tag_bytes(&hops, check);
        let mut mutated = bytes.clone();
        *at.get_mut(&mut mutated) = with;
        prop_assume!(mutated != bytes);
        if let Some(tag) = Tag::parse(&mutated) {
            let same = tag.hops().eq(hops.iter().map(borrow)) && tag.check() == Check(check);
            prop_assert!(!same);
        }
    }

    #[test]
    fn the_check_is_base64url_of_big_endian(check: u32) {
        prop_assert_eq!(Check(check).text().to_vec(), URL_SAFE_NO_PAD.encode(check.to_be_bytes()).into_bytes());
        prop_assert_eq!(Check::parse(&Check(check).text()), Some(Check(check)));
    }

    #[test]
    fn a_copy_is_known_on_the_target_and_does_not_return(
        topic in name(), target_topic in name(), partition in 0..=i32::MAX, offset in 0..=i64::MAX,
        key: Option<Vec<u8>>, value: Option<Vec<u8>>,
    ) {
        let there = Guard::new("tw", &topic, partition, "jp", &target_topic, Forward::Local).unwrap();
        let Verdict::Forward { earlier, check } = there.judge([], key.as_deref(), value.as_deref()) else {
            return Err(TestCaseError::fail("a record without a tag is born here"));
        };
        let mut tag = Vec::new();
        there.write(&mut tag, earlier, SourceOffset(offset), check);
        for (forward, reason) in [(Forward::Local, SkipReason::Replicated), (Forward::Relay, SkipReason::Loop)] {
            let back = Guard::new("jp", &target_topic, partition, "tw", &topic, forward).unwrap();
            let verdict = back.judge([tag.as_slice()], key.as_deref(), value.as_deref());
            prop_assert_eq!(verdict, Verdict::Skip(reason));
        }
    }
}
