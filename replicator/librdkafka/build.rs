//! Compiles `src/native/*.c` with the headers of the very librdkafka that is linked, and seven of its own files mended.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A file of librdkafka that is compiled anew with changes. It takes the place of the original: the linker looks into
/// an archive only for what is not defined yet, and ours comes first. (If it did not, symbols would be defined twice,
/// which is an error.) Our own code refers to a function `kuroshio_mended_<name>` at its end, so that it is linked.
struct Mend {
    /// Its name without `.c`.
    name: &'static str,
    /// What must be there, once, and what it becomes.
    changes: &'static [(&'static str, &'static str)],
}

/// An idempotent producer sends nothing of a partition while `RD_KAFKA_IDEMP_MAX_INFLIGHT` (5) of its messages are in flight.
/// librdkafka counts messages there, not requests: as a rule it is one request. Behind it messages become older than `linger.ms`, which
/// asks for a wake-up at once, at which nothing may be sent: the broker's thread goes round and round until the response comes. A
/// target 70 ms away cost 0.9 of a core for 26,000 records per second. The response wakes the thread by itself; 10 ms is for what else
/// might end the wait.
const BUSY_WAIT: Mend = Mend {
    name: "rdkafka_broker",
    changes: &[(
        "                rd_kafka_set_next_wakeup(&ret_next_wakeup, this_next_wakeup);\n",
        "                if (rd_kafka_is_idempotent(rkb->rkb_rk) &&
                    rd_atomic32_get(&rktp->rktp_msgs_inflight) >= RD_KAFKA_IDEMP_MAX_INFLIGHT &&
                    this_next_wakeup < now + 10 * 1000)
                        this_next_wakeup = now + 10 * 1000;
                rd_kafka_set_next_wakeup(&ret_next_wakeup, this_next_wakeup);\n",
    )],
};

/// A transaction right after another is told CONCURRENT_TRANSACTIONS until the markers of the first are written, and librdkafka
/// asks again after 20 ms, whatever `retry.backoff.ms` says: with 24 partitions nearly every transaction paid them.
///
/// A position of a topic that was deleted is sent again and again until the coordinator ends the transaction for its age and fences us:
/// 10 s for all partitions of a pump. The group's coordinator knew the topic when the lane's start was committed; when it knows it no
/// more, the transaction is aborted.
const TRANSACTIONS: Mend = Mend {
    name: "rdkafka_txnmgr",
    changes: &[
        (
            "                                retry_backoff_ms = 20;\n",
            "                                retry_backoff_ms = rk->rk_conf.retry_backoff_ms;\n",
        ),
        (
            "        case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
                actions |= RD_KAFKA_ERR_ACTION_RETRY;
                break;

        case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:\n",
            "        case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
                actions |= RD_KAFKA_ERR_ACTION_RETRY;
                break;

        case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
                actions |= RD_KAFKA_ERR_ACTION_PERMANENT;
                break;

        case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
        case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:\n",
        ),
    ],
};

/// librdkafka drops brokers that metadata do not name, and begins with `bootstrap.servers` again when the last connection fails.
/// A broker that ends (KRaft) names none at all. It goes like this: the connection fails, and a timer is set for the beginning
/// anew; the broker's last answer, which came before, is taken; as after every answer the timer is stopped; the broker is dropped. "In
/// progress" stays set, so that no timer is ever set again, and there is nobody to connect to: the client is silent for ever.
const NOBODY_LEFT: Mend = Mend {
    name: "rdkafka",
    changes: &[
        (
            "        return rd_kafka_timer_stop(&rk->rk_timers, &rk->rebootstrap_tmr,
                                   rd_true /* lock */);\n",
            "        if (!rd_kafka_timer_stop(&rk->rk_timers, &rk->rebootstrap_tmr,
                                 rd_true /* lock */))
                return 0;
        rd_atomic32_set(&rk->rk_rebootstrap_in_progress, 0);
        return 1;\n",
        ),
        // Once a second. The broker was dropped, and its failure does not count twice: what would set the timer is over.
        (
            "        /* Sparse connections:
         * try to maintain at least one connection to the cluster. */\n",
            "        if (rd_atomic32_get(&rk->rk_broker_cnt) ==
            rd_atomic32_get(&rk->rk_logical_broker_cnt))
                rd_kafka_rebootstrap(rk);\n",
        ),
    ],
};

/// A topic that was deleted and created anew is read on at the old offset, as if nothing had happened: its first records would be
/// lost. (librdkafka: "FIXME: an offset reset must be triggered".) Requests name topics by id (Kafka 3.1 and later), so that nothing of
/// the new one is read before its id is known here; at that moment the partition ends with an error. Leader epochs begin anew, too.
const RECREATED: Mend = Mend {
    name: "rdkafka_topic",
    changes: &[(
        "                        rkt->rkt_topic_id = mdit->topic_id;\n",
        "                        for (j = 0; !RD_KAFKA_UUID_IS_ZERO(rkt->rkt_topic_id) &&
                                    j < rkt->rkt_partition_cnt;
                             j++) {
                                rd_kafka_toppar_t *old =
                                    rd_kafka_toppar_get(rkt, j, 0);
                                if (!old)
                                        continue;
                                rd_kafka_toppar_lock(old);
                                old->rktp_leader_epoch = -1;
                                if (old->rktp_fetch_state ==
                                        RD_KAFKA_TOPPAR_FETCH_ACTIVE ||
                                    old->rktp_fetch_state ==
                                        RD_KAFKA_TOPPAR_FETCH_VALIDATE_EPOCH_WAIT)
                                        rd_kafka_consumer_err(
                                            old->rktp_fetchq,
                                            RD_KAFKA_NODEID_UA,
                                            RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID,
                                            rd_atomic32_get(&old->rktp_version),
                                            NULL, old, RD_KAFKA_OFFSET_INVALID,
                                            \"the topic was created anew\");
                                rd_kafka_toppar_unlock(old);
                                rd_kafka_toppar_destroy(old);
                        }
                        rkt->rkt_topic_id = mdit->topic_id;\n",
    )],
};

