//! What differs between two configurations: what a process that runs can follow, and what waits for its next start.

use std::collections::BTreeSet;

use kuroshio_core::routes::RouteSettings;

use super::mistakes::{below, item};
use super::{Config, Flow, Mm2Compat};

/// Key paths that differ. Credentials are not looked at: they are exchanged anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Settings that may change while we run (INTERFACE "Configuration").
    pub live: BTreeSet<String>,
    /// All others.
    pub fixed: BTreeSet<String>,
}

impl Difference {
    /// Between the one that runs and another.
    #[must_use]
    pub fn between(running: &Config, other: &Config) -> Self {
        let mut difference = Self::default();
        difference.process(running, other);
        difference.clusters(running, other);
        let names =
            |config: &Config| -> Vec<_> { config.flows.iter().map(|flow| flow.name.clone()).collect() };
        if names(running) != names(other) {
            difference.fixed.insert("flows".to_owned());
            return difference;
        }
        for (index, (flow, new)) in running.flows.iter().zip(&other.flows).enumerate() {
            difference.flow(&item("flows", index), flow, new);
        }
        difference
    }

    fn process(&mut self, a: &Config, b: &Config) {
        for (key, same) in [
            ("region", a.region == b.region),
            ("http.listen", a.http_listen == b.http_listen),
            ("http.admin", a.http_admin == b.http_admin),
            ("http.tls", a.http_tls == b.http_tls),
            ("http.token", a.http_token.is_some() == b.http_token.is_some()),
            ("instance", a.instance == b.instance),
            ("shutdown_grace", a.shutdown_grace == b.shutdown_grace),
            ("log.format", a.log.format == b.log.format),
            ("otlp", a.otlp == b.otlp),
            ("defaults.memory", a.memory == b.memory),
        ] {
            self.note(false, key.to_owned(), same);
        }
        self.note(true, "log.level".to_owned(), a.log.level == b.log.level);
    }

    fn clusters(&mut self, a: &Config, b: &Config) {
        self.note(
            false,
            "clusters".to_owned(),
            a.clusters.keys().eq(b.clusters.keys()),
        );
        for (alias, old) in &a.clusters {
            let Some(new) = b.clusters.get(alias) else {
                continue;
            };
            let path = below("clusters", alias);
            for (key, same) in [
                (
                    "bootstrap_servers",
                    old.bootstrap_servers == new.bootstrap_servers,
                ),
                ("rack", old.rack == new.rack),
                ("librdkafka", old.librdkafka == new.librdkafka),
            ] {
                self.note(false, below(&path, key), same);
            }
        }
    }

    #[allow(clippy::too_many_lines, reason = "it is one list")]
    fn flow(&mut self, path: &str, running: &Flow, new: &Flow) {
        // Whoever adds a setting says here whether it follows the file.
        let Flow {
            name: _,
            source,
            target,
            router,
            spelled: _,
            refresh,
            forward,
            delivery,
            commit_interval,
            start,
            on_data_loss,
            on_topic_delete,
            replication_factor,
            partitions,
            authority,
            configs,
            acls,
            groups,
            compression,
            throttle,
            pumps,
            memory,
            heartbeats,
            positions_on_source,
            mm2,
        } = running;
        let (old_routes, routes) = (router.settings(), new.router.settings());
        let topics = |routes: &RouteSettings| {
            (
                routes.include.clone(),
                routes.exclude.clone(),
                routes.rename.clone(),
            )
        };
        for (key, same) in [
            (
                "topics",
                topics(old_routes) == topics(routes) && *refresh == new.refresh,
            ),
            // Where it is not written, it follows from the topics.
            ("authority", *authority == new.authority),
            ("configs", *configs == new.configs),
            ("acls", *acls == new.acls),
            ("groups", *groups == new.groups),
            ("throttle", *throttle == new.throttle),
        ] {
            self.note(true, below(path, key), same);
        }
        let mm2_topics = |mm2: &Mm2Compat| (mm2.heartbeats, mm2.checkpoints);
        for (key, same) in [
            ("source", *source == new.source),
            ("target", *target == new.target),
            ("naming", old_routes.naming == routes.naming),
            ("prefix_separator", mm2.separator == new.mm2.separator),
            ("forward", *forward == new.forward),
            ("delivery", *delivery == new.delivery),
            ("commit_interval", *commit_interval == new.commit_interval),
            ("start", *start == new.start),
            ("on_data_loss", *on_data_loss == new.on_data_loss),
            ("on_topic_delete", *on_topic_delete == new.on_topic_delete),
            (
                "replication_factor",
                *replication_factor == new.replication_factor,
            ),
            ("partitions", *partitions == new.partitions),
            ("compression", *compression == new.compression),
            ("pumps", *pumps == new.pumps),
            ("memory", *memory == new.memory),
            ("heartbeats", *heartbeats == new.heartbeats),
            (
                "positions_on_source",
                *positions_on_source == new.positions_on_source,
            ),
            ("mm2_compat", mm2_topics(mm2) == mm2_topics(&new.mm2)),
        ] {
            self.note(false, below(path, key), same);
        }
        self.note(
            false,
            "residency".to_owned(),
            old_routes.residency == routes.residency,
        );
        self.rest(path, old_routes, routes);
    }

