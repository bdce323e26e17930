/* Where a consumed record's headers lie, not unpacked. librdkafka has them in its message and tells of them only in
 * a list with a copy of each; half of what an active-active flow reads is skipped by its tag alone. */
#include "rdkafka_int.h"
#include "rdkafka_msg.h"

void kuroshio_headers(const rd_kafka_message_t *message, const void **start, size_t *length) {
        const rd_kafkap_bytes_t *headers = &((const rd_kafka_msg_t *)message)->rkm_u.consumer.binhdrs;
        *start = headers->data;
        *length = RD_KAFKAP_BYTES_LEN(headers);
}
