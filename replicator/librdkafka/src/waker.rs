//! Waking an engine that waits.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::native::Queue;

/// Makes a waiting `haul` or `settle` return at once, from any thread. Used while nothing waits, it makes the
/// next wait return. Outlives its engine harmlessly.
#[derive(Clone)]
pub struct Waker(Arc<Mutex<Vec<Arc<Queue>>>>);

impl Waker {
    pub(crate) fn new(queues: Vec<Arc<Queue>>) -> Self {
        Self(Arc::new(Mutex::new(queues)))
    }

    /// Wakes the engine; does nothing once it is gone.
    pub fn wake(&self) {
        for queue in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            queue.wake();
        }
    }

    /// Lets the queues go: they would keep the engine's clients alive.
    pub(crate) fn disarm(&self) {
        let queues = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        // Behind the lock: the last queue ends its client, which takes seconds, and others may want to wake us.
        drop(queues);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
