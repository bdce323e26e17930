//! Kuroshio against real Kafka. One binary, so that all tests share the two clusters; `make test` sets up what
//! they need. Every test owns its topic names.

#![allow(
    clippy::too_many_lines,
    clippy::print_stdout,
    reason = "a test tells one story, and what it measured"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is test code"
)]

mod acls;
mod application;
mod bad_input;
mod beside;
mod both_ways;
mod chart;
mod check;
mod compat;
mod configs;
mod deleted;
mod drill;
mod engine;
mod exported;
mod failover;
mod fidelity;
mod groups;
mod growth;
mod harness;
mod http;
mod iam;
mod image;
mod kills;
mod loss;
mod many;
mod memory;
mod mesh;
mod nemesis;
mod observed;
mod operations;
mod overtaken;
mod placement;
mod plan;
mod protocol;
mod quarantine;
mod regions;
mod sasl;
mod scenarios;
mod starts;
mod takeover;
mod tls;
mod topics;
mod translation;
mod verify;
mod wan;
mod wire;
mod zombie;
