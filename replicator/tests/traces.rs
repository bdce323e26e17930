//! Spans reach a collector: the whole application between two embedded clusters, and a receiver of OTLP in this process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use kuroshio::app::{self, Job, Stop};
use kuroshio::config::{self, Config, Environment};
use kuroshio::logs;
use kuroshio::traces::Traces;
use kuroshio_librdkafka::embedded::{DemoReader, DemoWriter, EmbeddedCluster};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// For something that happens by itself.
const WAIT: Duration = Duration::from_secs(120);
const PARTITIONS: i32 = 2;
/// Written at once.
const RECORDS: usize = 300;

/// What a span said.
#[derive(Clone, Debug)]
struct Got {
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    failed: bool,
    attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

/// A collector in a runtime of its own: it goes with all its connections.
struct Receiver {
    address: SocketAddr,
    got: watch::Receiver<Vec<Got>>,
    runtime: Runtime,
}

struct Service(watch::Sender<Vec<Got>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut new = Vec::new();
        for spans in request.into_inner().resource_spans {
            let resource = texts(&spans.resource.unwrap().attributes);
            for span in spans.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
                new.push(Got {
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    failed: span.status.is_some_and(|status| status.code != 0),
                    attributes: texts(&span.attributes),
                    resource: resource.clone(),
                });
            }
        }
        self.0.send_modify(|got| got.extend(new));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let (tell, got) = watch::channel(Vec::new());
        let incoming = {
            let _within = runtime.enter();
            TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().add_service(TraceServiceServer::new(Service(tell)));
        runtime.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self {
            address,
            got,
            runtime,
        }
    }

    /// Waits until what came fulfils `enough`.
    async fn until(&mut self, enough: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let got = tokio::time::timeout(WAIT, self.got.wait_for(|got| enough(got))).await;
        got.expect("the spans did not come").unwrap().clone()
    }
}

fn configuration(clusters: &[EmbeddedCluster; 2], otlp: &str) -> Config {
    // As the demo's: its clusters cannot fence transactions.
    let text = format!(
        "instance: pod-7\n\
         clusters:\n  tw: {{ bootstrap_servers: \"{}\" }}\n  jp: {{ bootstrap_servers: \"{}\" }}\n\
         flows: [{{ source: tw, target: jp }}]\n\
         defaults: {{ delivery: at_least_once, compression: lz4, heartbeats: {{ enabled: false }} }}\n\
         http: {{ listen: \"127.0.0.1:0\" }}\nlog: {{ level: warn }}\notlp: {{ endpoint: {otlp} }}\n",
        clusters[0].bootstrap(),
        clusters[1].bootstrap()
    );
    config::parse(&text, &Environment::new()).unwrap()
}

fn write(bootstrap: &str) {
    let writer = DemoWriter::new(bootstrap).unwrap();
    for number in 0..RECORDS {
        let partition = i32::try_from(number).unwrap() % PARTITIONS;
        writer
            .write("orders", partition, None, Some(b"value"), &[])
            .unwrap();
    }
    writer.flush(WAIT).unwrap();
}

fn read(bootstrap: &str, count: usize) {
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| ("orders", partition)).collect();
    let reader = DemoReader::new(bootstrap, &partitions).unwrap();
    let deadline = std::time::Instant::now() + WAIT;
    let mut found = 0;
    while found < count {
        assert!(std::time::Instant::now() < deadline, "{found} of {count} records");
        found += usize::from(reader.next(Duration::from_millis(100)).unwrap().is_some());
    }
}

/// Records of all batches.
fn records(got: &[Got]) -> usize {
    got.iter()
        .filter(|span| span.name == "batch")
        .map(|span| span.attributes["records"].parse::<usize>().unwrap())
        .sum()
}

fn check(got: &[Got]) {
    let names: BTreeSet<&str> = got.iter().map(|span| &*span.name).collect();
    assert_eq!(
        names,
        BTreeSet::from(["batch", "commit", "discover", "join", "open_lanes"])
    );
    for span in got {
        assert_eq!(span.resource["service.name"], "kuroshio");
        assert_eq!(span.resource["service.instance.id"], "pod-7");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        let keys: Vec<&str> = span.attributes.keys().map(|key| &**key).collect();
        let wanted: &[&str] = match &*span.name {
            "batch" => &["bytes", "flow", "lanes", "outcome", "pump", "records"],
            "commit" => &["positions"],
            "discover" => &["flow", "partitions"],
            "join" => &["flow", "generation", "pump"],
            _ => &["flow", "lanes", "pump"],
        };
        assert_eq!(keys, wanted, "{span:?}");
        if span.name == "commit" {
            let batch = got.iter().find(|batch| batch.id == span.parent).unwrap();
            assert_eq!((&*batch.name, &batch.trace), ("batch", &span.trace));
            continue;
        }
        assert!(span.parent.is_empty(), "{span:?}");
        assert_eq!(span.attributes["flow"], "tw-jp");
        if let Some(pump) = span.attributes.get("pump") {
            assert_eq!(pump, "kuroshio.tw-jp.pod-7.0");
        }
        if span.name == "batch" {
            assert_eq!(span.attributes["outcome"], "committed");
            assert!(!span.failed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_and_its_absence_costs_them_alone() {
    let clusters = [
        EmbeddedCluster::start(1).unwrap(),
        EmbeddedCluster::start(1).unwrap(),
    ];
    for cluster in &clusters {
        cluster.create_topic("orders", PARTITIONS).unwrap();
    }
    assert!(
        Traces::start(&configuration(&clusters, "null"))
            .unwrap()
            .is_none()
    );
    let mut receiver = Receiver::start();
    let config = configuration(&clusters, &format!("\"http://{}\"", receiver.address));
    let traces = Traces::start(&config).unwrap().expect("an endpoint is set");
    // What logs leave out is traced even so.
    logs::init(config.log, Some("warn"), Some(&traces)).unwrap();
    let stop = Stop::default();
    let job = Job {
        flows: config.flows.clone(),
        config,
        embedded: true,
        file: None,
    };
    let running = tokio::spawn(app::run(job, stop.clone()));
    let [source, target] = [clusters[0].bootstrap(), clusters[1].bootstrap()];

    write(&source);
    let complete = |got: &[Got]| {
        // A batch ends after its commit, and a look at the topics may have been under way.
        records(got) >= RECORDS && got.iter().any(|span| span.name == "discover")
    };
    let got = receiver.until(complete).await;
    assert_eq!(records(&got), RECORDS);
    check(&got);

    receiver.runtime.shutdown_background();
    write(&source);
    read(&target, 2 * RECORDS);
    assert!(!running.is_finished());
    stop.stop(true);
    running.await.unwrap().unwrap();
    traces.end();
}
