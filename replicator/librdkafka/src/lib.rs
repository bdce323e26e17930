//! The librdkafka engine of Kuroshio (DESIGN D5): consumes records in batches, judges and tags them, and hands
//! them to the producer without copying their values.
//!
//! The only crate with `unsafe`, all of it in the module `native`. The safe `rdkafka` crate owns the clients;
//! records do not pass through its message types, which copy, allocate per record and panic on a header key
//! that is not UTF-8.
//!
//! # What it changes in a record
//! Keys, values and headers are kept to the byte, nulls and empties apart. One thing cannot be kept:
//! librdkafka replaces a timestamp of 0 by the present time, so a record of 1970-01-01T00:00:00.000Z is
//! written with 1 ms. No timestamp (-1) stays -1.

#![allow(
    unsafe_code,
    reason = "the engine's crate is where the C library is called; see the crate's text"
)]

mod calls;
pub mod embedded;
mod engine;
mod faults;
mod fetch_size;
mod forward;
mod in_flight;
mod lanes;
mod native;
mod properties;
mod retiring;
mod settings;
mod transaction;
mod waker;
mod widths;

pub use engine::Librdkafka;
pub use properties::owned_properties;
pub use settings::{ClientSettings, Delivery, MEMORY_MIN, Outdated, Security, Settings, Tokens};
pub use waker::Waker;

#[cfg(test)]
mod tests;
