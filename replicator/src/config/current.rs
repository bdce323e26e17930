//! A flow's settings while it runs: some of them follow the file.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Flow;

/// The settings of a flow as its holder goes by them; they become those of the file when the holder says so.
#[derive(Clone, Debug)]
pub struct Current {
    flow: Flow,
    all: Arc<[Flow]>,
    file: watch::Receiver<Arc<[Flow]>>,
}

impl Current {
    /// Of this flow, one of those in `file`, all of the configuration.
    #[must_use]
    pub fn new(flow: &Flow, file: watch::Receiver<Arc<[Flow]>>) -> Self {
        let all = Arc::clone(&file.borrow());
        let flow = flow.clone();
        Self { flow, all, file }
    }

    /// All flows of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Flow] {
        &self.all
    }

    /// Goes by the file as it is now.
    pub fn renew(&mut self) {
        if self.file.has_changed().unwrap_or(false) {
            self.all = Arc::clone(&self.file.borrow_and_update());
            // Flows neither come nor go while we run.
            if let Some(flow) = self.all.iter().find(|flow| flow.name == self.flow.name) {
                self.flow = flow.clone();
            }
        }
    }

    /// Waits until the file says something else, and goes by that.
    pub async fn changed(&mut self) {
        if self.file.changed().await.is_err() {
            // It is not read any more.
            std::future::pending::<()>().await;
        }
        self.file.mark_changed();
        self.renew();
    }

    /// Waits so long, or until the file says something else, and goes by what it says then.
    pub async fn sleep(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => self.renew(),
            () = self.changed() => {}
        }
    }
}

impl Deref for Current {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        &self.flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    fn flows(include: &str) -> Arc<[Flow]> {
        let text = format!(
            "instance: a\nclusters: {{ tw: {{ bootstrap_servers: 'a:1' }}, jp: {{ bootstrap_servers: 'b:1' }} }}\n\
             flows: [{{ source: tw, target: jp, topics: {{ include: ['{include}'] }} }}, {{ source: jp, target: tw }}]"
        );
        parse(&text, &Environment::new()).unwrap().flows.into()
    }

    #[tokio::test(start_paused = true)]
    async fn settings_are_what_they_were_until_their_holder_asks() {
        let first = flows("a");
        let (tell, file) = watch::channel(Arc::clone(&first));
        let mut current = Current::new(&first[0], file);
        let routes = |current: &Current| {
            let of = |flow: &Flow| flow.router.route("a").is_ok();
            (of(current), of(&current.all()[0]))
        };
        tell.send_replace(flows("b"));
        assert_eq!(routes(&current), (true, true));
        current.renew();
        assert_eq!(routes(&current), (false, false));
        tell.send_replace(flows("a"));
        current.changed().await;
        assert_eq!(routes(&current), (true, true));
        tell.send_replace(flows("b"));
        let began = tokio::time::Instant::now();
        current.sleep(Duration::from_secs(5)).await;
        assert_eq!(
            (routes(&current), began.elapsed()),
            ((false, false), Duration::ZERO)
        );
        drop(tell);
        current.sleep(Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }
}
