//! For services that live in two regions: what an origin tag says, and where a consumer of one cluster goes on in another.
//!
//! [`Tag`] reads the header [`HEADER`] that Kuroshio adds to what it copies. [`Translator`] translates offsets, exactly where the
//! target log allows it, and never so that a record would be skipped (DESIGN D4). Both need nothing of a running Kuroshio.
//!
//! ```
//! use kuroshio_client::Tag;
//!
//! let tag = Tag::parse(b"tw/orders/3/8814#q8Jx0w").ok_or("no tag")?;
//! let birth = tag.birth();
//! assert_eq!((birth.cluster, birth.topic, birth.partition, birth.offset.0), ("tw", "orders", 3, 8814));
//! # Ok::<(), &str>(())
//! ```
//!
//! Translation is shown by `examples/where_next.rs`:
//! `cargo run -p kuroshio-client --example where_next -- TW_SERVERS JP_SERVERS PARTITION OFFSET`.

mod legs;
mod log;
mod reading;
mod translator;

pub use kuroshio_core::origin::{HEADER, Hop, Tag, explains};
pub use kuroshio_core::translate::Translation;
pub use kuroshio_core::types::TopicPartition;
pub use kuroshio_wire::{Cluster, ClusterSettings, Security, Tls};
pub use translator::{Anchor, Answer, Asked, Error, Flow, Hint, Question, Topic, Translated, Translator};
