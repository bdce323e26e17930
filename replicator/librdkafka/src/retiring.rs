//! Engines that are destroyed beside their successors. librdkafka waits for its requests then: a broker that had refused our password a moment
//! ago kept it for a minute. The successor's transactional id fences whatever is left of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More are destroyed in place, as in an outage, where one follows the other.
const MOST: usize = 4;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Drops it in a thread of its own.
pub(crate) fn retire(engine: impl Send + 'static) {
    let more = |count| (count < MOST).then_some(count + 1);
    if COUNT
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
        .is_err()
    {
        return;
    }
    let end = move || {
        drop(engine);
        leave();
    };
    if thread::Builder::new()
        .name("retired".to_owned())
        .spawn(end)
        .is_err()
    {
        // It ended here, with the closure.
        leave();
    }
}

fn leave() {
    COUNT.fetch_sub(1, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Ends when it is told to, and says so.
    struct Slow(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _told = self.0.recv();
            let _heard = self.1.send(());
        }
    }

    #[test]
    fn nobody_waits_for_a_few_of_them() {
        let (told, ended) = mpsc::channel();
        let slow = |told: &mpsc::Sender<()>| {
            let (end, wait) = mpsc::channel();
            retire(Slow(wait, told.clone()));
            end
        };
        let all: Vec<_> = (0..MOST).map(|_| slow(&told)).collect();
        assert!(ended.try_recv().is_err());
        // One more is waited for: this one ends at once, for nobody can tell it to.
        let (end, wait) = mpsc::channel::<()>();
        drop(end);
        retire(Slow(wait, told));
        assert!(ended.try_recv().is_ok());
        all.iter().for_each(|end| end.send(()).unwrap());
        assert_eq!(ended.iter().count(), MOST);
    }
}
