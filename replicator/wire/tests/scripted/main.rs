//! The client against a scripted broker on a real socket: what a real one does too seldom to test with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the helpers of these tests stop a test too"
)]

mod broker;
mod calls;
mod checks;
mod connections;
