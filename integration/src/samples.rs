//! Metrics in Prometheus's text format, as what we test needs them: no label of ours has a comma or a quote in its value.

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'t> {
    /// The metric's name.
    pub name: &'t str,
    /// Its value.
    pub value: f64,
    labels: &'t str,
}

impl<'t> Sample<'t> {
    /// Whether it has all of these labels.
    #[must_use]
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.label(key) == Some(value))
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'t str> {
        let mut pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == key)?;
        Some(value.trim_matches('"'))
    }
}

/// All samples of a text.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.trim().rsplit_once(' ')?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}')?),
                None => (series, ""),
            };
            Some(Sample {
                name,
                value: value.parse().ok()?,
                labels,
            })
        })
}

#[cfg(test)]
mod tests {
    use super::samples;

    #[test]
    fn names_labels_and_values_are_read() {
        let text =
            "# HELP a_total x\na_total{flow=\"tw-jp\",topic=\"t\"} 2\na_total{flow=\"jp-tw\"} 3.5\nb 7\n";
        let all: Vec<_> = samples(text).collect();
        let values: Vec<_> = all.iter().map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(values, [("a_total", 2.0), ("a_total", 3.5), ("b", 7.0)]);
        assert!(all[0].has(&[("flow", "tw-jp"), ("topic", "t")]));
        assert!(!all[0].has(&[("flow", "w-jp")]) && !all[2].has(&[("flow", "tw-jp")]));
        assert_eq!(
            (all[1].label("flow"), all[1].label("topic")),
            (Some("jp-tw"), None)
        );
    }
}
