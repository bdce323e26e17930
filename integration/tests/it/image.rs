//! The image: what is in it, and that it does its work as Kubernetes runs it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kuroshio_integration::{Authority, Cluster, Ledger, Load, Spec, binary, session_label, until};
use serde_json::{Value, json};

use crate::observed::tool;
use crate::regions::{WAIT, assert_exact_on, both_ways_between, on_all};
use crate::tls::file;

/// What a pod of the chart may do: nothing.
const CONFINED: [&str; 5] = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    // Not the image's own: OpenShift, for one, gives another to each namespace.
    "--user=12345:12345",
    "--pids-limit=256",
];
const LOAD: Load = Load {
    records: 4_000,
    partitions: 3,
    rate: None,
};

fn docker(args: &[&str]) -> Result<String> {
    Ok(tool("docker", args, None)?.trim().to_owned())
}

/// An image of the binary under test; goes with this.
struct Image(String);

impl Image {
    fn build() -> Result<Self> {
        let image = Self(format!("kuroshio:it-{}", std::process::id()));
        let binary = binary()?.canonicalize()?.display().to_string();
        println!(
            "{}",
            tool("replicator/image/build.sh", &[&binary, &image.0], None)?
        );
        Ok(image)
    }

    /// Runs a command of it to its end, confined, and gives what it said.
    fn command(&self, options: &[&str], args: &[&str]) -> Result<String> {
        docker(&[&["run", "--rm"], &CONFINED[..], options, &[&*self.0], args].concat())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        docker(&["image", "rm", "--force", &self.0]).ok();
    }
}

/// A container that runs; goes with this.
struct Container(String);

impl Container {
    /// Runs the image, confined, with this file as its configuration.
    fn start(image: &Image, config: &str, options: &[&str]) -> Result<Self> {
        let (label, mount) = (
            format!("--label={}", session_label()),
            format!("--volume={config}:/etc/kuroshio/kuroshio.yaml:ro"),
        );
        let started = ["run", "--detach", "--hostname=kuroshio-0", &*label, &*mount];
        docker(&[&started, &CONFINED[..], options, &[&*image.0]].concat()).map(Self)
    }

    fn log(&self) -> String {
        docker(&["logs", "--tail=40", &self.0]).unwrap_or_else(|why| format!("{why:#}"))
    }

    /// Waits until `/readyz` of this address says so.
    async fn ready(&self, http: &str) -> Result<()> {
        let ready = until(WAIT, "the container to be ready", || async {
            get(http, "/readyz").await.map(drop)
        });
        ready.await.with_context(|| self.log())
    }

    /// Stops it as Kubernetes does, and gives how long that took.
    fn stop(&self) -> Result<Duration> {
        let started = Instant::now();
        docker(&["stop", "--time=60", &self.0])?;
        let took = started.elapsed();
        let code = docker(&["inspect", "--format={{.State.ExitCode}}", &self.0])?;
        ensure!(code == "0", "ended with {code}\n{}", self.log());
        Ok(took)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]).ok();
    }
}

async fn get(http: &str, path: &str) -> Result<String, String> {
    let url = format!("http://{http}{path}");
    let call = move || -> Result<String> { Ok(ureq::get(&url).call()?.body_mut().read_to_string()?) };
    match tokio::task::spawn_blocking(call).await {
        Ok(answer) => answer.map_err(|why| format!("{why:#}")),
        Err(why) => Err(why.to_string()),
    }
}

/// User, labels, size; and what is not in it.
fn is_small(image: &Image) -> Result<()> {
    let inspected: Value = serde_json::from_str(&docker(&["image", "inspect", &image.0])?)?;
    let (config, size) = (&inspected[0]["Config"], inspected[0]["Size"].as_u64());
    ensure!(config["User"] == "65532:65532", "{config}");
    let label = |name: &str| {
        config["Labels"][format!("org.opencontainers.image.{name}")]
            .as_str()
            .unwrap_or_default()
    };
    let commit = tool("git", &["rev-parse", "HEAD"], None)?;
    ensure!(label("revision").starts_with(commit.trim()), "{config}");
    ensure!(
        label("version") == env!("CARGO_PKG_VERSION") && label("licenses") == "Apache-2.0",
        "{config}"
    );

    let container = Container(docker(&["create", &image.0])?);
    let list = format!("docker export {} | tar --list --verbose", container.0);
    let files = tool("sh", &["-c", &list], None)?;
    let mut rest = 0;
    for line in files.lines().filter(|line| line.starts_with('-')) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (Some(bytes), Some(path)) = (fields.get(2), fields.last()) else {
            bail!("not a file: {line}");
        };
        if *path == "usr/bin/kuroshio" {
            continue;
        }
        ensure!(
            !path.contains("bin/"),
            "{path} can be run, and is no part of Kuroshio"
        );
        rest += bytes.parse::<u64>()?;
    }
    ensure!(rest < 5_000_000, "{rest} bytes beside the binary:\n{files}");
    // Debug builds, which CI packs, are larger.
    let debug = binary()?.components().any(|part| part.as_os_str() == "debug");
    let size = size.context("no size")?;
    ensure!(debug || size < 40_000_000, "{size} bytes");
    let roots = format!("{}:/etc/ssl/certs/ca-certificates.crt", container.0);
    let count = docker(&["cp", &roots, "-"])?.matches("BEGIN CERTIFICATE").count();
    ensure!(count > 100, "{count} roots");
    println!("{size} bytes, {rest} of them beside the binary; {count} roots");
    Ok(())
}

