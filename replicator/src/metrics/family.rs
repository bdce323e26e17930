//! The series of one metric by their labels. The prometheus crate's own vectors find a series by a hash of its label values
//! without a boundary between them: partition 12 of `orders` and partition 2 of `orders1` would be one series.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::RegistryError;

/// Label values in the order of the names.
type Values = Box<[String]>;

/// What a metric is called.
#[derive(Clone, Debug)]
struct Head {
    desc: Desc,
    /// Names of labels, in the order in which values are given.
    labels: &'static [&'static str],
}

impl Head {
    fn new(name: &str, help: &str, labels: &'static [&'static str]) -> Result<Self, RegistryError> {
        let names = labels.iter().map(|label| (*label).to_owned()).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), names, Default::default())?;
        Ok(Self { desc, labels })
    }

    fn family(&self, kind: MetricType, metrics: Vec<proto::Metric>) -> Vec<MetricFamily> {
        if metrics.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(kind);
        family.set_metric(metrics);
        vec![family]
    }

    /// A metric with its labels in the order of their names, as the crate's own have them.
    fn metric(&self, values: &Values) -> proto::Metric {
        let pair = |(name, value): (&&str, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        };
        let mut pairs: Vec<_> = self.labels.iter().zip(values).map(pair).collect();
        pairs.sort_by(|a, b| a.name().cmp(b.name()));
        proto::Metric::from_label(pairs)
    }
}

fn values<const N: usize>(labels: [&str; N]) -> Values {
    labels.map(str::to_owned).into()
}

/// Nothing panics while the lock is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counters of one name. They stay, as Prometheus expects of counters.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    head: Head,
    series: Arc<Mutex<BTreeMap<Values, Counter>>>,
}

/// A counter. Clones are one series.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Counts more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

impl Counters {
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            head: Head::new(name, help, labels)?,
            series: Arc::default(),
        })
    }

    pub(super) fn with<const N: usize>(&self, labels: [&str; N]) -> Counter {
        lock(&self.series).entry(values(labels)).or_default().clone()
    }
}

impl Collector for Counters {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.head.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = lock(&self.series);
        let metric = |(values, counter): (&Values, &Counter)| {
            let mut told = proto::Counter::default();
            told.set_value(counter.0.load(Ordering::Relaxed) as f64);
            let mut metric = self.head.metric(values);
            metric.set_counter(told);
            metric
        };
        let metrics = series.iter().map(metric).collect();
        self.head.family(MetricType::COUNTER, metrics)
    }
}

/// The gauges of one name. A series begins with its first value and ends with its last handle.
#[derive(Clone, Debug)]
pub(super) struct Gauges {
    head: Head,
    series: Arc<Mutex<BTreeMap<Values, Weak<AtomicU64>>>>,
}

/// A gauge. Clones are one series, and so are handles with the same labels.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// It is this much now.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl Gauges {
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &'static [&'static str],
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            head: Head::new(name, help, labels)?,
            series: Arc::default(),
        })
    }

    pub(super) fn with<const N: usize>(&self, labels: [&str; N]) -> Gauge {
        let mut series = lock(&self.series);
        let known = series.entry(values(labels)).or_default();
        if let Some(alive) = known.upgrade() {
            return Gauge(alive);
        }
        let new = Arc::new(AtomicU64::new(f64::NAN.to_bits()));
        *known = Arc::downgrade(&new);
        Gauge(new)
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.head.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut metrics = Vec::new();
        lock(&self.series).retain(|values, value| {
            let Some(value) = value.upgrade() else {
                return false;
            };
            let value = f64::from_bits(value.load(Ordering::Relaxed));
            if !value.is_nan() {
                let mut told = proto::Gauge::default();
                told.set_value(value);
                let mut metric = self.head.metric(values);
                metric.set_gauge(told);
                metrics.push(metric);
            }
            true
        });
        self.head.family(MetricType::GAUGE, metrics)
    }
}
