//! `kuroshio demo`: two embedded clusters in this process, traffic on both, the real application between them,
//! and readers on both sides that keep the books.

mod books;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kuroshio_core::routes::HEARTBEATS;
use kuroshio_librdkafka::embedded::{DemoReader, DemoWriter, EmbeddedCluster};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{self, Job, Stop};
use crate::config::{self, Environment};

use books::Books;
pub use books::Verdict;

/// The clusters' aliases.
const ALIASES: [&str; 2] = ["tw", "jp"];
/// The topics, each with this many partitions.
const TOPICS: [&str; 2] = ["orders", "payments"];
const PARTITIONS: i32 = 4;
/// How long stragglers are waited for once nothing is born any more.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it must be silent then: a record on its way back would still arrive.
const SILENCE: Duration = Duration::from_secs(2);

/// What to show.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long records are born, in seconds.
    pub seconds: u64,
    /// Records per second and cluster.
    pub rate: u64,
    /// Where metrics, probes and status are served meanwhile.
    pub http: Option<SocketAddr>,
}

/// Runs the demo; `say` prints to the user.
///
/// # Errors
/// When the embedded clusters or the application fail.
pub async fn run(options: &Options, say: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<Verdict> {
    let began = Instant::now();
    let clusters = [EmbeddedCluster::start(1)?, EmbeddedCluster::start(1)?];
    for cluster in &clusters {
        for topic in TOPICS {
            cluster.create_topic(topic, PARTITIONS)?;
        }
        // Embedded brokers have no administration.
        cluster.create_topic(HEARTBEATS, 1)?;
    }
    let bootstraps = [clusters[0].bootstrap(), clusters[1].bootstrap()];
    say(&format!(
        "two embedded clusters, {} and {}, {} topics of {PARTITIONS} partitions each; {} records/s are born on each side for {} s\n",
        ALIASES[0],
        ALIASES[1],
        TOPICS.len(),
        options.rate,
        options.seconds
    ))?;
    let stop = Stop::default();
    let config = config::parse(&configuration(&bootstraps, options.http), &Environment::new())?;
    let flows = config.flows.clone();
    let app = app::run(
        Job {
            config,
            flows,
            embedded: true,
            file: None,
        },
        stop.clone(),
    );
    let books = Arc::new(Books::new(began));
    let ended = CancellationToken::new();
    let mut traffic = JoinSet::new();
    for (side, bootstrap) in bootstraps.into_iter().enumerate() {
        let (writer_books, reader_books) = (Arc::clone(&books), Arc::clone(&books));
        let (address, options, until) = (bootstrap.clone(), *options, ended.clone());
        traffic.spawn_blocking(move || write(side, &address, &options, &writer_books));
        traffic.spawn_blocking(move || read(side, &bootstrap, &reader_books, &until));
    }
    let mut app = std::pin::pin!(app);
    let verdict = tokio::select! {
        result = &mut app => result.map_err(anyhow::Error::from).and_then(|()| anyhow::bail!("the application ended")),
        Some(failed) = failure(&mut traffic) => Err(failed),
        verdict = watch(&books, options, &say) => {
            // While its clusters are still there.
            stop.stop(true);
            app.await?;
            verdict
        }
    };
    ended.cancel();
    traffic.shutdown().await;
    let verdict = verdict?;
    say(&verdict.to_string())?;
    Ok(verdict)
}

fn configuration(bootstraps: &[String; 2], http: Option<SocketAddr>) -> String {
    let [a, b] = ALIASES;
    let listen = http.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
    // The embedded broker cannot fence transactions, hence at_least_once; it has no topic configurations to
    // learn a codec from; and it lets a fetch wait although records come.
    format!(
        "instance: demo\nclusters:\n  {a}: {{ bootstrap_servers: \"{}\", librdkafka: {{ fetch.wait.max.ms: 20 }} }}\n  {b}: {{ bootstrap_servers: \"{}\", librdkafka: {{ fetch.wait.max.ms: 20 }} }}\n\
         flows: [{{ source: {a}, target: {b} }}, {{ source: {b}, target: {a} }}]\n\
         defaults: {{ delivery: at_least_once, compression: lz4 }}\nhttp: {{ listen: \"{listen}\" }}\n",
        bootstraps[0], bootstraps[1]
    )
}

/// Gives birth to records on one side at the rate asked for.
fn write(side: usize, bootstrap: &str, options: &Options, books: &Books) -> anyhow::Result<()> {
    let writer = DemoWriter::new(bootstrap)?;
    let (began, total) = (Instant::now(), options.rate * options.seconds);
    let tick = Duration::from_millis(10);
    let mut number = 0;
    while number < total {
        let due = began.elapsed().as_nanos() * u128::from(options.rate) / 1_000_000_000;
        let due = u64::try_from(due).unwrap_or(total).min(total);
        while number < due {
            let topic = TOPICS[usize::try_from(number).unwrap_or(0) % TOPICS.len()];
            let partition = i32::try_from(number / 2 % 4).unwrap_or(0);
            let value = format!("{} {number} {topic} of the demo", ALIASES[side]);
            writer.write(
                topic,
                partition,
                Some(&number.to_be_bytes()),
                Some(value.as_bytes()),
                &[("made-by", b"demo")],
            )?;
            number += 1;
        }
        books.born(side, number);
        writer.flush(tick).or_else(|error| {
            if began.elapsed() < PATIENCE {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        std::thread::sleep(tick);
    }
    writer.flush(PATIENCE)?;
    Ok(())
}

/// Reads everything on one side into the books.
fn read(side: usize, bootstrap: &str, books: &Books, until: &CancellationToken) -> anyhow::Result<()> {
    let partitions: Vec<(&str, i32)> = TOPICS
        .iter()
        .flat_map(|topic| (0..PARTITIONS).map(move |partition| (*topic, partition)))
        .collect();
    let reader = DemoReader::new(bootstrap, &partitions)?;
    while !until.is_cancelled() {
        if let Some(record) = reader.next(Duration::from_millis(100))? {
            books.enter(side, &record);
        }
    }
    Ok(())
}

/// The first writer or reader that failed; none while all do their work.
async fn failure(traffic: &mut JoinSet<anyhow::Result<()>>) -> Option<anyhow::Error> {
    loop {
        match traffic.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return Some(error),
            Some(Err(error)) => return Some(error.into()),
            None => std::future::pending().await,
        }
    }
}

/// Shows what goes on until everything born has arrived and it is silent, or patience is over.
async fn watch(
    books: &Books,
    options: &Options,
    say: &impl Fn(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Verdict> {
    let began = Instant::now();
    let birth = Duration::from_secs(options.seconds);
    let (mut shown, mut first) = (Duration::ZERO, false);
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let elapsed = began.elapsed();
        if !first && let Some(after) = books.first_copied() {
            first = true;
            say(&format!(
                "first record replicated {:.2} s after the start\n",
                after.as_secs_f64()
            ))?;
        }
        if elapsed - shown >= Duration::from_secs(1) {
            shown = elapsed;
            say(&books.line())?;
        }
        let complete = books.all_born(options.rate * options.seconds) && books.complete();
        let over = elapsed > birth + PATIENCE;
        if over || (complete && books.silent_for() >= SILENCE) {
            return Ok(books.verdict());
        }
    }
}
