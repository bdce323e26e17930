//! Keys whose feature comes with a later version: known, checked, and refused where they ask for it.

use serde_json::Value;

use super::mistakes::{Mistakes, below, item};
use super::values::Size;

/// A key, the value that asks for nothing, and what to do instead of asking.
struct Later {
    path: &'static [&'static str],
    feature: &'static str,
    off: Off,
}

/// When a key asks for nothing.
enum Off {
    /// Only where it is absent.
    Absent,
    /// Where it is zero bytes.
    ZeroBytes,
}

const CLUSTER: &[Later] = &[
    Later {
        path: &["tls"],
        feature: "TLS",
        off: Off::Absent,
    },
    Later {
        path: &["sasl"],
        feature: "SASL",
        off: Off::Absent,
    },
];

const SETTINGS: &[Later] = &[Later {
    path: &["throttle", "bytes_per_second"],
    feature: "throttling",
    off: Off::ZeroBytes,
}];

/// Reports every key in the walked tree that asks for a feature of a later version.
pub(crate) fn refuse(root: &Value, mistakes: &mut Mistakes) {
    for (alias, cluster) in root
        .get("clusters")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        refuse_in(cluster, &below("clusters", alias), CLUSTER, mistakes);
    }
    if let Some(defaults) = root.get("defaults") {
        refuse_in(defaults, "defaults", SETTINGS, mistakes);
    }
    for (index, flow) in root
        .get("flows")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        refuse_in(flow, &item("flows", index), SETTINGS, mistakes);
    }
}

fn refuse_in(section: &Value, path: &str, later: &[Later], mistakes: &mut Mistakes) {
    for key in later {
        let value = key.path.iter().try_fold(section, |section, key| section.get(key));
        let (asks, right) = match (&key.off, value) {
            (_, None | Some(Value::Null)) => continue,
            (Off::Absent, Some(_)) => (true, "remove the key".to_owned()),
            (Off::ZeroBytes, Some(value)) => {
                let bytes = value.as_str().and_then(|text| text.parse::<Size>().ok());
                (bytes != Some(Size(0)), "remove the key or set it to 0".to_owned())
            }
        };
        if asks {
            let path = key
                .path
                .iter()
                .fold(path.to_owned(), |path, key| below(&path, key));
            mistakes.add(
                path,
                format!("{} is not available in this version; {right}", key.feature),
            );
        }
    }
}
