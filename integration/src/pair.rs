//! The clusters that tests share.

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::cluster::Cluster;
use crate::spec::Spec;

/// Two regions.
#[derive(Debug)]
pub struct Pair {
    /// Taiwan.
    pub tw: Cluster,
    /// Japan.
    pub jp: Cluster,
}

/// The two clusters that all tests of this process share: each test uses topic names of its own, and leaves
/// brokers and cluster-wide settings alone.
///
/// # Errors
/// When they cannot be started; the next caller then tries again.
pub async fn pair() -> Result<&'static Pair> {
    static PAIR: OnceCell<Pair> = OnceCell::const_new();
    PAIR.get_or_try_init(|| async {
        let (tw, jp) = tokio::try_join!(
            Cluster::start(Spec::new("tw").linked()),
            Cluster::start(Spec::new("jp").linked())
        )?;
        Ok(Pair { tw, jp })
    })
    .await
}

/// A third region beside [`pair`], shared in the same way: the United States.
///
/// # Errors
/// When it cannot be started; the next caller then tries again.
pub async fn third() -> Result<&'static Cluster> {
    static THIRD: OnceCell<Cluster> = OnceCell::const_new();
    THIRD
        .get_or_try_init(|| async { Cluster::start(Spec::new("us")).await })
        .await
}
