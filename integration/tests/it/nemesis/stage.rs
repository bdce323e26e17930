//! What faults strike: two clusters of three brokers each, and both flows between them, run by two instances, once for each delivery.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use kuroshio_integration::{Clock, Cluster, Kuroshio, Ledger, Load, Spec};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use super::watch::Watch;
use crate::regions::{WAIT, both_ways_between};

/// Longest wait for a broker that was started again, and for its replicas to be in sync.
const BACK: Duration = Duration::from_secs(180);
/// Records per second that are born in each topic and on each side.
const RATE: u64 = 60;
pub(super) const PARTITIONS: i32 = 3;

/// One of the clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Tw,
    Jp,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Tw, Self::Jp];

    pub(super) fn alias(self) -> &'static str {
        match self {
            Self::Tw => "tw",
            Self::Jp => "jp",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Tw => Self::Jp,
            Self::Jp => Self::Tw,
        }
    }
}

/// A cluster, and what only one fault at a time may do to it.
pub(super) struct Region {
    pub(super) kafka: Cluster,
    /// Held while a broker is down: the others have every record that was acknowledged.
    pub(super) brokers: Mutex<()>,
    /// Held while the link is slow.
    pub(super) wan: Mutex<()>,
}

/// The two clusters. Removed when dropped.
pub(super) struct Stage {
    tw: Region,
    jp: Region,
}

impl Stage {
    pub(super) async fn start() -> Result<Self> {
        let region = async |side: Side| {
            let spec = Spec::new(side.alias())
                .nodes(3)
                .heap_mib(384)
                .short_lived()
                .linked()
                .setting("min.insync.replicas", "2");
            anyhow::Ok(Region {
                kafka: Cluster::start(spec).await?,
                brokers: Mutex::default(),
                wan: Mutex::default(),
            })
        };
        let (tw, jp) = tokio::try_join!(region(Side::Tw), region(Side::Jp))?;
        Ok(Self { tw, jp })
    }

    pub(super) fn region(&self, side: Side) -> &Region {
        match side {
            Side::Tw => &self.tw,
            Side::Jp => &self.jp,
        }
    }

    pub(super) fn kafka(&self, side: Side) -> &Cluster {
        &self.region(side).kafka
    }
}

impl Region {
    /// Waits until a broker that was started again has all that the others have.
    pub(super) async fn whole(&self) -> Result<()> {
        self.kafka.ready().await?;
        self.kafka.in_sync(BACK).await
    }
}

/// Both flows with one delivery, on two instances.
pub(super) struct Deployment {
    pub(super) delivery: &'static str,
    name: String,
    config: Value,
    pub(super) ledger: Ledger,
    pub(super) instances: [Mutex<Kuroshio>; 2],
}

impl Deployment {
    async fn start(
        stage: &Stage,
        clocks: &[Clock; 2],
        (name, delivery): (&str, &'static str),
        seed: u64,
    ) -> Result<Self> {
        let name = format!("{name}-{}", delivery.split('_').next().unwrap_or_default());
        let mut all = json!({});
        for side in Side::BOTH {
            all[side.alias()] = json!({ "bootstrap_servers": stage.kafka(side).link()?.bootstrap() });
        }
        let mut config = both_ways_between(&all, &name, &[&format!("{name}[.].*")]);
        config["defaults"]["delivery"] = json!(delivery);
        config["defaults"]["pumps"] = json!(1);
        // Long, so that most faults find one open.
        config["defaults"]["commit_interval"] = json!("500ms");
        config["defaults"]["groups"] = json!({ "sync": false });
        // Nobody raises the limit of a topic that refuses what is too large.
        config["defaults"]["configs"] = json!({ "sync": false });
        // Both deployments would write into the one topic.
        let heartbeats = delivery == "exactly_once";
        config["defaults"]["heartbeats"] = json!({ "enabled": heartbeats });
        create_topics(stage, &name).await?;
        let instance = |number: usize, letter: &str| {
            let mut config = config.clone();
            config["instance"] = json!(format!("{name}-{letter}"));
            anyhow::Ok(Mutex::new(Kuroshio::run_in(
                &clocks[number].environment(),
                config,
            )?))
        };
        Ok(Self {
            delivery,
            ledger: Ledger::new(seed),
            instances: [instance(0, "a")?, instance(1, "b")?],
            name,
            config,
        })
    }

    /// The topic that is written on both sides.
    pub(super) fn orders(&self) -> String {
        orders(&self.name)
    }

    /// The topic that applications write on this side alone.
    pub(super) fn from(&self, side: Side) -> String {
        from(&self.name, side)
    }

    /// The topic that is written on this side alone, and whose log is cut on one of them.
    pub(super) fn cut(&self, side: Side) -> String {
        format!("{}.cut-{}", self.name, side.alias())
    }

    /// All that applications write.
    pub(super) fn topics(&self) -> [String; 3] {
        [self.orders(), self.from(Side::Tw), self.from(Side::Jp)]
    }

    /// The flow whose target is this side.
    pub(super) fn flow_to(&self, side: Side) -> String {
        format!("{}-{}-{}", self.name, side.other().alias(), side.alias())
    }

    /// The name of an instance, by its number.
    pub(super) fn instance(&self, number: usize) -> String {
        format!("{}-{}", self.name, ["a", "b"][number])
    }

    pub(super) fn is_exact(&self) -> bool {
        self.delivery == "exactly_once"
    }

    /// What `kuroshio verify` is given: the way to the clusters that does not lead over the links.
    pub(super) fn verified(&self, stage: &Stage) -> Value {
        let mut config = self.config.clone();
        config["instance"] = json!(format!("{}-verify", self.name));
        for side in Side::BOTH {
            config["clusters"][side.alias()]["bootstrap_servers"] = json!(stage.kafka(side).bootstrap());
        }
        config
    }

    /// Applications write on both sides until they are told to stop, and all is acknowledged.
    async fn load(&self, stage: &Stage, stop: &Arc<AtomicBool>) -> Result<()> {
        let load = Load {
            records: u64::MAX,
            partitions: PARTITIONS,
            rate: Some(RATE),
        };
        let (orders, from_tw, from_jp) = (self.orders(), self.from(Side::Tw), self.from(Side::Jp));
        let write = |side: Side, topic| self.ledger.produce_until(stage.kafka(side), topic, load, stop);
        tokio::try_join!(
            write(Side::Tw, &orders),
            write(Side::Jp, &orders),
            write(Side::Tw, &from_tw),
            write(Side::Jp, &from_jp),
        )?;
        Ok(())
    }
}

fn orders(name: &str) -> String {
    format!("{name}.orders")
}

fn from(name: &str, side: Side) -> String {
    format!("{name}.from-{}", side.alias())
}

async fn create_topics(stage: &Stage, name: &str) -> Result<()> {
    for side in Side::BOTH {
        let kafka = stage.kafka(side);
        for topic in [orders(name), from(name, Side::Tw), from(name, Side::Jp)] {
            kafka.create_topic(&topic, PARTITIONS, &[]).await?;
        }
    }
    Ok(())
}

/// A story of faults: its flows and topics are its own.
pub(super) struct Scene<'s> {
    pub(super) stage: &'s Stage,
    pub(super) deployments: [Deployment; 2],
    pub(super) clocks: [Clock; 2],
    /// Held while something is done to an instance, by its number.
    held: [Mutex<()>; 2],
    stop: Arc<AtomicBool>,
}

