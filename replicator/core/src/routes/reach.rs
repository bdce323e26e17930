//! Which topics may be copied, as far as the settings tell without knowing which there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex_syntax::hir::literal::Extractor;

use super::names::{LONGEST, MM2_HEARTBEATS};
use super::{HEARTBEATS, Naming, Router};

/// The names that a full-match expression can match: as they are, or with `*` at the end for all that begin so. Never too few.
#[must_use]
pub fn names_of(pattern: &str) -> BTreeSet<Arc<str>> {
    let mut extractor = Extractor::new();
    extractor.limit_literal_len(LONGEST);
    let found = regex_syntax::parse(pattern).ok();
    let found = found.map(|parsed| extractor.extract(&parsed));
    let Some(literals) = found.as_ref().and_then(|found| found.literals()) else {
        return ["*".into()].into();
    };
    let name = |literal: &regex_syntax::hir::literal::Literal| {
        let bytes = literal.as_bytes();
        match (std::str::from_utf8(bytes), literal.is_exact()) {
            (Ok(name), true) => name.into(),
            (Ok(start), false) => format!("{start}*").into(),
            // Cut within a character.
            (Err(cut), _) => {
                let start = String::from_utf8_lossy(&bytes[..cut.valid_up_to()]);
                format!("{start}*").into()
            }
        }
    };
    literals.iter().map(name).collect()
}

impl Router {
    /// Source name → target name of all topics that may be copied: as they are, or with `*` at the end for all that begin so. What is
    /// excluded or must stay is left out where it has a name of its own only.
    #[must_use]
    pub fn reach(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let included = self.include.iter().flat_map(|pattern| names_of(&pattern.text));
        let (open, named): (Vec<_>, Vec<_>) = included.partition(|name| name.ends_with('*'));
        let own = [HEARTBEATS, MM2_HEARTBEATS].map(Arc::from);
        let renamed = self.settings.rename.keys().map(|topic| topic.as_str().into());
        let named = named.into_iter().chain(renamed).chain(own);
        let named = named.filter_map(|topic| Some((Arc::clone(&topic), self.route(&topic).ok()?)));
        let prefix = self.prefix().unwrap_or_default();
        let open = open.into_iter().map(|start| {
            let target = format!("{prefix}{start}").into();
            (start, target)
        });
        named.chain(open).collect()
    }

    /// Whether this flow surely copies back, under its old name, every topic that `other` copies.
    #[must_use]
    pub fn mirrors(&self, other: &Self) -> bool {
        let keeps_names =
            |router: &Self| router.settings.naming == Naming::Identity && router.settings.rename.is_empty();
        let all_of = |some: &[String], all: &[String]| some.iter().all(|pattern| all.contains(pattern));
        keeps_names(self)
            && keeps_names(other)
            && all_of(&other.settings.include, &self.settings.include)
            && all_of(&self.settings.exclude, &other.settings.exclude)
            && self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routes::{Residency, RouteSettings};

    #[test]
    fn expressions_tell_how_names_begin() {
        for (pattern, names) in [
            ("orders", "orders"),
            ("a[.]b", "a.b"),
            ("orders|bills", "bills orders"),
            ("(orders|bills)[.]v[12]", "bills.v1 bills.v2 orders.v1 orders.v2"),
            ("orders[.].*", "orders.*"),
            ("orders.*|bills", "bills orders*"),
            ("(tw|jp)-.+", "jp-* tw-*"),
            ("^orders$", "orders"),
            (".*", "*"),
            (".*orders", "*"),
            ("[a-z]+", "*"),
            ("orders?", "order orders"),
            ("(?i)ab", "AB Ab aB ab"),
            ("caf\u{e9}[.].*", "caf\u{e9}.*"),
            ("", ""),
            ("[", "*"),
        ] {
            let found = names_of(pattern).into_iter().collect::<Vec<_>>().join(" ");
            assert_eq!(found, names, "{pattern}");
        }
    }

    fn settings() -> RouteSettings {
        RouteSettings {
            source: "tw".into(),
            target: "jp".into(),
            aliases: vec!["tw".into(), "jp".into()],
            include: vec!["orders|bills|old".into(), "pii[.].*".into(), "pii[.]x".into()],
            exclude: vec!["old".into()],
            naming: Naming::Identity,
            rename: [("bills".into(), "accounts".into()), ("else".into(), "e".into())].into(),
            relay: false,
            residency: Vec::new(),
            heartbeats: true,
            mm2_heartbeats: None,
        }
    }

    fn reach(settings: RouteSettings) -> Vec<String> {
        let reach = Router::new(settings).unwrap().reach();
        reach.iter().map(|(from, to)| format!("{from}→{to}")).collect()
    }

    #[test]
    fn the_reach_is_what_is_selected_under_the_names_of_the_target() {
        let hb = "kuroshio.heartbeats→kuroshio.heartbeats";
        assert_eq!(
            reach(settings()),
            [
                "bills→accounts",
                hb,
                "orders→orders",
                "pii.*→pii.*",
                "pii.x→pii.x"
            ]
        );
        let prefixed = RouteSettings {
            naming: Naming::Prefix(".".into()),
            heartbeats: false,
            mm2_heartbeats: Some(".".into()),
            include: vec![".*".into()],
            ..settings()
        };
        assert_eq!(
            reach(prefixed),
            ["*→tw.*", "bills→accounts", "else→e", "heartbeats→tw.heartbeats"]
        );
        let stays = RouteSettings {
            residency: vec![Residency {
                topics: vec!["orders".into()],
                stay_in: vec!["tw".into()],
            }],
            ..settings()
        };
        assert!(!reach(stays).iter().any(|route| route.starts_with("orders")));
    }

    #[test]
    fn a_flow_mirrors_another_where_nothing_can_be_left_out() {
        let plain = || RouteSettings {
            rename: BTreeMap::new(),
            ..settings()
        };
        let back = |change: fn(&mut RouteSettings)| {
            let mut back = RouteSettings {
                source: "jp".into(),
                target: "tw".into(),
                ..plain()
            };
            change(&mut back);
            let ours = Router::new(plain()).unwrap();
            Router::new(back).unwrap().mirrors(&ours)
        };
        assert!(back(|_| {}));
        assert!(back(|back| back.include.push("more".into())));
        assert!(back(|back| back.exclude.clear()));
        assert!(!back(|back| back.exclude.push("orders".into())));
        assert!(!back(|back| back.include.truncate(1)));
        assert!(!back(|back| back.naming = Naming::Prefix(".".into())));
        assert!(!back(|back| back.rename = [("a".into(), "b".into())].into()));
        assert!(!back(|back| {
            back.residency = vec![Residency {
                topics: vec!["pii.*".into()],
                stay_in: vec!["jp".into()],
            }];
        }));
    }

    proptest! {
        #[test]
        fn no_name_is_left_out(pattern in r"[ab.|*+?()\[\]]{0,12}", name in "[ab]{0,6}") {
            let matches = regex::Regex::new(&pattern)
                .and_then(|_| regex::Regex::new(&format!("^(?:{pattern})$")))
                .is_ok_and(|full| full.is_match(&name));
            let names = names_of(&pattern);
            let covered = names.iter().any(|found| match found.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => **found == *name,
            });
            prop_assert!(covered || !matches, "{pattern} {name} {names:?}");
        }
    }
}
