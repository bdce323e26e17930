//! The rules of Kuroshio: facts in, orders out. No I/O, no clock, no thread.

pub mod acls;
pub mod ages;
pub mod batch;
pub mod configs;
pub mod control;
pub mod departures;
pub mod engine;
pub mod failover;
pub mod flow;
pub mod groups;
pub mod health;
pub mod heartbeats;
pub mod lag;
pub mod mm2;
pub mod needs;
pub mod origin;
pub mod routes;
pub mod runs;
pub mod search;
pub mod secret;
pub mod slots;
pub mod start;
pub mod translate;
pub mod types;
pub mod varint;
pub mod window;
