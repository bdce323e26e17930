//! Compiles `src/native/*.c` with the headers of the very librdkafka that is linked, and two of its own files mended.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A file of librdkafka that is compiled anew with one change. It takes the place of the original: the linker looks into
/// an archive only for what is not defined yet, and ours comes first. (If it did not, symbols would be defined twice,
/// which is an error.) Our own code refers to a function `kuroshio_mended_<name>` at its end, so that it is linked.
struct Mend {
    /// Its name without `.c`.
    name: &'static str,
    /// What must be there, once.
    before: &'static str,
    after: &'static str,
}

/// An idempotent producer sends nothing of a partition while `RD_KAFKA_IDEMP_MAX_INFLIGHT` (5) of its messages are in flight.
/// librdkafka counts messages there, not requests: as a rule it is one request. Behind it messages become older than `linger.ms`, which
/// asks for a wake-up at once, at which nothing may be sent: the broker's thread goes round and round until the response comes. A
/// target 70 ms away cost 0.9 of a core for 26,000 records per second. The response wakes the thread by itself; 10 ms is for what else
/// might end the wait.
const BUSY_WAIT: Mend = Mend {
    name: "rdkafka_broker",
    before: "                rd_kafka_set_next_wakeup(&ret_next_wakeup, this_next_wakeup);\n",
    after: "                if (rd_kafka_is_idempotent(rkb->rkb_rk) &&
                    rd_atomic32_get(&rktp->rktp_msgs_inflight) >= RD_KAFKA_IDEMP_MAX_INFLIGHT &&
                    this_next_wakeup < now + 10 * 1000)
                        this_next_wakeup = now + 10 * 1000;
                rd_kafka_set_next_wakeup(&ret_next_wakeup, this_next_wakeup);\n",
};

/// A transaction right after another is told CONCURRENT_TRANSACTIONS until the markers of the first are written, and librdkafka
/// asks again after 20 ms, whatever `retry.backoff.ms` says: with 24 partitions nearly every transaction paid them.
const CONCURRENT: Mend = Mend {
    name: "rdkafka_txnmgr",
    before: "                                retry_backoff_ms = 20;\n",
    after: "                                retry_backoff_ms = rk->rk_conf.retry_backoff_ms;\n",
};

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/native/headers.c");
    println!("cargo:rerun-if-changed=src/native/fetch.c");
    // Told by rdkafka-sys: where it built librdkafka, with its sources and its configuration.
    let root = env::var_os("DEP_RDKAFKA_ROOT")
        .ok_or("rdkafka-sys tells of no librdkafka that it built: its feature dynamic-linking will not do")?;
    let sources = Path::new(&root).join("src");
    cc::Build::new()
        .includes(libraries(Path::new(&root))?)
        .file("src/native/headers.c")
        .file("src/native/fetch.c")
        .file(mended(&sources, &BUSY_WAIT)?)
        .file(mended(&sources, &CONCURRENT)?)
        .include(&sources)
        .define("_GNU_SOURCE", None)
        .opt_level(2) // as librdkafka builds itself
        .warnings(false) // those of librdkafka's own sources are not ours to mend
        .compile("kuroshio_native");
    Ok(())
}

/// Where librdkafka found the headers of OpenSSL and others that cargo built.
fn libraries(root: &Path) -> Result<Vec<PathBuf>, String> {
    let file = root.join("Makefile.config");
    let text = fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    let flags = text.lines().filter_map(|line| line.strip_prefix("CFLAGS+="));
    let words = flags.flat_map(str::split_whitespace);
    Ok(words
        .filter_map(|word| word.strip_prefix("-I"))
        .map(PathBuf::from)
        .collect())
}

fn mended(sources: &Path, mend: &Mend) -> Result<PathBuf, String> {
    let Mend { name, before, after } = mend;
    let original = sources.join(format!("{name}.c"));
    let text = fs::read_to_string(&original).map_err(|why| format!("{}: {why}", original.display()))?;
    let found = text.matches(before).count();
    if found != 1 {
        return Err(format!(
            "{name}.c of this librdkafka has what is to be mended {found} times: see whether it still is to be"
        ));
    }
    let out = env::var_os("OUT_DIR").ok_or("no OUT_DIR")?;
    let file = Path::new(&out).join(format!("{name}.c"));
    let text = text.replace(before, after) + &format!("void kuroshio_mended_{name}(void) {{}}\n");
    fs::write(&file, text).map_err(|why| format!("{}: {why}", file.display()))?;
    Ok(file)
}
