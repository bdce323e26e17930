//! The Helm chart.

use anyhow::Result;
use kuroshio_integration::binary;

use crate::observed::tool;

#[test]
fn the_chart_renders_what_kubernetes_and_kuroshio_take_and_refuses_mistakes() -> Result<()> {
    let binary = binary()?.canonicalize()?.display().to_string();
    println!("{}", tool("helm/tests/chart.sh", &[&binary], None)?);
    Ok(())
}
