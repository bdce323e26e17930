//! The demo is the whole application between two embedded clusters: it needs no Docker.

use std::sync::Mutex;
use std::time::Duration;

use kuroshio::demo::{self, Options};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_copies_everything_once_and_nothing_returns() {
    let said = Mutex::new(String::new());
    let options = Options {
        seconds: 2,
        rate: 200,
        http: None,
    };
    let run = demo::run(&options, |text| {
        said.lock().unwrap().push_str(text);
        Ok(())
    });
    let verdict = tokio::time::timeout(Duration::from_secs(120), run)
        .await
        .unwrap()
        .unwrap();
    let said = said.into_inner().unwrap();
    assert!(verdict.holds(), "{said}");
    assert_eq!(verdict.born, 800, "{said}");
    assert!(
        said.contains("first record replicated") && said.contains("verdict: ok"),
        "{said}"
    );
}
