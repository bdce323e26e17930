//! What differs between two configurations: what a process that runs can follow, and what waits for its next start.

use std::collections::BTreeSet;

use kuroshio_core::routes::RouteSettings;

use super::mistakes::{below, item};
use super::{Config, Flow};

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
        // Whoever adds a setting says here whether it follows the file. Routes that are left out follow from what is compared.
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
        let RouteSettings {
            source: _,
            target: _,
            aliases: _,
            include,
            exclude,
            naming,
            rename,
            relay: _,
            residency,
            heartbeats: _,
            mm2_heartbeats: _,
        } = router.settings();
        let routes = new.router.settings();
        let topics = (include, exclude, rename, refresh);
        let new_topics = (&routes.include, &routes.exclude, &routes.rename, &new.refresh);
        let topics_in_mm2s_formats =
            (mm2.heartbeats, mm2.checkpoints) == (new.mm2.heartbeats, new.mm2.checkpoints);
        for (live, key, same) in [
            (true, "topics", topics == new_topics),
            // Where it is not written, it follows from the topics.
            (true, "authority", *authority == new.authority),
            (true, "configs", *configs == new.configs),
            (true, "acls", *acls == new.acls),
            (true, "groups", *groups == new.groups),
            (true, "throttle", *throttle == new.throttle),
            (false, "source", *source == new.source),
            (false, "target", *target == new.target),
            (false, "naming", *naming == routes.naming),
            (false, "prefix_separator", mm2.separator == new.mm2.separator),
            (false, "forward", *forward == new.forward),
            (false, "delivery", *delivery == new.delivery),
            (false, "commit_interval", *commit_interval == new.commit_interval),
            (false, "start", *start == new.start),
            (false, "on_data_loss", *on_data_loss == new.on_data_loss),
            (false, "on_topic_delete", *on_topic_delete == new.on_topic_delete),
            (
                false,
                "replication_factor",
                *replication_factor == new.replication_factor,
            ),
            (false, "partitions", *partitions == new.partitions),
            (false, "compression", *compression == new.compression),
            (false, "pumps", *pumps == new.pumps),
            (false, "memory", *memory == new.memory),
            (false, "heartbeats", *heartbeats == new.heartbeats),
            (
                false,
                "positions_on_source",
                *positions_on_source == new.positions_on_source,
            ),
            (false, "mm2_compat", topics_in_mm2s_formats),
        ] {
            self.note(live, below(path, key), same);
        }
        self.note(false, "residency".to_owned(), *residency == routes.residency);
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
