use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// Far more than anything here takes, far less than it would take if a delay were paid for every chunk.
const LONG: Duration = Duration::from_secs(30);

/// A link to a broker that is played by the test: the link, the client's end and the broker's.
async fn linked(wan: Wan) -> (Link, TcpStream, TcpStream) {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::start(&[broker.local_addr().unwrap()]).unwrap();
    link.set(wan);
    let client = TcpStream::connect(link.bootstrap()).await.unwrap();
    let (accepted, _) = timeout(LONG, broker.accept()).await.unwrap().unwrap();
    (link, client, accepted)
}

/// Bytes that differ from their neighbours.
fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(4).fill(&mut bytes);
    bytes
}

/// Sends all of `bytes` from one end while the other reads them; how long it took.
async fn send(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut read = vec![0; bytes.len()];
    let both = async { tokio::try_join!(from.write_all(bytes), to.read_exact(&mut read)) };
    timeout(LONG, both).await.expect("all bytes in time").unwrap();
    assert!(read == bytes, "other bytes came than were sent");
    start.elapsed()
}

#[tokio::test]
async fn a_delay_is_added_once_and_not_to_every_chunk() {
    let wan = Wan::delay(Duration::from_millis(400));
    let opened = Instant::now();
    let (link, mut client, mut broker) = linked(wan).await;
    assert!(
        opened.elapsed() >= wan.round_trip,
        "a connection costs a round trip"
    );
    // 64 MiB are 256 chunks or more: 51 s if each was delayed for itself, and `send` would not wait for it.
    let all = bytes(64 << 20);
    let took = send(&mut broker, &mut client, &all).await;
    assert!(took >= wan.round_trip / 2, "{took:?}");
    assert_eq!(link.carried(), (0, 64 << 20));
}

#[tokio::test]
async fn a_stall_holds_and_ends_without_the_loss_of_a_byte() {
    let (link, mut client, mut broker) = linked(Wan::NONE).await;
    send(&mut broker, &mut client, &bytes(1 << 20)).await;
    link.stall();
    let all = bytes(1 << 20);
    broker.write_all(&all).await.unwrap();
    // Another connection does not get through either.
    let mut second = TcpStream::connect(link.bootstrap()).await.unwrap();
    let mut byte = [0];
    for end in [&mut client, &mut second] {
        let came = timeout(Duration::from_millis(300), end.read(&mut byte)).await;
        assert!(came.is_err(), "{came:?} came during a stall");
    }
    link.resume();
    let mut read = vec![0; all.len()];
    timeout(LONG, client.read_exact(&mut read))
        .await
        .unwrap()
        .unwrap();
    assert!(read == all, "other bytes came than were sent");
}

#[tokio::test]
async fn a_limit_limits_all_connections_together() {
    let wan = Wan {
        bytes_per_second: Some(4 << 20),
        ..Wan::NONE
    };
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::start(&[broker.local_addr().unwrap()]).unwrap();
    link.set(wan);
    let all = bytes(1 << 20);
    let start = Instant::now();
    let mut ends = Vec::new();
    for _ in 0..4 {
        let client = TcpStream::connect(link.bootstrap()).await.unwrap();
        ends.push((client, broker.accept().await.unwrap().0));
    }
    let mut tasks = Vec::new();
    for (mut client, mut broker) in ends {
        let all = all.clone();
        tasks.push(tokio::spawn(
            async move { send(&mut broker, &mut client, &all).await },
        ));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "4 MiB at 4 MiB/s took {took:?}"
    );
}

#[tokio::test]
async fn a_window_bounds_what_is_under_way() {
    let wan = Wan {
        window: 64 << 10,
        ..Wan::delay(Duration::from_millis(200))
    };
    let (_link, mut client, mut broker) = linked(wan).await;
    // Ten windows: the last one leaves nine round trips after the first.
    let took = send(&mut broker, &mut client, &bytes(640 << 10)).await;
    assert!(took >= wan.round_trip * 9, "{took:?}");
}

#[tokio::test]
async fn an_end_comes_after_what_was_sent_before_it() {
    let (_link, mut client, mut broker) = linked(Wan::delay(Duration::from_millis(100))).await;
    broker.write_all(b"last words").await.unwrap();
    broker.shutdown().await.unwrap();
    let mut read = Vec::new();
    timeout(LONG, client.read_to_end(&mut read))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(read, b"last words");
    // The other direction is still open.
    client.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    timeout(LONG, broker.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn a_cut_closes_connections_and_lets_none_through_until_it_ends() {
    let (link, mut client, mut broker) = linked(Wan::NONE).await;
    send(&mut client, &mut broker, b"before").await;
    link.cut();
    let mut byte = [0];
    for end in [&mut client, &mut broker] {
        let read = timeout(LONG, end.read(&mut byte)).await.expect("an end");
        assert!(!matches!(read, Ok(1)), "a byte came after the cut");
    }
    let mut late = TcpStream::connect(link.bootstrap()).await.unwrap();
    let read = timeout(LONG, late.read(&mut byte)).await.expect("an end");
    assert!(!matches!(read, Ok(1)), "a byte came through the cut");
}

#[tokio::test]
async fn one_direction_to_one_broker_stalls_and_the_rest_flows() {
    let brokers = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let addresses = brokers.each_ref().map(|broker| broker.local_addr().unwrap());
    let link = Link::start(&addresses).unwrap();
    let mut ends = Vec::new();
    for (port, broker) in link.ports().iter().zip(&brokers) {
        let client = TcpStream::connect(("127.0.0.1", *port)).await.unwrap();
        ends.push((client, timeout(LONG, broker.accept()).await.unwrap().unwrap().0));
    }
    let answers = Part {
        broker: Some(2),
        direction: Some(Direction::FromBroker),
    };
    let held = link.stall_part(answers);
    let twice = link.stall_part(answers);
    let [(client, broker), (stalled, asked)] = &mut ends[..] else {
        panic!("two connections");
    };
    send(client, broker, b"question").await;
    send(broker, client, b"answer").await;
    send(stalled, asked, b"question").await;
    asked.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    drop(twice);
    let came = timeout(Duration::from_millis(300), stalled.read_exact(&mut answer)).await;
    assert!(came.is_err(), "{came:?} came during a stall");
    drop(held);
    timeout(LONG, stalled.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn a_cut_of_one_broker_leaves_the_whole_link_as_it_is() {
    let (link, mut client, mut broker) = linked(Wan::NONE).await;
    drop(link.cut_part(Some(2)));
    let other = link.cut_part(Some(2));
    send(&mut client, &mut broker, b"before").await;
    let held = link.cut_part(Some(1));
    let mut byte = [0];
    let read = timeout(LONG, client.read(&mut byte)).await.expect("an end");
    assert!(!matches!(read, Ok(1)), "a byte came after the cut");
    drop((held, other));
}
