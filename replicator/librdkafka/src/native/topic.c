/* How the batches of one topic are written, changed while they are: librdkafka takes a topic's settings once, when its first handle is
 * made, and knows no limit of batches for one topic. */
#include "rdkafka_int.h"
#include "rdkafka_topic.h"

/* Broker threads read these, without a lock, for each batch that they write. The limit lies where consumers by callback have a number
 * of theirs, which producers do not use: `rdkafka_msgset_writer.c` is mended to look there (`build.rs`). */
void kuroshio_form_batches(rd_kafka_topic_t *app_rkt, int32_t codec, int32_t level, int32_t limit) {
        rd_kafka_topic_conf_t *conf = &rd_kafka_topic_proper(app_rkt)->rkt_conf;
        __atomic_store_n(&conf->compression_codec, (rd_kafka_compression_t)codec, __ATOMIC_RELAXED);
        __atomic_store_n(&conf->compression_level, level, __ATOMIC_RELAXED);
        __atomic_store_n(&conf->consume_callback_max_msgs, limit, __ATOMIC_RELAXED);
}
