//! A number that stands for the routing of a flow.

use std::collections::BTreeSet;

use super::{Naming, RouteSettings};

/// FNV-1a (64 bit) over the settings; every text goes in with its length, every list sorted.
pub(super) fn of(settings: &RouteSettings) -> u64 {
    let mut hash = Fingerprint(0xcbf2_9ce4_8422_2325);
    hash.text("kuroshio routes 1");
    hash.text(&settings.source);
    hash.text(&settings.target);
    hash.set(&settings.include);
    hash.set(&settings.exclude);
    match &settings.naming {
        Naming::Identity => hash.text("identity"),
        Naming::Prefix(separator) => {
            hash.text("prefix");
            hash.text(separator);
            hash.set(&settings.aliases);
        }
    }
    hash.number(settings.rename.len());
    for (topic, name) in &settings.rename {
        hash.text(topic);
        hash.text(name);
    }
    hash.number(usize::from(settings.relay));
    hash.number(usize::from(settings.heartbeats));
    if let Some(separator) = &settings.mm2_heartbeats {
        hash.text(separator);
        hash.set(&settings.aliases);
    }
    // Only rules that keep something from this target count.
    let rules = settings
        .residency
        .iter()
        .filter(|rule| !rule.stay_in.contains(&settings.target));
    let kept: Vec<String> = rules.flat_map(|rule| rule.topics.iter().cloned()).collect();
    hash.set(&kept);
    hash.0
}

struct Fingerprint(u64);

impl Fingerprint {
    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: usize) {
        self.bytes(&(number as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes(text.as_bytes());
    }

    fn set(&mut self, texts: &[String]) {
        let sorted: BTreeSet<&String> = texts.iter().collect();
        self.number(sorted.len());
        sorted.into_iter().for_each(|text| self.text(text));
    }
}
