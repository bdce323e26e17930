//! Kuroshio, the application: configuration, commands, metrics and HTTP around the core and its engine.

pub mod app;
pub mod board;
pub mod check;
pub mod clerk;
pub mod cli;
pub mod codecs;
pub mod compat;
pub mod config;
pub mod demo;
pub mod failover;
pub mod groups;
pub mod http;
pub mod import;
pub mod lanes;
pub mod line;
pub mod logs;
pub mod member;
pub mod metrics;
pub mod pump;
pub mod sampler;
pub mod status;
pub mod storer;
pub mod tail;
pub mod takeover;
pub mod topics;
pub mod translation;
