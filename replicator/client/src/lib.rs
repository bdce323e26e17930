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
//!
//! Brokers that want TLS, and to know who asks, by a password or by tokens (MSK's IAM: those of AWS's signer):
//!
//! ```
//! use kuroshio_client::{Cluster, ClusterSettings, Credentials, Sasl, Secret, Security, Tls, Token, Tokens};
//!
//! fn cluster(alias: &str, server: &str, sasl: Sasl) -> Cluster {
//!     let mut settings = ClusterSettings::new(alias, vec![server.to_owned()]);
//!     settings.security = Security { tls: Some(Tls::default()), sasl: Some(sasl) }; // with the system's roots
//!     Cluster::new(settings)
//! }
//!
//! fn with_password(username: String, password: String) -> Cluster {
//!     let user = Credentials { username, password: Secret::from(password) };
//!     cluster("tw", "b-1.tw.example:9096", Sasl::ScramSha512(user))
//! }
//!
//! /// `sign` gives a token, and from when until when it is good, in milliseconds since 1970.
//! fn with_tokens<F>(sign: impl Fn() -> F + Send + Sync + 'static) -> Cluster
//! where
//!     F: Future<Output = Result<(String, i64, i64), String>> + Send + 'static,
//! {
//!     let tokens = Tokens::new(move || {
//!         let signed = sign();
//!         Box::pin(async move {
//!             let (value, issued, expires) = signed.await?;
//!             Ok(Token { value: Secret::from(value), issued, expires })
//!         })
//!     });
//!     cluster("jp", "b-1.jp.example:9098", Sasl::OauthBearer(tokens))
//! }
//!
//! let tw = with_password("orders".to_owned(), "from a secret".to_owned());
//! let jp = with_tokens(|| async { Err("nobody signs here".to_owned()) });
//! assert_eq!((&**tw.alias(), &**jp.alias()), ("tw", "jp"));
//! ```

mod legs;
mod log;
mod reading;
mod translator;

pub use kuroshio_core::origin::{HEADER, Hop, Tag, explains};
pub use kuroshio_core::secret::{Secret, Token};
pub use kuroshio_core::translate::Translation;
pub use kuroshio_core::types::TopicPartition;
/// Why a cluster did not answer, and what that means for the caller.
pub use kuroshio_wire::{Class, Error as ClusterError};
pub use kuroshio_wire::{Cluster, ClusterSettings, Credentials, Sasl, Security, Tls, TokenFuture, Tokens};
pub use translator::{Anchor, Answer, Asked, Error, Flow, Hint, Question, Topic, Translated, Translator};
