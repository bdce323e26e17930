//! What outlives a test: the runtime that talks to the Docker engine, and the removal of containers.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use tokio::runtime::{Builder, Runtime};

/// The label and the name prefix of all containers and networks of this process.
pub(crate) static SESSION: LazyLock<String> =
    LazyLock::new(|| format!("kuroshio-{}-{:08x}", std::process::id(), fastrand::u32(..)));

/// The label key that holds the session.
pub(crate) const LABEL: &str = "kuroshio.session";

/// `key=value` of the label under which containers are removed when this process ends in whatever way, once a
/// [`crate::Cluster`] was started.
#[must_use]
pub fn session_label() -> String {
    format!("{LABEL}={}", *SESSION)
}

/// Runs a future that talks to the Docker engine. The engine client's connections belong to the runtime that
/// opened them, and each `#[tokio::test]` has a runtime of its own which ends with the test: so all of them
/// are used on one runtime that ends with the process.
///
/// # Errors
/// When the runtime cannot be made, or the future panics.
pub(crate) async fn on_engine<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    engine()?
        .spawn(work)
        .await
        .context("a task on the Docker runtime")?
}

/// As [`on_engine`], from code that is not async (a `drop`): does not wait for a result.
pub(crate) fn on_engine_detached(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = engine() {
        runtime.spawn(work);
    }
}

fn engine() -> Result<&'static Runtime> {
    static ENGINE: LazyLock<io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build());
    ENGINE
        .as_ref()
        .map_err(|why| anyhow!("no runtime for the Docker client: {why}"))
}

/// Makes sure that nothing of ours stays when this process ends in whatever way. Statics are never dropped in
/// Rust and a killed process runs no code, so a child waits for the end of a pipe that closes with us, and
/// then removes every container and network of the session.
///
/// # Errors
/// When the child cannot be started.
pub(crate) fn remove_all_at_exit() -> Result<()> {
    // Under a lock: a second child would be told to clean up as soon as it was dropped.
    static REAPER: Mutex<Option<Child>> = Mutex::new(None);
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if reaper.is_some() {
        return Ok(());
    }
    let session = &*SESSION;
    // Several times: a network stays while a container that was told to go is still in it.
    let script = format!(
        "cat >/dev/null; \
         for i in $(seq 30); do \
           containers=$(docker ps -aq --filter label={LABEL}={session}); \
           networks=$(docker network ls -q --filter name={session}); \
           [ -n \"$containers$networks\" ] || break; \
           [ -z \"$containers\" ] || docker rm -f -v $containers; \
           [ -z \"$networks\" ] || docker network rm $networks || sleep 1; \
         done"
    );
    let child = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // Ctrl-C ends the tests, not the cleaning
        .spawn()
        .context("starting the shell that removes containers at the end")?;
    *reaper = Some(child);
    Ok(())
}

/// A free port of this machine, outside of the range from which the kernel takes ports for connections.
///
/// # Errors
/// When none is found.
pub(crate) fn free_port() -> Result<u16> {
    (0..1000)
        .map(|_| fastrand::u16(20_000..32_000))
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .context("no free port between 20000 and 32000")
}