/// librdkafka fills batches up to `batch.size` and `message.max.bytes`, whatever the topic takes: a topic with a smaller `max.message.bytes`
/// refused batches of records each of which it would have taken. The topic's own limit is what `topic.c` puts there.
const LARGE_BATCH: Mend = Mend {
    name: "rdkafka_msgset_writer",
    changes: &[(
        "                   (size_t)msetw->msetw_rkb->rkb_rk->rk_conf.batch_size);\n",
        "                   (size_t)msetw->msetw_rkb->rkb_rk->rk_conf.batch_size);
        size_t topic_size =
            (size_t)rktp->rktp_rkt->rkt_conf.consume_callback_max_msgs;
        if (topic_size > 0 && topic_size < max_msg_size)
                max_msg_size = topic_size;\n",
    )],
};

/// A batch in gzip or lz4 is unpacked however large it becomes: a megabyte that anybody may write into a topic became a
/// gigabyte, and the pod that read it was killed, again and again. As with zstd, what becomes larger than the largest response
/// is not unpacked; its partition ends with an error.
const GZIP_BOMB: Mend = Mend {
    name: "rdgz",
    changes: &[(
        "                        if (pass == 2) {
                                /* Advance output pointer (in pass 2). */\n",
        "                        /* `receive.message.max.bytes`, where memory does not ask for more */
                        if (pass == 1 && strm.total_out > 101 << 20) {
                                inflateEnd(&strm);
                                goto fail;
                        }

                        if (pass == 2) {
                                /* Advance output pointer (in pass 2). */\n",
    )],
};

/// See [`GZIP_BOMB`].
const LZ4_BOMB: Mend = Mend {
    name: "rdkafka_lz4",
    changes: &[
        (
            "        /* Allocate output buffer, we increase this later if needed,
         * but hopefully not. */\n",
            "        if (estimated_uncompressed_size >
            (size_t)rkb->rkb_rk->rk_conf.recv_max_msg_size) {
                err = RD_KAFKA_RESP_ERR__BAD_COMPRESSION;
                goto done;
        }

        /* Allocate output buffer, we increase this later if needed,
         * but hopefully not. */\n",
        ),
        (
            "                        size_t extra = RD_MAX(outlen * 3 / 4, 1024);\n",
            "                        size_t extra = RD_MAX(outlen * 3 / 4, 1024);

                        if (outlen >=
                            (size_t)rkb->rkb_rk->rk_conf.recv_max_msg_size) {
                                err = RD_KAFKA_RESP_ERR__BAD_COMPRESSION;
                                goto done;
                        }
                        extra = RD_MIN(
                            extra,
                            (size_t)rkb->rkb_rk->rk_conf.recv_max_msg_size -
                                outlen);\n",
        ),
    ],
};

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/native/headers.c");
    println!("cargo:rerun-if-changed=src/native/fetch.c");
    println!("cargo:rerun-if-changed=src/native/topic.c");
    // Told by rdkafka-sys: where it built librdkafka, with its sources and its configuration.
    let root = env::var_os("DEP_RDKAFKA_ROOT")
        .ok_or("rdkafka-sys tells of no librdkafka that it built: its feature dynamic-linking will not do")?;
    let sources = Path::new(&root).join("src");
    cc::Build::new()
        .includes(libraries(Path::new(&root))?)
        .file("src/native/headers.c")
        .file("src/native/fetch.c")
        .file("src/native/topic.c")
        .file(mended(&sources, &BUSY_WAIT)?)
        .file(mended(&sources, &TRANSACTIONS)?)
        .file(mended(&sources, &NOBODY_LEFT)?)
        .file(mended(&sources, &RECREATED)?)
        .file(mended(&sources, &LARGE_BATCH)?)
        .file(mended(&sources, &GZIP_BOMB)?)
        .file(mended(&sources, &LZ4_BOMB)?)
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
    let Mend { name, changes } = mend;
    let original = sources.join(format!("{name}.c"));
    let mut text = fs::read_to_string(&original).map_err(|why| format!("{}: {why}", original.display()))?;
    for (before, after) in *changes {
        let found = text.matches(before).count();
        if found != 1 {
            return Err(format!(
                "{name}.c of this librdkafka has what is to be mended {found} times: see whether it still is to be"
            ));
        }
        text = text.replace(before, after);
    }
    text.push_str(&format!("void kuroshio_mended_{name}(void) {{}}\n"));
    let out = env::var_os("OUT_DIR").ok_or("no OUT_DIR")?;
    let file = Path::new(&out).join(format!("{name}.c"));
    fs::write(&file, text).map_err(|why| format!("{}: {why}", file.display()))?;
    Ok(file)
}
