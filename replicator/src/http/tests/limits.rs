//! Callers who are slow, silent, or send too much.

use super::*;

/// What has been answered when the server closes the connection.
async fn to_the_end(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // It may be cut off.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn heads_have_a_limit_and_bodies_are_not_read() {
    let (address, stop, server) = served(shown(Arc::new(Health::default()), Status::default())).await;
    let long = format!("X: {}\r\n", "x".repeat(15 << 10));
    assert!(
        ask(address, "GET /livez", &long)
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    let too_long = format!("X: {}\r\n", "x".repeat(17 << 10));
    assert!(
        ask(address, "GET /livez", &too_long)
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    let too_many = "X: x\r\n".repeat(200);
    assert!(
        ask(address, "GET /livez", &too_many)
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /flows/tw-jp/resume HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // A gigabyte is promised; the server answers and hangs up before a hundredth of it has come.
    let mut sent = 0;
    while sent < 10 << 20 && stream.write_all(&[0; 1 << 10]).await.is_ok() {
        sent += 1 << 10;
    }
    assert!(sent < 10 << 20, "{sent} bytes were taken");
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_byte_at_a_time_is_cut_off() {
    let (address, stop, server) = served(shown(Arc::new(Health::default()), Status::default())).await;
    let began = tokio::time::Instant::now();
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let drip = tokio::spawn(async move {
        for byte in "GET /livez HTTP/1.1\r\nX: "
            .bytes()
            .chain(std::iter::repeat(b'x'))
        {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    drop(reader.read_to_end(&mut answer).await);
    let took = began.elapsed();
    assert!(took >= TIMES.head && took < 2 * TIMES.head, "{took:?}");
    assert!(!String::from_utf8(answer).unwrap().contains("200"));
    drip.await.unwrap();
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn the_silent_give_their_places_up() {
    // Nobody is sent away for the time that it takes.
    let hour = std::time::Duration::from_secs(3_600);
    let times = connections::Times {
        head: hour,
        life: hour,
    };
    let door = bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let (address, stop) = (door.address().unwrap(), CancellationToken::new());
    let router = router(shown(Arc::new(Health::default()), Status::default()));
    let server = tokio::spawn(connections::serve(
        door.listener,
        None,
        router,
        times,
        stop.clone(),
    ));
    let mut silent = Vec::new();
    for number in 0..4 * connections::CONNECTIONS_MAX {
        silent.push(TcpStream::connect(address).await.unwrap());
        if number % 50 == 0 {
            assert!(
                answer(address, "/livez").await.starts_with("HTTP/1.1 200 "),
                "{number}"
            );
        }
    }
    assert!(answer(address, "/livez").await.starts_with("HTTP/1.1 200 "));
    // All but the newest were told to go.
    let gone = silent.len() - connections::CONNECTIONS_MAX;
    for stream in silent.drain(..gone) {
        assert_eq!(to_the_end(stream).await, "");
    }
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn who_does_not_read_holds_so_many_bytes_and_no_more() {
    // More than the sockets take in, and three of them more than is held.
    let status = Status {
        instance: "x".repeat(15 << 20),
        ..Status::default()
    };
    let (address, stop, server) = served(shown(Arc::new(Health::default()), status)).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        slow.push(stream);
    }
    let refused = answer(address, "/status").await;
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("still reading"),
        "{refused}"
    );
    assert!(answer(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
    // Whoever reads to the end has all of it, and makes room.
    let all = to_the_end(slow.remove(0)).await;
    assert!(all.len() > 15 << 20 && all.ends_with('}') && all.contains("content-length: "));
    assert!(answer(address, "/metrics").await.starts_with("HTTP/1.1 200 "));
    // So does who goes away.
    slow.clear();
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn an_answer_above_all_limits_is_given_alone() {
    let status = Status {
        instance: "x".repeat(2 * documents::WAITING_MAX),
        ..Status::default()
    };
    let (address, stop, server) = served(shown(Arc::new(Health::default()), status)).await;
    for _ in 0..2 {
        let all = answer(address, "/status").await;
        assert!(all.starts_with("HTTP/1.1 200 ") && all.len() > 2 * documents::WAITING_MAX);
    }
    stop.cancel();
    server.await.unwrap();
}