impl<'s> Scene<'s> {
    pub(super) async fn start(stage: &'s Stage, name: &str, seed: u64) -> Result<Self> {
        let clocks = [Clock::new()?, Clock::new()?];
        let (exactly, at_least) = tokio::try_join!(
            Deployment::start(stage, &clocks, (name, "exactly_once"), seed),
            Deployment::start(stage, &clocks, (name, "at_least_once"), seed),
        )?;
        let scene = Self {
            stage,
            deployments: [exactly, at_least],
            clocks,
            held: Default::default(),
            stop: Arc::default(),
        };
        for deployment in &scene.deployments {
            for process in &deployment.instances {
                process.lock().await.ready(WAIT).await?;
            }
        }
        Ok(scene)
    }

    /// The instance of both deployments, which nobody else touches meanwhile.
    pub(super) async fn hold(&self, instance: usize) -> MutexGuard<'_, ()> {
        self.held[instance].lock().await
    }

    /// Applications write as long as `faults` go on.
    pub(super) async fn under_load<T>(&self, faults: impl Future<Output = Result<T>>) -> Result<T> {
        let [exactly, at_least] = &self.deployments;
        let faults = async {
            let outcome = faults.await;
            self.stop.store(true, Ordering::Relaxed);
            outcome
        };
        let (outcome, exactly, at_least) = tokio::join!(
            faults,
            exactly.load(self.stage, &self.stop),
            at_least.load(self.stage, &self.stop),
        );
        let outcome = outcome?;
        exactly?;
        at_least?;
        Ok(outcome)
    }

    /// Keeps what all processes said and say, for people who look at a failure, and tells where.
    pub(super) async fn keep_logs(&self, name: &str, watch: &Watch) -> Result<String> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nemesis").join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("watched"), watch.history().to_string())?;
        for deployment in &self.deployments {
            for (number, process) in deployment.instances.iter().enumerate() {
                let process = process.lock().await;
                let name = deployment.instance(number);
                fs::write(dir.join(format!("{name}.log")), process.log()?)?;
                for path in ["status", "metrics"] {
                    // Who does not answer says it in this way.
                    let said = match process.get(&format!("/{path}")).await {
                        Ok((_, body)) => body,
                        Err(why) => format!("{why:#}"),
                    };
                    fs::write(dir.join(format!("{name}.{path}")), said)?;
                }
            }
        }
        Ok(format!("logs are in {}", dir.display()))
    }

    /// Ends the processes and removes the topics, which cost the brokers something as long as they are there.
    pub(super) async fn end(self) -> Result<()> {
        let Self {
            stage, deployments, ..
        } = self;
        for deployment in deployments {
            let topics = deployment.topics();
            drop(deployment);
            for side in Side::BOTH {
                for topic in &topics {
                    stage.kafka(side).delete_topic(topic).await?;
                }
            }
        }
        Ok(())
    }
}
