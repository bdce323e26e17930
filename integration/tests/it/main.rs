//! Kuroshio against real Kafka. One binary, so that all tests share the two clusters; `make test` sets up what
//! they need. Every test owns its topic names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is test code"
)]

mod both_ways;
mod engine;
mod harness;
mod regions;
mod wire;
