//! Keys whose feature comes with a later version: known, checked, and refused where they ask for it.

use serde_json::Value;

use super::mistakes::{Mistakes, below, item};
use super::values::Size;

/// Reports every key in the walked tree that asks for a feature of a later version.
pub(crate) fn refuse(root: &Value, mistakes: &mut Mistakes) {
    if let Some(defaults) = root.get("defaults") {
        refuse_throttle(defaults, "defaults", mistakes);
    }
    let flows = root.get("flows").and_then(Value::as_array);
    for (index, flow) in flows.into_iter().flatten().enumerate() {
        refuse_throttle(flow, &item("flows", index), mistakes);
    }
}

/// Zero bytes ask for nothing.
fn refuse_throttle(section: &Value, path: &str, mistakes: &mut Mistakes) {
    let throttle = section
        .get("throttle")
        .and_then(|throttle| throttle.get("bytes_per_second"));
    let Some(value) = throttle.filter(|value| !value.is_null()) else {
        return;
    };
    let bytes = value.as_str().and_then(|text| text.parse::<Size>().ok());
    if bytes != Some(Size(0)) {
        let path = below(&below(path, "throttle"), "bytes_per_second");
        mistakes.add(
            path,
            "throttling is not available in this version; remove the key or set it to 0",
        );
    }
}
