//! Where a consumer of `orders` in Taiwan would go on in Japan:
//!
//! ```text
//! cargo run -p kuroshio-client --example where_next -- TW_SERVERS JP_SERVERS PARTITION OFFSET
//! ```

use std::sync::Arc;

use kuroshio_client::{Asked, Cluster, ClusterSettings, Flow, Question, Topic, Translator};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tw, jp, partition, offset] = arguments.as_slice() else {
        return Err("usage: where_next TW_SERVERS JP_SERVERS PARTITION OFFSET".into());
    };
    let cluster = |alias: &str, servers: &str| {
        let servers = servers.split(',').map(str::to_owned).collect();
        Cluster::new(ClusterSettings::new(alias, servers))
    };
    // Aliases and flows are called as in Kuroshio's configuration.
    let flow = |name: &str, source: &str| Flow {
        name: name.into(),
        source: source.into(),
        topic: "orders".into(),
    };
    let topic = Topic {
        flow: flow("tw-jp", "tw"),
        name: "orders".into(),
        into_from: vec![flow("jp-tw", "jp")],
        into_to: Vec::new(),
    };
    let question = Question {
        topic: Arc::new(topic),
        partition: partition.parse()?,
        offsets: vec![Asked {
            offset: offset.parse()?,
            anchor: None,
            hint: None,
        }],
        count: true,
    };
    let translator = Translator::new(cluster("tw", tw), cluster("jp", jp));
    for answer in translator.translate(&[question]).await? {
        for translated in answer? {
            let exact = if translated.translation.exact {
                "exactly"
            } else {
                "safely"
            };
            let (at, again) = (translated.translation.offset, translated.translation.again);
            let missing = translated.missing;
            let lines = format!(
                "go on at {at}, {exact}; {again} records are read again, {missing} are not there yet\n"
            );
            std::io::Write::write_all(&mut std::io::stdout(), lines.as_bytes())?;
        }
    }
    Ok(())
}
