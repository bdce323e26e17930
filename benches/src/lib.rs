//! Measurements of Kuroshio: `cargo bench -p kuroshio-benches`.
