//! ACLs of topics follow from the side with the authority; of what others created nothing is deleted.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use kuroshio_core::acls::{Acl, Operation, PatternType};
use kuroshio_integration::{Cluster, Kuroshio, Pair, Spec, until};
use serde_json::json;

use crate::regions::{WAIT, both_ways, one_way, wire};

const DESCRIBE_CONFIGS: Operation = Operation(10);

pub(crate) fn acl(principal: &str, operation: Operation, name: &str) -> Acl {
    Acl {
        pattern: if name.len() > 1 && name.ends_with('*') {
            PatternType::Prefixed
        } else {
            PatternType::Literal
        },
        name: if name == "*" {
            name
        } else {
            name.trim_end_matches('*')
        }
        .into(),
        principal: format!("User:{principal}").into(),
        host: "*".into(),
        operation,
        allow: true,
    }
}

fn denied(acl: Acl) -> Acl {
    Acl { allow: false, ..acl }
}

pub(crate) async fn create(kafka: &Cluster, acls: &[Acl]) -> Result<()> {
    for outcome in wire(kafka).create_acls(acls).await? {
        outcome?;
    }
    until_acls(kafka, |there| acls.iter().all(|acl| there.contains(acl))).await
}

pub(crate) async fn until_acls(kafka: &Cluster, as_wanted: impl Fn(&BTreeSet<Acl>) -> bool) -> Result<()> {
    until(WAIT, &format!("ACLs on {}", kafka.alias()), || async {
        match wire(kafka).topic_acls().await {
            Ok(there) if as_wanted(&there) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// A cluster whose ACLs bind everybody but the clients of these tests.
pub(crate) fn guarded(alias: &str) -> Spec {
    Spec::new(alias)
        .with_acls()
        .setting("super.users", "User:ANONYMOUS")
}

#[tokio::test]
async fn acls_follow_and_only_ours_are_deleted() -> Result<()> {
    let (tw, jp) = tokio::try_join!(Cluster::start(guarded("tw")), Cluster::start(guarded("jp")))?;
    let pair = Pair { tw, jp };
    let Pair { tw, jp } = &pair;
    tw.create_topic("acl.orders", 1, &[]).await?;
    let source = [
        acl("reader", Operation::READ, "acl.orders"),
        acl("writer", Operation::WRITE, "acl.*"),
        denied(acl("intern", Operation::ALL, "acl.orders")),
        acl("admin", DESCRIBE_CONFIGS, "acl.orders"),
    ];
    let elsewhere = [
        acl("reader", Operation::READ, "other.topic"),
        acl("root", Operation::READ, "*"),
    ];
    create(tw, &source).await?;
    create(tw, &elsewhere).await?;
    let local = acl("local", Operation::READ, "acl.orders");
    create(jp, std::slice::from_ref(&local)).await?;
    let mut config = both_ways(&pair, "acl", &["acl[.].*"]);
    config["defaults"]["acls"] = json!({ "sync": true, "interval": "1s", "delete": true });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let complete: BTreeSet<Acl> = source.iter().chain([&local]).cloned().collect();
    until_acls(jp, |there| *there == complete)
        .await
        .with_context(|| process.log_tail())?;

    // What was created before a kill is known after it.
    process.kill()?;
    let gone = &source[..2];
    for outcome in wire(tw).delete_acls(gone).await? {
        outcome?;
    }
    process.restart()?;
    process.ready(WAIT).await?;
    let left: BTreeSet<Acl> = complete
        .iter()
        .filter(|acl| !gone.contains(acl))
        .cloned()
        .collect();
    until_acls(jp, |there| *there == left)
        .await
        .with_context(|| process.log_tail())?;
    // The side with the authority is as it was.
    let there = wire(tw).topic_acls().await?;
    ensure!(!there.contains(&local) && there.len() == 4, "{there:?}");
    process.terminate()?;
    process.exited(WAIT).await?;

    // Under a prefix nobody but the flow writes; and what it may not delete stays.
    let mut config = one_way(&pair, "aclprefix", &["acl[.].*"]);
    config["defaults"]["naming"] = json!("prefix");
    config["defaults"]["acls"] = json!({ "sync": true, "interval": "1s" });
    create(
        tw,
        &[
            acl("writer", Operation::WRITE, "acl.*"),
            acl("owner", Operation::ALL, "acl.orders"),
        ],
    )
    .await?;
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    let mut complete = left.clone();
    complete.extend([
        acl("writer", Operation::READ, "tw.acl.*"),
        acl("owner", Operation::READ, "tw.acl.orders"),
        denied(acl("intern", Operation::ALL, "tw.acl.orders")),
        acl("admin", DESCRIBE_CONFIGS, "tw.acl.orders"),
    ]);
    until_acls(jp, |there| *there == complete)
        .await
        .with_context(|| process.log_tail())?;
    for outcome in wire(tw)
        .delete_acls(&[acl("owner", Operation::ALL, "acl.orders")])
        .await?
    {
        outcome?;
    }
    // The next one to follow shows that the deletion was seen.
    create(tw, &[acl("later", Operation::READ, "acl.orders")]).await?;
    complete.insert(acl("later", Operation::READ, "tw.acl.orders"));
    until_acls(jp, |there| *there == complete)
        .await
        .with_context(|| process.log_tail())
}

#[tokio::test]
async fn a_cluster_without_authorizer_is_named() -> Result<()> {
    let pair = kuroshio_integration::pair().await?;
    pair.tw.create_topic("noacl.orders", 1, &[]).await?;
    let mut config = one_way(pair, "noacl", &["noacl[.].*"]);
    config["defaults"]["acls"] = json!({ "sync": true, "interval": "1s" });
    let mut process = Kuroshio::run(config)?;
    process.ready(WAIT).await?;
    until(WAIT, "the reason", || async {
        match process.status().await {
            Ok(status)
                if status["flows"][0]["errors"]
                    .to_string()
                    .contains("without authorizer") =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
