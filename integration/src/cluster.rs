//! Real clusters in containers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, Image, ImageExt};

use crate::docker::{LABEL, SESSION, free_port, on_engine, on_engine_detached, remove_all_at_exit};
use crate::link::Link;
use crate::spec::{Asks, IAM_JAR, Spec, store};
use crate::tools::run;
use crate::wait::until;

/// For clients on this machine; mapped to a fixed port, which the broker advertises.
const CLIENT_PORT: u16 = 9092;
/// For brokers among each other, and for containers in their network.
const INTERNAL_PORT: u16 = 9094;
/// For clients that come over the link; mapped to a fixed port, to which the link leads.
const LINK_PORT: u16 = 9095;
/// A broker and its controller start in 3 s alone; two cores may be shared with a build.
const START: Duration = Duration::from_secs(120);
/// One request to a broker that runs.
pub(crate) const REQUEST: Duration = Duration::from_secs(20);

/// Kafka's image as testcontainers sees it: it counts as started at once, the harness asks the broker itself.
#[derive(Debug)]
struct Kafka {
    version: String,
    environment: BTreeMap<String, String>,
}

impl Image for Kafka {
    fn name(&self) -> &str {
        "apache/kafka"
    }

    fn tag(&self) -> &str {
        &self.version
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        Vec::new()
    }

    fn env_vars(
        &self,
    ) -> impl IntoIterator<
        Item = (
            impl Into<std::borrow::Cow<'_, str>>,
            impl Into<std::borrow::Cow<'_, str>>,
        ),
    > {
        &self.environment
    }
}

type Broker = Arc<ContainerAsync<Kafka>>;

/// A running cluster. Its containers are removed when it is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct Cluster {
    alias: String,
    id: String,
    bootstrap: String,
    /// Its network, and where it is in there.
    inside: Option<(String, String)>,
    brokers: Vec<Broker>,
    link: Option<Link>,
    /// Ports of listeners with TLS.
    secured: BTreeMap<&'static str, u16>,
}

impl Cluster {
    /// Starts a cluster and waits until every broker is known to the others.
    ///
    /// # Errors
    /// When Docker does not answer, the image is missing, or a broker is not up within two minutes (with its log).
    pub async fn start(spec: Spec) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        remove_all_at_exit()?;
        let prefix = format!(
            "{}-{}-{}",
            *SESSION,
            STARTED.fetch_add(1, Ordering::Relaxed),
            spec.alias
        );
        let networked = spec.networked || spec.nodes > 1;
        let host = |id: u16| {
            if networked {
                format!("{prefix}-{id}")
            } else {
                "localhost".to_owned()
            }
        };
        let hosts: Vec<_> = (1..=spec.nodes).map(host).collect();
        // Kafka wants 16 bytes in base64url: the last of 22 characters holds two bits only.
        let id: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(21)
            .chain(['A'])
            .collect();
        let mut cluster = Self {
            alias: spec.alias.clone(),
            id,
            bootstrap: String::new(),
            inside: networked.then(|| {
                let servers: Vec<_> = hosts
                    .iter()
                    .map(|host| format!("{host}:{INTERNAL_PORT}"))
                    .collect();
                (prefix.clone(), servers.join(","))
            }),
            brokers: Vec::new(),
            link: None,
            secured: BTreeMap::new(),
        };
        for listener in &spec.secured {
            cluster.secured.insert(listener.name, free_port()?);
        }
        let mut exits = Vec::new();
        for _ in 0..if spec.linked { spec.nodes } else { 0 } {
            exits.push(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
        }
        if spec.linked {
            cluster.link = Some(Link::start(&exits)?);
        }
        let mut addresses = Vec::new();
        for node in 1..=spec.nodes {
            let port = free_port()?;
            addresses.push(format!("127.0.0.1:{port}"));
            let exit = exits.get(usize::from(node) - 1).map(SocketAddr::port);
            let broker = cluster.start_node(&spec, &prefix, (node, &hosts), (port, exit));
            cluster.brokers.push(broker.await?);
        }
        cluster.bootstrap = addresses.join(",");
        cluster.ready().await?;
        Ok(cluster)
    }

