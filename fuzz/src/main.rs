//! The target that `KUROSHIO_FUZZ` names, under libFuzzer. Its seeds are written into `KUROSHIO_FUZZ_SEEDS` first.

#![no_main]

use std::sync::OnceLock;
use std::{env, fs, io};

use kuroshio_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fn prepare() -> io::Result<()> {
    let name = env::var("KUROSHIO_FUZZ").unwrap_or_default();
    let target = *kuroshio_fuzz::target(&name)
        .ok_or_else(|| io::Error::other(format!("KUROSHIO_FUZZ={name} is no target")))?;
    if let Some(folder) = env::var_os("KUROSHIO_FUZZ_SEEDS") {
        fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)()?.into_iter().enumerate() {
            fs::write(std::path::Path::new(&folder).join(format!("{number:03}")), seed)?;
        }
    }
    let _ = TARGET.set(target);
    Ok(())
}

fuzz_target!(
    init: {
        if let Err(why) = prepare() {
            use std::io::Write as _;
            let _ = writeln!(io::stderr(), "{why}");
            std::process::exit(2);
        }
    },
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(input);
        }
    }
);
