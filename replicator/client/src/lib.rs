//! For services that live in two regions: what an origin tag says, and where a consumer of one cluster goes on in another.
//!
//! [`Tag`] reads the header [`HEADER`] that Kuroshio adds to what it copies. [`Translator`] translates offsets, exactly where the
//! target log allows it, and never so that a record would be skipped (DESIGN D4). Both need nothing of a running Kuroshio.

mod legs;
mod log;
mod reading;
mod translator;

pub use kuroshio_core::origin::{HEADER, Hop, Tag, explains};
pub use kuroshio_core::translate::Translation;
pub use kuroshio_core::types::TopicPartition;
pub use kuroshio_wire::{Cluster, ClusterSettings, Security};
pub use translator::{Anchor, Answer, Error, Flow, Question, Topic, Translated, Translator};