    /// Starts node `node` for clients at `port` of this machine, and for those of the link at `exit`.
    async fn start_node(
        &self,
        spec: &Spec,
        prefix: &str,
        (node, hosts): (u16, &[String]),
        (port, exit): (u16, Option<u16>),
    ) -> Result<Broker> {
        let entrances = self.link.iter().flat_map(Link::ports);
        let entrance = entrances.copied().nth(usize::from(node) - 1);
        let mut environment = spec.environment(node, hosts, port, entrance, &self.secured);
        environment.insert("CLUSTER_ID".to_owned(), self.id.clone());
        let image = Kafka {
            version: spec.version.clone(),
            environment,
        };
        let mut request = image
            .with_container_name(format!("{prefix}-{node}"))
            .with_label(LABEL, &*SESSION)
            .with_startup_timeout(START)
            .with_mapped_port(port, CLIENT_PORT.tcp());
        if let Some(exit) = exit {
            request = request.with_mapped_port(exit, LINK_PORT.tcp());
        }
        for port in self.secured.values() {
            request = request.with_mapped_port(*port, port.tcp());
        }
        for listener in &spec.secured {
            let pair = listener.identity.keystore();
            request = request.with_copy_to(store(listener.name, "keystore"), pair.into_bytes());
            if let Some(clients) = &listener.clients {
                request =
                    request.with_copy_to(store(listener.name, "truststore"), clients.clone().into_bytes());
            }
            if let Asks::Iam(validator) = &listener.asks {
                request = request.with_copy_to(IAM_JAR, validator.clone());
            }
        }
        if let Some((network, _)) = &self.inside {
            request = request.with_network(network);
        }
        let started = on_engine(async move { Ok(request.start().await?) }).await;
        Ok(Arc::new(started.with_context(|| {
            format!(
                "starting a container of apache/kafka:{} (`make test` makes the image)",
                spec.version
            )
        })?))
    }

    /// Waits until all brokers of the cluster answer and know each other, also after a restart.
    ///
    /// # Errors
    /// When that takes longer than two minutes; with the end of the brokers' logs.
    pub async fn ready(&self) -> Result<()> {
        let up = until(START, &format!("cluster {} to start", self.alias), || async {
            match self
                .with_consumer(|consumer| Ok(consumer.fetch_metadata(None, Duration::from_secs(2))?))
                .await
            {
                Ok(metadata) if metadata.brokers().len() == self.brokers.len() => Ok(()),
                Ok(metadata) => Err(format!(
                    "{} of {} brokers",
                    metadata.brokers().len(),
                    self.brokers.len()
                )),
                Err(why) => Err(format!("{why:#}")),
            }
        })
        .await;
        if let Err(why) = up {
            let mut text = format!("{why:#}");
            for node in 1..=self.brokers.len() {
                text.push_str(&format!("\nlog of node {node}:\n{}", self.log_tail(node).await?));
            }
            bail!(text);
        }
        Ok(())
    }

    /// The name that tests and configurations use for it.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// Kafka's cluster id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `host:port,…` for clients on this machine.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The cluster's network, and `host:port,…` for clients in containers that are in it.
    ///
    /// # Errors
    /// When it has none: see [`Spec::networked`].
    pub fn inside(&self) -> Result<(&str, &str)> {
        let inside = self.inside.as_ref();
        let (network, servers) = inside.with_context(|| format!("cluster {} has no network", self.alias))?;
        Ok((network, servers))
    }

    /// `host:port` of the listener of this name, see [`Spec::secured`].
    ///
    /// # Errors
    /// When there is none.
    pub fn secured(&self, name: &str) -> Result<String> {
        let port = self
            .secured
            .get(name)
            .with_context(|| format!("no listener {name}"))?;
        Ok(format!("localhost:{port}"))
    }

    /// The way from another region.
    ///
    /// # Errors
    /// When the cluster was not started [`Spec::linked`].
    pub fn link(&self) -> Result<&Link> {
        let link = self.link.as_ref();
        link.with_context(|| format!("cluster {} was started without a link", self.alias))
    }