    /// Whatever else a router may come to depend on waits for the next start.
    fn rest(&mut self, path: &str, old: &RouteSettings, new: &RouteSettings) {
        let but_topics = RouteSettings {
            include: old.include.clone(),
            exclude: old.exclude.clone(),
            rename: old.rename.clone(),
            ..new.clone()
        };
        if self.fixed.is_empty() {
            self.note(false, path.to_owned(), but_topics == *old);
        }
    }

    fn note(&mut self, live: bool, path: String, same: bool) {
        if !same {
            let paths = if live { &mut self.live } else { &mut self.fixed };
            paths.insert(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::too_many_lines, reason = "it is one table")]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    fn config(flow: &str, rest: &str) -> Config {
        let text = format!(
            "clusters: {{ tw: {{ bootstrap_servers: 'a:1' }}, jp: {{ bootstrap_servers: 'b:1' }} }}\n\
             flows: [{{ source: tw, target: jp{flow} }}, {{ source: jp, target: tw }}]\n{rest}"
        );
        let environment = Environment::from([("HOSTNAME".to_owned(), "a".to_owned())]);
        parse(&text, &environment).map_err(|why| why.to_string()).unwrap()
    }

    #[test]
    fn each_setting_is_known_to_follow_the_file_or_not_to() {
        let all = |key: &str| [format!("flows[0].{key}"), format!("flows[1].{key}")].join(" ");
        for (flow, rest, live, fixed) in [
            ("", "", String::new(), String::new()),
            (
                ", topics: { include: [a] }",
                "",
                "flows[0].topics".into(),
                String::new(),
            ),
            (
                ", topics: { refresh: 20s }",
                "",
                "flows[0].topics".into(),
                String::new(),
            ),
            (
                ", topics: { rename: { a: b } }",
                "",
                "flows[0].topics".into(),
                String::new(),
            ),
            (
                ", groups: { sync: false }",
                "",
                "flows[0].groups".into(),
                String::new(),
            ),
            (
                ", acls: { sync: true }",
                "",
                "flows[0].acls".into(),
                String::new(),
            ),
            (
                ", configs: { interval: 5s }",
                "",
                "flows[0].configs".into(),
                String::new(),
            ),
            (
                ", throttle: { bytes_per_second: 1MiB }",
                "",
                "flows[0].throttle".into(),
                String::new(),
            ),
            ("", "log: { level: debug }", "log.level".into(), String::new()),
            (
                ", delivery: at_least_once",
                "",
                String::new(),
                "flows[0].delivery".into(),
            ),
            (", name: other", "", String::new(), "flows".into()),
            (", memory: 8MiB", "", String::new(), "flows[0].memory".into()),
            (
                ", delivery: at_least_once, topics: { exclude: [a] }",
                "log: { format: text }",
                "flows[0].topics".into(),
                "flows[0].delivery log.format".into(),
            ),
            (
                "",
                "residency: [{ topics: [a], stay_in: [tw] }]",
                String::new(),
                "residency".into(),
            ),
            ("", "shutdown_grace: 5s", String::new(), "shutdown_grace".into()),
            ("", "http: { admin: true }", String::new(), "http.admin".into()),
            ("", "instance: b", String::new(), "instance".into()),
            ("", "defaults: { naming: prefix }", String::new(), all("naming")),
            (
                "",
                "defaults: { heartbeats: { enabled: false } }",
                String::new(),
                all("heartbeats"),
            ),
            (
                "",
                "defaults: { prefix_separator: _ }",
                String::new(),
                all("prefix_separator"),
            ),
        ] {
            let difference = Difference::between(&config("", ""), &config(flow, rest));
            let joined = |paths: BTreeSet<String>| paths.into_iter().collect::<Vec<_>>().join(" ");
            let found = (joined(difference.live), joined(difference.fixed));
            assert_eq!(found, (live, fixed), "{flow} {rest}");
        }
    }
}
