//! The HTTP server of a running process, among callers who mean no good.

use std::time::Duration;

use anyhow::{Result, ensure};
use kuroshio_integration::{Ended, Kuroshio, Ledger, Load, Process, command, pair, until};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::regions::{WAIT, on_all, one_way};
use crate::tls::file;

const TOKEN: &str = "planted-s3cret";
/// More than there are places.
const CALLERS: usize = 200;

/// Connects again and again, and sends a byte at a time of a request that has no end.
async fn drip(address: std::net::SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return;
        };
        for byte in b"GET /metrics HTTP/1.1\r\nX: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // this is what it is about
        }
    }
}

/// What the status is for who shows this token.
async fn until_shown(url: &str, token: &str) -> Result<Ended> {
    let args = ["status", "--url", url, "--token", token, "--output", "json"];
    until(WAIT, "the status", || async {
        let ended = command(&args, None, WAIT).await;
        match ended {
            Ok(ended) if ended.code == Some(0) => Ok(ended),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn callers_without_a_token_and_such_as_hold_on_hold_nothing_up() -> Result<()> {
    let pair = pair().await?;
    on_all(&[&pair.tw, &pair.jp], "held.orders", 4).await?;
    let mut config = one_way(pair, "held", &["held[.].*"]);
    let dir = tempfile::tempdir()?;
    let secret = file(&dir, "token", TOKEN)?;
    config["http"] = json!({ "token": format!("${{file:{secret}}}"), "admin": true });
    // What records take is not what this is about, nor what the groups of other tests do: a thousand of them make an answer of 9 MB.
    config["defaults"]["memory"] = json!("32MiB");
    config["defaults"]["groups"] = json!({ "include": ["held[.].*"] });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let before = Process { pid: process.pid() }.peak_rss()?;

    let mut callers = JoinSet::new();
    let mut held = Vec::new();
    for _ in 0..CALLERS {
        held.push(TcpStream::connect(process.http()).await?);
        callers.spawn(drip(process.http()));
        // It asks, and never reads.
        let mut stream = TcpStream::connect(process.http()).await?;
        let asked = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await?;
        held.push(stream);
    }
    let ledger = Ledger::new(29);
    let load = Load {
        records: 20_000,
        partitions: 4,
        rate: None,
    };
    ledger.produce(&pair.tw, "held.orders", load).await?;
    let report = ledger
        .compare(&pair.jp, "held.orders", &[("tw", "held.orders")], WAIT)
        .await?;
    ensure!(report.is_exact(), "{report}");
    let after = Process { pid: process.pid() }.peak_rss()?;
    println!(
        "{} callers: the most memory went from {before} to {after} bytes",
        3 * CALLERS
    );

    // Probes are answered among all of them, and so is who shows the token.
    until(WAIT, "the probes to be answered", || async {
        match process.get("/livez").await {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let url = format!("http://{}", process.http());
    let told = until_shown(&url, TOKEN).await?;
    callers.shutdown().await;
    drop(held);
    for path in ["/", "/status", "/metrics"] {
        let (code, said) = process.get(path).await?;
        ensure!(code == 401 && !said.contains("held"), "{path}: {code} {said}");
    }
    let (code, said) = process.get("/health/region/tw").await?;
    ensure!(code == 200 || code == 503, "{code} {said}");
    for args in [
        vec!["status", "--url", &url],
        vec!["status", "--url", &url, "--token", "wrong-s3cret"],
        vec!["resume", "held-tw-jp", "--url", &url],
    ] {
        let ended = command(&args, None, WAIT).await?;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(
            ended.code == Some(1) && said.contains("KUROSHIO_TOKEN"),
            "{ended:?}"
        );
        ensure!(!said.contains("s3cret"), "{said}");
    }
    let resume = ["resume", "held-tw-jp", "--url", &url, "--token", TOKEN];
    let ended = command(&resume, None, WAIT).await?;
    ensure!(ended.code == Some(0), "{ended:?}");
    ensure!(!told.stdout.contains("s3cret"), "{}", told.stdout);
    // Another token, while all goes on.
    file(&dir, "token", "an0ther-s3cret")?;
    until_shown(&url, "an0ther-s3cret").await?;
    let ended = command(&["status", "--url", &url, "--token", TOKEN], None, WAIT).await?;
    ensure!(ended.code == Some(1), "{ended:?}");
    ensure!(process.logged("s3cret")? == 0, "{}", process.log_tail());
    process.terminate()?;
    let ended = process.exited(WAIT).await?;
    ensure!(ended.success(), "{ended}");
    // 64 places of some buffers each, not 600; and what records may take (`memory`).
    let grown = after.saturating_sub(before);
    ensure!(grown < 128 << 20, "{grown} bytes more");
    Ok(())
}
