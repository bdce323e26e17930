mod limits;
mod tls;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::control::Taken;

fn shown(health: Arc<Health>, status: Status) -> Shown {
    let clusters = status.clusters.clone();
    Shown {
        metrics: Arc::new(Metrics::new().unwrap()),
        health,
        status: Arc::new(move || status.clone()),
        clusters: Arc::new(move || clusters.clone()),
        commands: None,
        reload: None,
        token: shows(None).1,
    }
}

/// What callers must show, and who changes it.
fn shows(token: Option<&str>) -> (watch::Sender<Option<Secret>>, watch::Receiver<Option<Secret>>) {
    watch::channel(token.map(Into::into))
}

/// A server of its own: where it is, how it stops, when it has.
async fn served(shown: Shown) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let door = bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let (address, stop) = (door.address().unwrap(), CancellationToken::new());
    (address, stop.clone(), tokio::spawn(serve(door, shown, stop)))
}

const TAKEN: Taken = Taken { here: 3, noted: true };

async fn answer(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path}"), "").await
}

async fn ask(address: SocketAddr, what: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{what} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_server_shows_what_it_is_given_and_stops() {
    let health = Arc::new(Health::default());
    let latch = health.latch("flow tw-jp");
    let status = Status {
        instance: "pod-0".into(),
        ..Status::default()
    };
    let (address, stop, server) = served(shown(health, status)).await;

    assert!(answer(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let unready = answer(address, "/readyz").await;
    assert!(
        unready.starts_with("HTTP/1.1 503") && unready.ends_with("waiting for flow tw-jp\n"),
        "{unready}"
    );
    drop(latch);
    assert!(answer(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let exposition = answer(address, "/metrics").await;
    assert!(
        exposition.contains("\r\ncontent-type: text/plain; version=0.0.4"),
        "{exposition}"
    );
    assert!(
        exposition.contains("kuroshio_build_info{version="),
        "{exposition}"
    );
    assert!(answer(address, "/status").await.contains(r#""instance":"pod-0""#));
    assert!(
        answer(address, "/")
            .await
            .contains("<title>Kuroshio pod-0</title>")
    );
    assert!(!answer(address, "/?part=main").await.contains("<title>"));
    assert!(answer(address, "/nothing").await.starts_with("HTTP/1.1 404"));

    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn status_and_health_are_told_as_they_are() {
    let cluster = |alias: &str, healthy| ClusterStatus {
        alias: alias.into(),
        healthy,
        error: Some("no answer".into()),
        ..Default::default()
    };
    let lane = |partition, lag| crate::status::LaneStatus {
        topic: format!("t{partition}"),
        lag_seconds: Some(lag),
        ..Default::default()
    };
    let flow = crate::status::FlowStatus {
        partitions: 3,
        lanes: vec![lane(0, 1.0), lane(1, 3.0), lane(2, 2.0)],
        ..Default::default()
    };
    let status = Status {
        clusters: vec![
            cluster("tw", Some(true)),
            cluster("jp", Some(false)),
            cluster("sg", None),
        ],
        flows: vec![flow],
        ..Status::default()
    };
    let shown = shown(Arc::new(Health::default()), status);
    let (address, stop, server) = served(shown).await;
    for (alias, code, words) in [
        ("tw", 200, "healthy"),
        ("jp", 503, "no answer"),
        ("sg", 503, "not checked"),
        ("us", 404, "us"),
    ] {
        let answer = answer(address, &format!("/health/region/{alias}")).await;
        let start = format!("HTTP/1.1 {code} ");
        assert!(answer.starts_with(&start) && answer.contains(words), "{answer}");
    }
    let all = answer(address, "/status").await;
    assert!(all.contains("t0") && all.contains("t1") && all.contains("t2"));
    let top = answer(address, "/status?top=1").await;
    assert!(
        top.contains("t1") && !top.contains("t0") && !top.contains("t2"),
        "{top}"
    );
    assert!(top.contains(r#""partitions":3"#), "{top}");
    assert!(answer(address, "/status?top=x").await.starts_with("HTTP/1.1 400"));
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "it is one table")]
async fn commands_are_taken_where_they_are_allowed_and_from_no_web_page() {
    let (line, mut asked) = mpsc::channel(1);
    let taken = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Some(Asked {
            command,
            scope,
            answer,
        }) = asked.recv().await
        {
            let bad = scope.partition == Some(9);
            taken.push((command, scope));
            answer
                .send(if bad { Err("no".to_owned()) } else { Ok(TAKEN) })
                .unwrap();
        }
        taken
    });
    let serve_with = async |commands| {
        let shown = Shown {
            commands,
            ..shown(Arc::new(Health::default()), Status::default())
        };
        served(shown).await
    };
    let (open, stop, server) = serve_with(Some(Arc::new([("tw-jp".into(), line)].into()))).await;
    let (closed, stop_too, server_too) = serve_with(None).await;
    for (address, path, headers, code, says) in [
        (open, "tw-jp/resume", "", 200, "3 paused or quarantined"),
        (
            open,
            "tw-jp/pause?topic=orders",
            "",
            200,
            "3 partitions of this pod are paused",
        ),
        (
            open,
            "tw-jp/resume?topic=orders&partition=2",
            "",
            200,
            "3 paused or quarantined",
        ),
        (open, "tw-jp/resume?topic=orders&partition=9", "", 503, "no"),
        (open, "tw-jp/resume?topic=a%3Bb", "", 400, "topic"),
        (open, "tw-jp/resume?topic=a%20b", "", 400, "topic"),
        (open, "tw-jp/resume?partition=2", "", 400, "topic"),
        (open, "tw-jp/resume?topic=orders&partition=x", "", 400, ""),
        (open, "tw-jp/resume", "Origin: http://x\r\n", 403, "web pages"),
        (open, "tw-jp/resume", "Origin: null\r\n", 403, "web pages"),
        (open, "jp-tw/resume", "", 404, "jp-tw"),
        (open, "tw-jp/explode", "", 404, ""),
        (closed, "tw-jp/resume", "", 403, "http.admin"),
        (closed, "tw-jp/pause", "", 403, "http.admin"),
        (open, "tw-jp/pause", "Origin: http://x\r\n", 403, "web pages"),
    ] {
        let answer = ask(address, &format!("POST /flows/{path}"), headers).await;
        let start = format!("HTTP/1.1 {code} ");
        assert!(
            answer.starts_with(&start) && answer.contains(says),
            "{path}: {answer}"
        );
    }
    let read = answer(open, "/flows/tw-jp/resume").await;
    assert!(read.starts_with("HTTP/1.1 405 "), "{read}");
    for (stop, server) in [(stop, server), (stop_too, server_too)] {
        stop.cancel();
        server.await.unwrap();
    }
    let scopes: Vec<_> = taken
        .await
        .unwrap()
        .into_iter()
        .map(|(command, s)| (command, s.topic, s.partition))
        .collect();
    let orders = || Some("orders".into());
    assert_eq!(
        scopes,
        [
            (Command::Resume, None, None),
            (Command::Pause, orders(), None),
            (Command::Resume, orders(), Some(2)),
            (Command::Resume, orders(), Some(9))
        ]
    );
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
    let address = first.address().unwrap();
    let error = bind(address, None).await.err().unwrap().to_string();
    assert!(
        error.starts_with(&format!("http.listen: cannot listen on {address}:")),
        "{error}"
    );
}

/// Shows a broker's name in why its region is not healthy, to those who have the token.
fn guarded() -> Shown {
    let status = Status {
        clusters: vec![ClusterStatus {
            alias: "tw".into(),
            healthy: Some(false),
            error: Some("b-1.secret:9092 is gone".into()),
            ..Default::default()
        }],
        instance: "pod-0".into(),
        ..Default::default()
    };
    Shown {
        token: shows(Some("s3cret")).1,
        ..shown(Arc::new(Health::default()), status)
    }
}

#[tokio::test]
async fn the_token_is_needed_for_all_that_tells_and_not_for_probes() {
    let (line, mut asked) = mpsc::channel::<Asked>(1);
    let taken = tokio::spawn(async move { asked.recv().await.unwrap().answer.send(Ok(TAKEN)) });
    let shown = Shown {
        commands: Some(Arc::new([("tw-jp".into(), line)].into())),
        ..guarded()
    };
    let (address, stop, server) = served(shown).await;
    let token = "Authorization: Bearer s3cret\r\n";
    for wrong in [
        "",
        "Authorization: Bearer s3cre\r\n",
        "Authorization: Basic OnMzY3Jl\r\n",
    ] {
        for what in [
            "GET /",
            "GET /metrics",
            "GET /status",
            "GET /page.css",
            "GET /page.js",
            "POST /flows/tw-jp/resume",
            "POST /flows/none/resume",
        ] {
            let answer = ask(address, what, wrong).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{what}: {answer}");
            assert!(
                answer.contains("www-authenticate: Bearer\r\n"),
                "{what}: {answer}"
            );
            assert!(
                !answer.contains("s3cret") && !answer.contains("tw"),
                "{what}: {answer}"
            );
        }
        for (what, code) in [
            ("GET /livez", 200),
            ("GET /readyz", 200),
            ("GET /health/region/tw", 503),
        ] {
            let answer = ask(address, what, wrong).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {code} ")),
                "{what}: {answer}"
            );
            assert!(!answer.contains("b-1.secret"), "{answer}");
        }
    }
    for what in [
        "GET /",
        "GET /metrics",
        "GET /status",
        "GET /page.js",
        "POST /flows/tw-jp/resume",
    ] {
        let answer = ask(address, what, token).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && !answer.contains("s3cret"),
            "{what}: {answer}"
        );
    }
    assert!(
        ask(address, "GET /health/region/tw", token)
            .await
            .contains("b-1.secret")
    );
    taken.await.unwrap().unwrap();
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn a_token_that_was_exchanged_holds_at_once_and_the_last_one_no_more() {
    let (exchange, token) = shows(Some("s3cret"));
    let (address, stop, server) = served(Shown { token, ..guarded() }).await;
    let codes = async || {
        let mut codes = Vec::new();
        for token in ["s3cret", "an0ther"] {
            let answer = ask(
                address,
                "GET /status",
                &format!("Authorization: Bearer {token}\r\n"),
            )
            .await;
            codes.push(answer["HTTP/1.1 ".len()..][..3].to_owned());
        }
        codes
    };
    assert_eq!(codes().await, ["200", "401"]);
    exchange.send_replace(Some("an0ther".into()));
    assert_eq!(codes().await, ["401", "200"]);
    stop.cancel();
    server.await.unwrap();
}