    /// The base of an rdkafka client's configuration.
    #[must_use]
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// Creates a topic with as many replicas as there are nodes (at most 3) and waits for its leaders.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let replicas = i32::try_from(self.brokers.len())?.min(3);
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (key, value) in configs {
            topic = topic.set(key, value);
        }
        let results = self.admin()?.create_topics(&[topic], &options()).await?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("creating {topic} on {}: {code}", self.alias))?;
        }
        until(
            REQUEST,
            &format!("leaders of {name} on {}", self.alias),
            || async {
                match self.topics().await {
                    Ok(topics) if topics.get(name) == Some(&usize::try_from(partitions).unwrap_or(0)) => {
                        Ok(())
                    }
                    Ok(topics) => Err(format!("{:?} partitions with a leader", topics.get(name))),
                    Err(why) => Err(format!("{why:#}")),
                }
            },
        )
        .await
    }

    /// Deletes a topic and waits until it is gone: one of the same name that is made at once could be taken for it.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        for result in self.admin()?.delete_topics(&[name], &options()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("deleting {topic} on {}: {code}", self.alias))?;
        }
        until(
            REQUEST,
            &format!("{name} to be gone from {}", self.alias),
            || async {
                match self.topics().await {
                    Ok(topics) if !topics.contains_key(name) => Ok(()),
                    Ok(_) => Err("it is there".to_owned()),
                    Err(why) => Err(format!("{why:#}")),
                }
            },
        )
        .await
    }

    /// All topics with the number of their partitions that have a leader.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn topics(&self) -> Result<BTreeMap<String, usize>> {
        let metadata = self
            .with_consumer(|consumer| Ok(consumer.fetch_metadata(None, REQUEST)?))
            .await?;
        let led = |topic: &rdkafka::metadata::MetadataTopic| {
            topic
                .partitions()
                .iter()
                .filter(|partition| partition.leader() >= 0)
                .count()
        };
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| (topic.name().to_owned(), led(topic)))
            .collect())
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    /// Runs blocking work with a fresh consumer beside the runtime.
    pub(crate) async fn with_consumer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&BaseConsumer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let config = self.client();
        tokio::task::spawn_blocking(move || work(&config.create::<BaseConsumer>()?)).await?
    }

    fn broker(&self, node: usize) -> Result<Broker> {
        let broker = node.checked_sub(1).and_then(|index| self.brokers.get(index));
        broker
            .cloned()
            .with_context(|| format!("cluster {} has no node {node}", self.alias))
    }

    /// Docker's id of node `node`.
    pub(crate) fn container(&self, node: usize) -> Result<String> {
        Ok(self.broker(node)?.id().to_owned())
    }

    /// Stops node `node` (from 1) as a restart does: SIGTERM, up to 30 s.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn stop(&self, node: usize) -> Result<()> {
        let broker = self.broker(node)?;
        on_engine(async move { Ok(broker.stop_with_timeout(Some(30)).await?) }).await
    }

    /// Ends node `node` at once with SIGKILL. Its disk stays.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn kill(&self, node: usize) -> Result<()> {
        let broker = self.broker(node)?;
        on_engine(async move { Ok(broker.stop_with_timeout(Some(0)).await?) }).await
    }

    /// Starts node `node` after [`Cluster::stop`] or [`Cluster::kill`]; wait with [`Cluster::ready`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn restart(&self, node: usize) -> Result<()> {
        let broker = self.broker(node)?;
        on_engine(async move { Ok(broker.start().await?) }).await
    }

    /// Freezes node `node`: connections stay open and nothing answers. By a signal: the engine's own way, the freezer of cgroups, gives up
    /// on busy machines ("unable to freeze").
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn pause(&self, node: usize) -> Result<()> {
        self.signal(node, "STOP").await
    }

    /// Ends [`Cluster::pause`].
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn unpause(&self, node: usize) -> Result<()> {
        self.signal(node, "CONT").await
    }

    async fn signal(&self, node: usize, signal: &str) -> Result<()> {
        let mut command = Command::new("docker");
        command.args(["kill", "--signal", signal, &self.container(node)?]);
        run(command).await.map(drop)
    }

    /// The last 30 lines that node `node` wrote.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn log_tail(&self, node: usize) -> Result<String> {
        let broker = self.broker(node)?;
        let (out, err) =
            on_engine(async move { Ok((broker.stdout_to_vec().await?, broker.stderr_to_vec().await?)) })
                .await?;
        let text = [String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)].concat();
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in self.brokers.drain(..) {
            on_engine_detached(async move {
                // What fails here is removed when the process ends.
                if let Some(broker) = Arc::into_inner(broker) {
                    broker.rm().await.ok();
                }
            });
        }
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST))
        .operation_timeout(Some(REQUEST))
}
