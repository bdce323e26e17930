//! Compiles `src/native/*.c` with the headers of the very librdkafka that is linked.

use std::path::Path;

fn main() -> Result<(), &'static str> {
    println!("cargo:rerun-if-changed=src/native/headers.c");
    println!("cargo:rerun-if-changed=src/native/fetch.c");
    // Told by rdkafka-sys: where it built librdkafka, with its sources and its configuration.
    let root = std::env::var_os("DEP_RDKAFKA_ROOT")
        .ok_or("rdkafka-sys tells of no librdkafka that it built: its feature dynamic-linking will not do")?;
    cc::Build::new()
        .file("src/native/headers.c")
        .file("src/native/fetch.c")
        .include(Path::new(&root).join("src"))
        .warnings(false) // those of librdkafka's own headers are not ours to mend
        .compile("kuroshio_native");
    Ok(())
}
