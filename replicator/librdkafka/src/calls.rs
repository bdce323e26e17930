//! Transaction calls, made in a thread of their own: each waits for brokers until its time is over, and nothing else ends it. Whoever has reason to
//! leaves the call behind, with the engine that it belongs to.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::native::{Failure, Handle};

type Call = Box<dyn FnOnce(&Handle) -> Result<(), Failure> + Send>;

/// Where the calls of a producer are made, one after the other.
pub(crate) struct Calls {
    /// Until the end.
    line: Option<Sender<Call>>,
    outcomes: Receiver<Result<(), Failure>>,
    thread: Option<JoinHandle<()>>,
}

impl Calls {
    /// Those of this producer.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(crate) fn new(producer: Handle) -> std::io::Result<Self> {
        let (line, calls) = mpsc::channel::<Call>();
        let (tell, outcomes) = mpsc::channel();
        let carry_out = move || {
            for call in calls {
                // Nobody listens where the call was left behind.
                let _heard = tell.send(call(&producer));
            }
        };
        let thread = thread::Builder::new()
            .name("transactions".to_owned())
            .spawn(carry_out)?;
        Ok(Self {
            line: Some(line),
            outcomes,
            thread: Some(thread),
        })
    }

    /// Makes a call; its outcome comes by [`Calls::outcome`], and before that no other is made.
    pub(crate) fn make(&self, call: impl FnOnce(&Handle) -> Result<(), Failure> + Send + 'static) {
        if let Some(line) = &self.line {
            // A thread that has panicked is found out by who waits for the outcome.
            let _taken = line.send(Box::new(call));
        }
    }

    /// What came of the call; `None`: it is not over after `wait`.
    ///
    /// # Panics
    /// Where the call did.
    pub(crate) fn outcome(&mut self, wait: Duration) -> Option<Result<(), Failure>> {
        match self.outcomes.recv_timeout(wait) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.end();
                None
            }
        }
    }

    /// Waits for the call that is under way.
    fn end(&mut self) {
        drop(self.line.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.end();
    }
}
