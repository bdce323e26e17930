/* How much was received, and how much may be asked for at once: librdkafka has a fixed `fetch.max.bytes`, but what a
 * response becomes when it is unpacked is known only once records come. */
#include "rdkafka_int.h"
#include "rdkafka_broker.h"
#include "rdkafka_queue.h"

/* Bytes received from each broker, the first `room` of them; returns how many. `up`: brokers connected. */
int32_t kuroshio_received(rd_kafka_t *rk, int32_t *ids, int64_t *bytes, int32_t room, int32_t *up) {
        rd_kafka_broker_t *rkb;
        int32_t count = 0;
        rd_kafka_rdlock(rk);
        TAILQ_FOREACH(rkb, &rk->rk_brokers, rkb_link) {
                if (count == room)
                        break;
                ids[count]     = rkb->rkb_nodeid;
                bytes[count++] = rd_atomic64_get(&rkb->rkb_c.rx_bytes);
        }
        rd_kafka_rdunlock(rk);
        *up = rd_atomic32_get(&rk->rk_broker_up_cnt);
        return count;
}

/* How often the threads of all brokers went round; for tests. */
int64_t kuroshio_wakeups(rd_kafka_t *rk) {
        rd_kafka_broker_t *rkb;
        int64_t wakeups = 0;
        rd_kafka_rdlock(rk);
        TAILQ_FOREACH(rkb, &rk->rk_brokers, rkb_link)
                wakeups += rd_atomic64_get(&rkb->rkb_c.wakeups);
        rd_kafka_rdunlock(rk);
        return wakeups;
}

void kuroshio_queued(rd_kafka_queue_t *queue, uint64_t *count, uint64_t *bytes) {
        *count = (uint64_t)rd_kafka_q_len(queue->rkqu_q);
        *bytes = rd_kafka_q_size(queue->rkqu_q);
}

/* Broker threads read it, without a lock, for each request that they make. */
void kuroshio_limit_fetches(rd_kafka_t *rk, int32_t bytes) {
        __atomic_store_n(&rk->rk_conf.fetch_max_bytes, bytes, __ATOMIC_RELAXED);
}
