//! The way from the slow tasks to a pump: bounded, and it wakes a pump that waits in its engine.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::pump::News;

/// What ends an engine's wait; another one after every rebuild.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// Where a pump's present engine leaves its waker.
#[derive(Clone, Default)]
pub struct WakeSlot(Arc<Mutex<Option<Wake>>>);

impl WakeSlot {
    /// The engine that waits from now on.
    pub fn put(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(wake));
    }

    fn wake(&self) {
        let wake = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// The line to one pump.
#[derive(Clone)]
pub struct PumpLine {
    news: mpsc::Sender<News>,
    wake: WakeSlot,
}

/// The pump has ended.
#[derive(Debug, thiserror::Error)]
#[error("the pump has ended")]
pub struct PumpGone;

impl PumpLine {
    /// A line over this channel to the pump whose engine is in this slot.
    #[must_use]
    pub fn new(news: mpsc::Sender<News>, wake: WakeSlot) -> Self {
        Self { news, wake }
    }

    /// Tells the pump; waits while its queue is full.
    ///
    /// # Errors
    /// When the pump has ended.
    pub async fn tell(&self, news: News) -> Result<(), PumpGone> {
        self.news.send(news).await.map_err(|_| PumpGone)?;
        self.wake.wake();
        Ok(())
    }
}
