//! The harness: real clusters, a ledger of what was produced, and the process under test.
//!
//! - [`Cluster`] is a real Kafka cluster in containers; [`pair`] gives the two that all tests share, [`third`] one more.
//! - [`Authority`] signs certificates for listeners with TLS.
//! - [`TokenServer`] gives bearer tokens, [`Aws`] AWS credentials.
//! - [`Link`] is the way to a cluster in another region.
//! - [`Ledger`] produces seeded events, remembers them, and says what a topic has lost, doubled, reordered or altered.
//! - [`append`] writes records byte for byte.
//! - [`Kuroshio`] runs the real binary, [`Mm2`] what it replaces.
//! - [`Clock`] is a wall clock that it is given, which tests set.
//! - [`Prometheus`] scrapes it with our rules, [`Browser`] looks at its page.
//! - [`get`] and [`samples`] read what it serves, [`Process`] tells what a process costs.
//! - [`until`] waits for a condition with a deadline, and says what was seen last when it is not met.

mod authority;
mod aws;
mod browser;
mod clock;
mod cluster;
mod docker;
mod event;
mod http;
mod leaders;
mod ledger;
mod link;
mod mm2;
mod pair;
mod proc;
mod process;
mod prometheus;
mod raw;
mod read;
mod samples;
mod spec;
mod tally;
mod tokens;
mod tools;
mod wait;

pub use authority::{Authority, Identity, self_signed};
pub use aws::Aws;
pub use browser::Browser;
pub use clock::Clock;
pub use cluster::Cluster;
pub use docker::session_label;
pub use http::get;
pub use leaders::Led;
pub use ledger::{Ledger, Load};
pub use link::{Direction, Held, Link, Part, Wan};
pub use mm2::Mm2;
pub use pair::{Pair, pair, third};
pub use proc::Process;
pub use process::{Ended, Kuroshio, binary, command, command_in};
pub use prometheus::Prometheus;
pub use raw::{RawRecord, append};
pub use samples::{Sample, samples};
pub use spec::{IAM_KEYS, IAM_REGION, PLAIN_USERS, Spec};
pub use tally::Report;
pub use tokens::TokenServer;
pub use wait::until;