#[tokio::test]
async fn the_image_is_small_and_replicates_while_it_may_do_nothing_else() -> Result<()> {
    let image = Image::build()?;
    is_small(&image)?;
    let said = image.command(&[], &["demo", "--seconds", "5"])?;
    ensure!(said.contains("verdict: ok"), "{said}");

    let authority = Authority::new("Kuroshio tests")?;
    let identity = authority.sign("localhost", false)?;
    let cluster = |alias: &str| {
        let spec = Spec::new(alias).networked().secured("SYSTEM", &identity, None);
        Cluster::start(spec)
    };
    let (tw, jp) = tokio::try_join!(cluster("tw"), cluster("jp"))?;
    let (topic, ledger) = ("image.orders", Ledger::new(110));
    on_all(&[&tw, &jp], topic, LOAD.partitions).await?;
    between_networks(&image, [&tw, &jp], topic, &ledger).await?;
    by_the_roots(&image, [&tw, &jp], authority.pem(), topic, &ledger).await
}

/// Each cluster is in a network of its own; the container is in both, and its names are looked up there.
async fn between_networks(
    image: &Image,
    all @ [tw, jp]: [&Cluster; 2],
    topic: &str,
    ledger: &Ledger,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ((near, at), (far, there)) = (jp.inside()?, tw.inside()?);
    let clusters = json!({ "tw": { "bootstrap_servers": there }, "jp": { "bootstrap_servers": at } });
    let config = both_ways_between(&clusters, "image", &[topic]).to_string();
    let config = file(&dir, "kuroshio.yaml", &config)?;
    let network = format!("--network={near}");
    let container = Container::start(image, &config, &[&network, "--publish=127.0.0.1::8080"])?;
    docker(&["network", "connect", far, &container.0])?;
    let http = docker(&["port", &container.0, "8080"])?;
    container.ready(&http).await?;
    tokio::try_join!(ledger.produce(tw, topic, LOAD), ledger.produce(jp, topic, LOAD))?;
    let exact = assert_exact_on(all, ledger, topic, WAIT).await;
    exact.with_context(|| container.log())?;
    let status = get(&http, "/status").await.map_err(anyhow::Error::msg)?;
    let status: Value = serde_json::from_str(&status)?;
    ensure!(status["instance"] == "kuroshio-0", "{status}");
    // `shutdown_grace`, and some more.
    let took = container.stop()?;
    ensure!(took < Duration::from_secs(35), "stopped after {took:?}");
    println!("stopped after {took:?}");
    Ok(())
}

/// `tls: {}` trusts the roots of the image: here another file in their place, which both clients must take.
async fn by_the_roots(
    image: &Image,
    all @ [tw, jp]: [&Cluster; 2],
    ca: &str,
    topic: &str,
    ledger: &Ledger,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let cluster = |cluster: &Cluster| -> Result<Value> {
        Ok(json!({ "bootstrap_servers": cluster.secured("SYSTEM")?, "tls": {} }))
    };
    let clusters = json!({ "tw": cluster(tw)?, "jp": cluster(jp)? });
    let config = both_ways_between(&clusters, "image", &[topic]).to_string();
    let config = file(&dir, "kuroshio.yaml", &config)?;
    // Its listeners are advertised as those of this machine.
    let mount = format!("--volume={config}:/kuroshio.yaml:ro");
    let check = ["check", "--config", "/kuroshio.yaml"];
    let strangers = image.command(&["--network=host", &mount], &check);
    let why = format!(
        "{:#}",
        strangers
            .err()
            .context("roots of the image have not signed ours")?
    );
    ensure!(why.contains("certificate"), "{why}");
    let roots = file(&dir, "roots.pem", ca)?;
    let roots = format!("--volume={roots}:/etc/ssl/certs/ca-certificates.crt:ro");
    image.command(&["--network=host", &mount, &roots], &check)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listen = format!("--env=KUROSHIO__HTTP__LISTEN={port}");
    let container = Container::start(image, &config, &["--network=host", &roots, &listen])?;
    container.ready(&port.to_string()).await?;
    tokio::try_join!(ledger.produce(tw, topic, LOAD), ledger.produce(jp, topic, LOAD))?;
    let exact = assert_exact_on(all, ledger, topic, WAIT).await;
    exact.with_context(|| container.log())?;
    container.stop().map(drop)
}
